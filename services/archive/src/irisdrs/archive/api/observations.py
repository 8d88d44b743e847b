"""Observations: what was planned and how far it is."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import func, select

from irisdrs.archive.api.problems import Problem
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.selection import MAX_PAGE
from irisdrs.archive.catalogue.tables import Exposure, Observation, Product


class ObservationRow(BaseModel):
    """An observation."""

    observation: str
    program: str
    night: str = Field(description="Night, as UT date")
    mode: str
    filter: str
    ra_deg: float = Field(description="Target right ascension, ICRS, degrees")
    dec_deg: float = Field(description="Target declination, ICRS, degrees")
    state: str = Field(description="started or ended")


class ExposureRow(BaseModel):
    """One exposure of one detector."""

    exposure: int
    exposure_type: str
    detector: str
    state: str = Field(description="planned, started, ended or aborted")


class ObservationDetail(ObservationRow):
    """An observation with its plan, its exposures and what the archive has of it."""

    plan: dict[str, object]
    exposures: list[ExposureRow]
    current_products: dict[int, int] = Field(description="Current products by level; level 0 are reads")


def router(catalogue: Catalogue) -> APIRouter:
    """Routes under ``/api/observations``."""
    routes = APIRouter(prefix="/api/observations", tags=["observations"])

    @routes.get("", summary="Observations, newest night first")
    def observations(
        limit: Annotated[int, Query(description="Most rows", ge=1, le=MAX_PAGE)] = 100,
        offset: Annotated[int, Query(description="Rows to leave out", ge=0, le=10**9)] = 0,
    ) -> list[ObservationRow]:
        query = select(Observation).order_by(Observation.night.desc(), Observation.observation)
        with catalogue.read() as session:
            return [ObservationRow(**_facts(one)) for one in session.scalars(query.limit(limit).offset(offset))]

    @routes.get("/{observation}", summary="One observation: plan, exposures, products")
    def observation(observation: str) -> ObservationDetail:
        with catalogue.read() as session:
            found = session.get(Observation, observation)
            if found is None:
                raise Problem(
                    HTTPStatus.NOT_FOUND,
                    f"The observation {observation!r} is not in the catalogue.",
                    "List what there is with /api/observations.",
                )
            exposures = session.scalars(
                select(Exposure)
                .where(Exposure.observation == observation)
                .order_by(Exposure.exposure, Exposure.exposure_type, Exposure.detector)
            )
            counts = session.execute(
                select(Product.level, func.count())
                .where(Product.observation == observation, Product.current)
                .group_by(Product.level)
            )
            return ObservationDetail(
                **_facts(found),
                plan=found.plan,
                exposures=[ExposureRow.model_validate(one, from_attributes=True) for one in exposures],
                current_products={row[0]: row[1] for row in counts},
            )

    return routes


def _facts(row: Observation) -> dict[str, object]:
    return {name: getattr(row, name) for name in ObservationRow.model_fields} | {"night": row.night.isoformat()}
