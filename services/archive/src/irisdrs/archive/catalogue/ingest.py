"""One event, one transaction: artifact, product, provenance, header, and what is current now."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.arrival import Arrival
from irisdrs.archive.catalogue.current import settle
from irisdrs.archive.catalogue.tables import Artifact, ArtifactStatus, Header, Product, Provenance
from irisdrs.shared.errors import CorruptObject


def record(session: Session, arrival: Arrival, verified_at: datetime) -> int:
    """Catalogue a verified object. The same arrival again changes nothing but the time of verification.

    Parameters
    ----------
    session : Session
        An open writing transaction.
    arrival : Arrival
    verified_at : datetime
        When its bytes were verified (UTC).

    Returns
    -------
    int
        Row number of the product.

    Raises
    ------
    CorruptObject
        If the same version of the same product is catalogued under another key.
    """
    ref = arrival.object
    known = session.scalar(select(Artifact).where(Artifact.key == ref.key, Artifact.sha256 == ref.sha256))
    if known is not None:
        known.status = ArtifactStatus.VERIFIED
        known.last_verified_at = verified_at
        return session.scalars(select(Product.id).where(Product.artifact_id == known.id)).one()
    _refuse_second_key(session, arrival)
    artifact = Artifact(
        key=ref.key,
        sha256=ref.sha256,
        size=ref.size,
        media_type=ref.media_type,
        role="read" if arrival.level == 0 else "science",
        status=ArtifactStatus.VERIFIED,
        last_verified_at=verified_at,
    )
    session.add(artifact)
    session.flush()
    product = _product(arrival, artifact.id)
    product.stored_at = verified_at
    session.add(product)
    session.add(Header(artifact_id=artifact.id, hdus=list(arrival.description.hdus)))
    session.flush()
    session.add_all(
        Provenance(product_row=product.id, role=i.role, input_sha256=i.sha256, input_product_id=i.product_id)
        for i in sorted(set(arrival.inputs), key=lambda i: (i.role, i.sha256))
    )
    session.flush()
    settle(session, [product.product_id])
    return product.id


def _refuse_second_key(session: Session, arrival: Arrival) -> None:
    other = session.scalar(
        select(Artifact.key)
        .join(Product, Product.artifact_id == Artifact.id)
        .where(Product.product_id == arrival.product_id, Product.version == arrival.version)
    )
    if other is not None:
        raise CorruptObject(
            f"{arrival.product_id}, version {arrival.version[:16]}, is announced as {arrival.object.key} "
            f"but catalogued as {other}.",
            remedy="One of the two announcements is wrong: compare the two objects.",
        )


def _product(arrival: Arrival, artifact_id: int) -> Product:
    exposure, circle = arrival.exposure, arrival.description.circle
    product = Product(
        artifact_id=artifact_id,
        product_id=arrival.product_id,
        version=arrival.version,
        inputs_hash=arrival.inputs_hash,
        level=arrival.level,
        kind=arrival.kind,
        observation=exposure.observation,
        program=exposure.program,
        exposure_type=exposure.type,
        exposure=exposure.number,
        detector=exposure.detector,
        night=arrival.night,
        mode=arrival.description.mode,
        filter=arrival.description.filter,
        photons_end=arrival.photons_end,
        reads_used=arrival.reads_used,
        reads_expected=arrival.reads_expected,
        crds_context=arrival.crds_context,
        software_version=arrival.software_version,
        quality=dict(arrival.quality),
        announced_at=arrival.announced_at,
        spent=arrival.spent or None,
        conflicted=False,
        current=False,
    )
    if circle is not None:
        product.ra_deg, product.dec_deg, product.radius_deg = circle.ra_deg, circle.dec_deg, circle.radius_deg
        product.healpix = circle.healpix
        product.unit_x, product.unit_y, product.unit_z = circle.unit
        product.radius_sin, product.radius_cos = circle.half_radius
    return product
