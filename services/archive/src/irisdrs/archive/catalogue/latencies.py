"""Where the time went: from the last photon of an exposure to its raw frame, its image and its row."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy import func, select, tuple_
from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.tables import Product
from irisdrs.shared.budget import budget_s
from irisdrs.shared.events import spent

#: What names an exposure of a detector in a row.
_EXPOSURE = (Product.observation, Product.exposure_type, Product.exposure, Product.detector)


class Latency(BaseModel):
    """One exposure of one detector; times are None for what is not there, or was recorded before they were kept."""

    observation: str
    exposure_type: str
    exposure: int
    detector: str
    photons_end: datetime = Field(description="When the last photon was collected (UTC)")
    raw_s: float | None = Field(description="From the last photon to the telling of the raw frame, seconds")
    reduced_s: float | None = Field(description="From the last photon to the telling of the reduced frame, seconds")
    stored_s: float | None = Field(description="From the last photon to the catalogue's row of the last one, seconds")
    spent_s: dict[str, float] = Field(description="Seconds that each service worked on it, by its own clock")
    waiting_s: float | None = Field(description="The rest of stored_s: exposing, sending, waiting, seconds")
    budget_s: float = Field(description="Most that reduced_s should be, seconds")
    budget_fraction: float | None = Field(description="reduced_s as a fraction of the budget")
    clock_skew: bool = Field(description="Whether a time is negative: clocks differ, the times mean nothing")


def latencies(session: Session, observation: str | None = None, limit: int = 20) -> list[Latency]:
    """Latencies of the newest exposures, the newest first.

    Parameters
    ----------
    session : Session
    observation : str, optional
        Only exposures of this observation.
    limit : int
        Most exposures; each detector counts as one.
    """
    made = (Product.level.in_((1, 2)), Product.current)
    newest = select(*_EXPOSURE).where(*made).group_by(*_EXPOSURE).order_by(func.max(Product.photons_end).desc())
    if observation is not None:
        newest = newest.where(Product.observation == observation)
    names = [tuple(row) for row in session.execute(newest.order_by(*_EXPOSURE).limit(limit))]
    rows = session.scalars(select(Product).where(*made, tuple_(*_EXPOSURE).in_(names)).order_by(Product.level))
    by_exposure: dict[tuple[object, ...], list[Product]] = {name: [] for name in names}
    for row in rows:
        by_exposure[row.observation, row.exposure_type, row.exposure, row.detector].append(row)
    return [_latency(products) for products in by_exposure.values()]


def _latency(products: Sequence[Product]) -> Latency:
    """Latency of an exposure from its current products, the lower level first."""
    last = products[-1]
    told = {product.level: _since(product, product.announced_at) for product in products}
    stored_s = _since(last, last.stored_at)
    spent_s = spent.parse(last.spent or "")
    budget = budget_s(last.kind)
    reduced_s = told.get(2)
    skewed = any(seconds is not None and seconds < 0 for seconds in (*told.values(), stored_s))
    known = stored_s is not None and bool(spent_s) and not skewed
    return Latency(
        observation=last.observation,
        exposure_type=last.exposure_type,
        exposure=last.exposure,
        detector=last.detector,
        photons_end=last.photons_end,
        raw_s=told.get(1),
        reduced_s=reduced_s,
        stored_s=stored_s,
        spent_s=spent_s,
        waiting_s=round(stored_s - sum(spent_s.values()), 3) if known and stored_s is not None else None,
        budget_s=budget,
        budget_fraction=None if reduced_s is None or skewed else round(reduced_s / budget, 4),
        clock_skew=skewed,
    )


def _since(product: Product, instant: datetime | None) -> float | None:
    """Seconds from the last photon of a product to an instant."""
    return None if instant is None else round((instant - product.photons_end).total_seconds(), 3)
