"""From a typed filter to rows."""

from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session, aliased, joinedload

from irisdrs.archive.catalogue.columns import UtcDateTime
from irisdrs.archive.catalogue.selection import Cone, Cursor, ProductFilter, ProductPage, ProductRow
from irisdrs.archive.catalogue.tables import Product
from irisdrs.archive.footprint import Circle, cell_ranges

#: Widening of the selection by cells, degrees: far above the rounding of double precision, so that no cell is lost
#: that the exact test would keep.
_MARGIN_DEG = 1e-9


def find(session: Session, wanted: ProductFilter, *, limit: int, cursor: Cursor | None = None) -> ProductPage:
    """One page of the products that a filter selects, in the order of photons_end, product_id, version."""
    conditions = _conditions(session, wanted)
    total = session.scalar(select(func.count()).select_from(Product).where(*conditions)) or 0
    order = (Product.photons_end, Product.product_id, Product.version)
    query = select(Product).where(*conditions).order_by(*order).limit(limit + 1)
    if cursor is not None:
        after = tuple_(literal(cursor.photons_end, UtcDateTime), literal(cursor.product_id), literal(cursor.version))
        query = query.where(tuple_(*order) > after)
    products = _load(session, query)
    rows = [row_of(product) for product in products[:limit]]
    more = len(products) > limit and bool(rows)
    return ProductPage(total=total, products=rows, next_cursor=_cursor_after(rows[-1]) if more else None)


def latest(session: Session, limit: int) -> list[ProductRow]:
    """The newest current products (not reads), newest first."""
    query = (
        select(Product)
        .where(Product.current, Product.level > 0)
        .order_by(Product.photons_end.desc(), Product.product_id)
        .limit(limit)
    )
    return [row_of(product) for product in _load(session, query)]


def version_of(session: Session, product_id: str, version: str | None = None) -> Product | None:
    """One version of a product: the current one, or the one whose job hash begins with `version`.

    Raises
    ------
    ValueError
        If several versions begin so.
    """
    query = select(Product).where(Product.product_id == product_id)
    query = query.where(Product.current) if version is None else query.where(Product.version.startswith(version))
    products = _load(session, query.limit(2))
    if len(products) > 1:
        raise ValueError(f"several versions of {product_id} begin with {version!r}: give more digits")
    return products[0] if products else None


def row_of(product: Product) -> ProductRow:
    """A product and its artifact as one row."""
    values: dict[str, Any] = {name: getattr(product, name) for name in _PRODUCT_FIELDS}
    artifact = product.artifact
    return ProductRow(
        **values,
        night=product.night.isoformat(),
        key=artifact.key,
        sha256=artifact.sha256,
        size=artifact.size,
        status=artifact.status,
    )


_PRODUCT_FIELDS = tuple(
    name for name in ProductRow.model_fields if name not in ("night", "key", "sha256", "size", "status")
)


def _load(session: Session, query: Select[Product]) -> list[Product]:
    return list(session.scalars(query.options(joinedload(Product.artifact, innerjoin=True))))


def _cursor_after(row: ProductRow) -> str:
    return Cursor(photons_end=row.photons_end, product_id=row.product_id, version=row.version).encode()


def _conditions(session: Session, wanted: ProductFilter) -> list[ColumnElement[bool]]:
    columns = {
        Product.observation: wanted.observation,
        Product.exposure: wanted.exposure,
        Product.exposure_type: wanted.exposure_type,
        Product.detector: wanted.detector,
        Product.level: wanted.level,
        Product.kind: wanted.kind,
    }
    conditions: list[ColumnElement[bool]] = [column == value for column, value in columns.items() if value is not None]
    if wanted.since is not None:
        conditions.append(Product.photons_end >= wanted.since)
    if wanted.until is not None:
        conditions.append(Product.photons_end < wanted.until)
    if not wanted.all_versions:
        conditions.append(Product.current.is_(True))
    if wanted.cone is not None:
        conditions += _overlaps(session, wanted.cone)
    return conditions


def _overlaps(session: Session, cone: Cone) -> list[ColumnElement[bool]]:
    """Circle-circle overlap: separation of the centres at most the sum of the radii, tested on squared chords."""
    circle = Circle(cone.ra_deg, cone.dec_deg, cone.radius_deg)
    x, y, z = circle.unit
    sine, cosine = circle.half_radius
    # chord of the summed radii: 2 sin((R + r) / 2) = 2 (sin(R/2) cos(r/2) + cos(R/2) sin(r/2))
    reach = 2 * (sine * Product.radius_cos + cosine * Product.radius_sin)
    dx, dy, dz = Product.unit_x - x, Product.unit_y - y, Product.unit_z - z
    exact = dx * dx + dy * dy + dz * dz <= reach * reach
    largest = session.scalar(select(func.max(Product.radius_deg)))
    if largest is None:
        return [exact]
    ranges = cell_ranges(cone.ra_deg % 360.0, cone.dec_deg, cone.radius_deg + largest + _MARGIN_DEG)
    if ranges is None:
        return [exact]
    # As a sub-select of its own: in one condition SQLite would rather walk all rows in the order of the answer.
    near = aliased(Product)
    cells = select(near.id).where(or_(*(near.healpix.between(first, last) for first, last in ranges)))
    return [Product.id.in_(cells), exact]
