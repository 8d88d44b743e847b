"""Latencies: who used how much of the budget."""

from typing import Annotated

from fastapi import APIRouter, Query

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.latencies import Latency, latencies
from irisdrs.archive.catalogue.selection import MAX_PAGE


def router(catalogue: Catalogue) -> APIRouter:
    """Route ``/api/latencies``."""
    routes = APIRouter(prefix="/api/latencies", tags=["latencies"])

    @routes.get("", summary="Seconds from the last photon to each product, newest exposures first")
    def newest(
        observation: Annotated[str | None, Query(description="Observation id, such as 2034B-007-123")] = None,
        limit: Annotated[int, Query(description="Most exposures of a detector", ge=1, le=MAX_PAGE)] = 20,
    ) -> list[Latency]:
        with catalogue.read() as session:
            return latencies(session, observation, limit)

    return routes
