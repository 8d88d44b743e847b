"""One event, one transaction: artifact, product, provenance, header, and what is current now."""

from datetime import datetime

from sqlalchemy import and_, delete, exists, or_, select
from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.arrival import Arrival
from irisdrs.archive.catalogue.current import settle
from irisdrs.archive.catalogue.tables import Artifact, ArtifactStatus, Header, Product, Provenance
from irisdrs.shared.errors import CorruptObject


def record(session: Session, arrival: Arrival, verified_at: datetime) -> int:
    """Catalogue a verified object. The same arrival again changes nothing but the time of verification.

    Whatever rows of it have gone are written again.

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
    product = session.scalar(
        select(Product).where(Product.product_id == arrival.product_id, Product.version == arrival.version)
    )
    artifact = _artifact(session, arrival, product, verified_at)
    changed = product is None
    if product is None:
        product = _product(arrival, artifact.id)
        product.stored_at = verified_at
        session.add(product)
        session.flush()
        _forget_leftovers(session, arrival, product.id)
    if session.scalar(select(Header.artifact_id).where(Header.artifact_id == artifact.id)) is None:
        session.add(Header(artifact_id=artifact.id, hdus=list(arrival.description.hdus)))
    changed |= _add_inputs(session, arrival, product.id)
    session.flush()
    if changed:
        settle(session, [product.product_id])
    return product.id


def _artifact(session: Session, arrival: Arrival, product: Product | None, verified_at: datetime) -> Artifact:
    """The row of the object; made if it is not there, under the number by which its product knows it."""
    ref = arrival.object
    known = session.scalar(select(Artifact).where(Artifact.key == ref.key, Artifact.sha256 == ref.sha256))
    if product is not None and (known is None or known.id != product.artifact_id):
        _refuse_second_key(session, arrival, product)
    if known is not None:
        known.status, known.last_verified_at = ArtifactStatus.VERIFIED, verified_at
        if product is not None:
            product.artifact_id = known.id
        return known
    artifact = Artifact(
        key=ref.key,
        sha256=ref.sha256,
        size=ref.size,
        media_type=ref.media_type,
        role="read" if arrival.level == 0 else "science",
        status=ArtifactStatus.VERIFIED,
        last_verified_at=verified_at,
    )
    if product is not None:
        artifact.id = product.artifact_id
    session.add(artifact)
    session.flush()
    if product is None:
        # SQLite gives out the number of a row that has gone again: what still has that number lost its own object.
        lost = select(Product.id).where(Product.artifact_id == artifact.id)
        session.execute(delete(Header).where(Header.artifact_id == artifact.id))
        session.execute(delete(Provenance).where(Provenance.product_row.in_(lost)))
        session.execute(delete(Product).where(Product.artifact_id == artifact.id))
    return artifact


def _refuse_second_key(session: Session, arrival: Arrival, product: Product) -> None:
    """Refuse a version that another object has; a version whose row of the object has gone gets it again."""
    other = session.get(Artifact, product.artifact_id)
    if other is not None:
        raise CorruptObject(
            f"{arrival.product_id}, version {arrival.version[:16]}, is announced as {arrival.object.key} "
            f"but catalogued as {other.key}.",
            remedy="One of the two announcements is wrong: compare the two objects.",
        )


def _forget_leftovers(session: Session, arrival: Arrival, row: int) -> None:
    """Remove inputs that have the number of a new product's row, and those that its lost row has left."""
    lost = and_(
        Provenance.input_sha256.in_([one.sha256 for one in arrival.inputs]),
        ~exists().where(Product.id == Provenance.product_row),
    )
    session.execute(delete(Provenance).where(or_(Provenance.product_row == row, lost)))


def _add_inputs(session: Session, arrival: Arrival, row: int) -> bool:
    """Add the inputs of a product that are not there; whether there were any."""
    rows = session.execute(select(Provenance.role, Provenance.input_sha256).where(Provenance.product_row == row))
    known = {(role, sha256) for role, sha256 in rows}
    missing = [one for one in set(arrival.inputs) if (one.role, one.sha256) not in known]
    session.add_all(
        Provenance(product_row=row, role=one.role, input_sha256=one.sha256, input_product_id=one.product_id)
        for one in sorted(missing, key=lambda one: (one.role, one.sha256))
    )
    return bool(missing)


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
        sampling_mode=arrival.description.sampling_mode,
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
