"""What is missing: the store against the catalogue. A question: nothing is told, nothing changes."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.reconciliation.ledger import Ledger
from irisdrs.archive.reconciliation.survey import MOST, Report, Scope, survey
from irisdrs.shared.identifiers import OBSERVATION_PATTERN
from irisdrs.shared.service import Held
from irisdrs.shared.store.port import Store

#: Longest wait before what is missing is looked at again, seconds: an answer must come before the asker gives up.
LONGEST_CONFIRM_S = 60.0


def router(catalogue: Catalogue, store: Store, held: Held) -> APIRouter:
    """Routes under ``/api/reconciliation``."""
    routes = APIRouter(prefix="/api/reconciliation", tags=["reconciliation"])

    @routes.get("", summary="What was missed (with the events that announce it), orphans, conflicts")
    async def reconciliation(
        observation: Annotated[
            str | None, Query(description="Observation id, such as 2034B-007-123", pattern=OBSERVATION_PATTERN)
        ] = None,
        night: Annotated[date | None, Query(description="Night, as UT date")] = None,
        everything: Annotated[
            bool, Query(alias="all", description="All observations, not only those that are recent or have not ended")
        ] = False,
        confirm_s: Annotated[
            float, Query(description="Look again at what is missing after so long, seconds", ge=0, le=LONGEST_CONFIRM_S)
        ] = 0.0,
        limit: Annotated[int, Query(description="Most findings of each kind", ge=1, le=MOST)] = 1000,
    ) -> Report:
        scope = Scope(observation=observation, night=night, everything=everything)
        return await survey(Ledger(store, catalogue), held, scope, confirm_s=confirm_s, limit=limit)

    return routes
