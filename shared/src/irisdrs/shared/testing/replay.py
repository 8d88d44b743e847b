"""Replay: the store is the ledger, so the events of the edge can be told again from it.

Whoever missed a message, or a whole process that died, is healed by telling again what the edge once said: handlers
find what is done already and announce it again, and make what is missing.
"""

import json
from collections.abc import AsyncIterator

from irisdrs.shared.events.event import Event
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    ObservationStarted,
    ReadFailed,
    ReadWritten,
)
from irisdrs.shared.events.metadata import from_metadata
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import exposure_prefix
from irisdrs.shared.store.port import Store


async def replay(store: Store, plan: ObservationPlan) -> AsyncIterator[Event]:
    """Everything that the edge has said of an observation, in order."""
    yield ObservationStarted(plan=plan)
    for exposure in plan.exposure_ids():
        async for event in _replay_exposure(store, plan, exposure):
            yield event


async def _replay_exposure(store: Store, plan: ObservationPlan, exposure: ExposureId) -> AsyncIterator[Event]:
    prefix = exposure_prefix(plan.night, exposure)
    keys = await store.keys(prefix)
    if f"{prefix}started.json" in keys:
        yield ExposureStarted.at_rest(json.loads(await _read(store, f"{prefix}started.json")))
    for key in keys:
        if key.endswith(".fits"):
            stored = await store.head(key)
            if stored is not None:
                yield from_metadata(ReadWritten, stored)
        elif "failed-" in key:
            yield ReadFailed.at_rest(json.loads(await _read(store, key)))
    if f"{prefix}aborted.json" in keys:
        yield ExposureAborted.at_rest(json.loads(await _read(store, f"{prefix}aborted.json")))
    if f"{prefix}ended.json" in keys:
        yield ExposureEnded.at_rest(json.loads(await _read(store, f"{prefix}ended.json")))


async def _read(store: Store, key: str) -> bytes:
    stored = await store.head(key)
    return b"" if stored is None else await store.get(stored.ref)
