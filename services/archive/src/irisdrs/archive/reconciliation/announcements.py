"""Events once more: from an object's metadata, or from the fact that the edge has put beside the reads."""

import json
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from irisdrs.archive.reconciliation.findings import Wanted
from irisdrs.shared.errors import CorruptObject, IrisError
from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ReadWritten,
)
from irisdrs.shared.events.jobs import ExposureDue
from irisdrs.shared.events.metadata import from_metadata
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.port import Store

Fact = TypeVar("Fact", bound=Event)


async def announcement(store: Store, plan: ObservationPlan, wanted: Wanted) -> Event | None:
    """The event that was missed; None if there is nothing to announce, or it is not due.

    Raises
    ------
    CorruptObject
        If the object is none of which the event can be rebuilt.
    """
    if wanted.kind in (ObservationStarted, ObservationEnded):
        return wanted.kind.model_validate({"plan": plan})
    if wanted.kind is ExposureDue:
        return await _due(store, plan, wanted)
    stored = await store.head(wanted.key)
    if stored is None:
        return None
    if wanted.kind in (ReadWritten, FrameReady, FrameReduced):
        event: Event = from_metadata(wanted.kind, stored)
    else:
        event = _fact(wanted.kind, wanted.key, await store.get(stored.ref))
    if isinstance(event, ExposureEvent) and event.exposure_id != wanted.exposure:
        raise CorruptObject(f"{wanted.key} announces {event.exposure_id}.", remedy="Restore the right object.")
    return event


async def plan_at(store: Store, key: str) -> ObservationPlan:
    """The plan under a key.

    Raises
    ------
    CorruptObject
        If it is none, or is gone.
    """
    stored = await store.head(key)
    if stored is None:
        raise CorruptObject(f"{key} was listed and is gone.", remedy="Does somebody delete objects from the store?")
    try:
        return ObservationPlan.model_validate_json(await store.get(stored.ref), extra="ignore")
    except ValidationError as error:
        raise CorruptObject(f"{key} is no plan of an observation: {error.error_count()} fields do not fit.") from error


async def _due(store: Store, plan: ObservationPlan, wanted: Wanted) -> ExposureDue | None:
    now = datetime.now(UTC)
    due_at = now
    if not wanted.at_once:
        stored = await store.head(wanted.key)
        if stored is None:
            return None
        started = _fact(ExposureStarted, wanted.key, await store.get(stored.ref))
        if started.due_at > now:
            return None
        due_at = started.due_at
    exposure = wanted.exposure
    if exposure is None:
        raise IrisError(f"The deadline of {wanted.key} is that of no exposure.")
    return ExposureDue(
        observation=exposure.observation,
        exposure_type=exposure.type,
        exposure=exposure.number,
        detector=exposure.detector,
        night=plan.night,
        due_at=due_at,
        sampling=plan.sampling,
    )


def _fact(kind: type[Fact], key: str, data: bytes) -> Fact:
    try:
        return kind.at_rest(json.loads(data))
    except (ValidationError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptObject(f"{key} is no {kind.__name__} of this version or the one before.") from error
