"""Which version of a product is current: computed from all that is catalogued, never remembered.

The greatest (reads used, job hash) among the versions that no conflict touches. A read with two different contents is
in conflict, and so is every product that is made of it. Conflicts only ever spread, so that the result does not
depend on the order of arrival.
"""

from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, and_, distinct, func, select
from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.tables import Artifact, Product, Provenance


def settle(session: Session, product_ids: Iterable[str]) -> None:
    """Recompute conflicts and `current` of some products, and of all that are made of them."""
    pending = set(product_ids)
    while pending:
        product_id = pending.pop()
        versions = session.scalars(select(Product).where(Product.product_id == product_id)).all()
        for version in versions:
            if not version.conflicted and _in_conflict(session, version, versions):
                version.conflicted = True
                session.flush()
                pending |= _made_of(session, version)
        eligible = [version for version in versions if not version.conflicted]
        winner = max(eligible, key=rank, default=None)
        for version in versions:
            version.current = version is winner
    session.flush()


def rank(version: Product) -> tuple[int, str]:
    """Order of a product's versions: more reads first, then the job hash, which is arbitrary but the same for all."""
    return version.reads_used, version.version


def _in_conflict(session: Session, version: Product, versions: Sequence[Product]) -> bool:
    if version.level == 0:
        return len(versions) > 1
    inputs = (
        select(Product.conflicted)
        .join(Artifact, Product.artifact_id == Artifact.id)
        .join(Provenance, Provenance.input_sha256 == Artifact.sha256)
        .where(Provenance.product_row == version.id)
    )
    known = session.scalars(inputs).all()
    if any(known):
        return True
    return version.level == 1 and not known and _used_a_conflicting_read(session, version)


def _used_a_conflicting_read(session: Session, frame: Product) -> bool:
    """Whether a raw frame that does not list its reads used more of them than there are without conflict."""
    conflicting = session.scalar(
        select(func.count(distinct(Product.product_id))).where(
            _same_exposure(frame), Product.level == 0, Product.conflicted
        )
    )
    return bool(conflicting) and frame.reads_used > frame.reads_expected - int(conflicting or 0)


def _made_of(session: Session, version: Product) -> set[str]:
    by_content = (
        select(Product.product_id)
        .join(Provenance, Provenance.product_row == Product.id)
        .join(Artifact, Artifact.sha256 == Provenance.input_sha256)
        .where(Artifact.id == version.artifact_id)
    )
    found = set(session.scalars(by_content))
    if version.level == 0:
        found |= set(session.scalars(select(Product.product_id).where(_same_exposure(version), Product.level == 1)))
    return found


def _same_exposure(product: Product) -> ColumnElement[bool]:
    return and_(
        Product.observation == product.observation,
        Product.exposure == product.exposure,
        Product.detector == product.detector,
        Product.exposure_type == product.exposure_type,
    )
