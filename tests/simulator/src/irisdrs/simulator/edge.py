"""The edge between detector and system: facts and reads are in the store before they are told."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.data.fits import encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureEnded,
    ExposureStarted,
    ObservationEnded,
    ObservationStarted,
    ReadWritten,
)
from irisdrs.shared.events.metadata import to_metadata
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import fact_key, observation_key, read_key
from irisdrs.shared.store.port import JSON, ObjectRef, Store

#: Publishes events, in order, and returns when they are confirmed.
Tell = Callable[[Sequence[Event]], Awaitable[None]]


class Edge:
    """Stores and announces what the detectors of one observation do.

    Parameters
    ----------
    plan : ObservationPlan
    store : Store
    tell : Tell
    """

    def __init__(self, plan: ObservationPlan, store: Store, tell: Tell) -> None:
        self.plan, self._store, self._tell = plan, store, tell

    async def start_observation(self) -> None:
        """The observation starts."""
        key = observation_key(self.plan.night, self.plan.observation)
        await self._store.put(key, self.plan.model_dump_json().encode(), media_type=JSON)
        await self._tell([ObservationStarted(plan=self.plan)])

    async def end_observation(self) -> None:
        """The observation has ended."""
        await self._tell([ObservationEnded(plan=self.plan)])

    async def start_exposure(self, exposure: ExposureId, due_at: datetime) -> None:
        """A detector starts an exposure."""
        event = ExposureStarted(
            **self._identity(exposure),
            sampling=self.plan.sampling,
            due_at=due_at,
            crds_context=self.plan.crds_context,
        )
        await self._state(exposure, "started", event)

    async def end_exposure(self, exposure: ExposureId) -> None:
        """A detector has ended an exposure."""
        await self._state(exposure, "ended", ExposureEnded(**self._identity(exposure), sampling=self.plan.sampling))

    async def write_read(self, pixels: NDArray[np.uint16], header: ReadHeader) -> ReadWritten:
        """Compress a read, put it, tell it."""
        data = await asyncio.to_thread(encode_read, pixels, header)
        sha256 = hashlib.sha256(data).hexdigest()
        key = read_key(header.night, header.exposure_id, header.ramp, header.read, sha256)
        event = ReadWritten(
            **self._identity(header.exposure_id),
            photons_end=header.ended_at,
            ramp=header.ramp,
            read=header.read,
            read_time_s=header.read_time_s,
            sampling=self.plan.sampling,
            object=ObjectRef(key=key, sha256=sha256, size=len(data)),
        )
        await self._store.put(key, data, metadata=to_metadata(event.model_dump(mode="json")))
        await self._tell([event])
        return event

    async def _state(self, exposure: ExposureId, fact: str, event: ExposureEvent) -> None:
        key = fact_key(self.plan.night, exposure, fact)
        await self._store.put(key, event.model_dump_json().encode(), media_type=JSON)
        await self._tell([event])

    def _identity(self, exposure: ExposureId) -> dict[str, object]:
        return {
            "observation": exposure.observation,
            "exposure_type": exposure.type,
            "exposure": exposure.number,
            "detector": exposure.detector,
            "night": self.plan.night,
        }
