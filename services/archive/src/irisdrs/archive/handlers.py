"""One event in, `ProductStored` out: fetch, verify, describe, one transaction."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from sqlalchemy.orm import Session

from irisdrs.archive.arrivals import of_raw_frame, of_read, of_reduced_frame, product_of
from irisdrs.archive.catalogue.arrival import Arrival, Description
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.ingest import record
from irisdrs.archive.catalogue.observations import State, record_exposure, record_plan
from irisdrs.archive.catalogue.tables import Product
from irisdrs.archive.description import describe
from irisdrs.shared.crash_points import reach
from irisdrs.shared.events.envelope import CAUSE
from irisdrs.shared.events.event import Event, ExposedEvent, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ProductStored,
    ReadWritten,
)
from irisdrs.shared.service import Handlers
from irisdrs.shared.store.port import ObjectRef, Store

_log = structlog.get_logger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Ingest:
    """The handlers of the archive.

    Attributes
    ----------
    store : Store
    catalogue : Catalogue
    writer : Executor
        The one thread that writes to the catalogue: writers of one process need not wait for each other's lock.
    threads : Executor
        For reading headers.
    """

    store: Store
    catalogue: Catalogue
    writer: Executor
    threads: Executor

    def handlers(self) -> Handlers:
        """Handlers by the type of event."""
        return {
            ObservationStarted: self.on_observation_started,
            ObservationEnded: self.on_observation_ended,
            ExposureStarted: self.on_exposure_started,
            ExposureEnded: self.on_exposure_ended,
            ExposureAborted: self.on_exposure_aborted,
            ReadWritten: self.on_read_written,
            FrameReady: self.on_frame_ready,
            FrameReduced: self.on_frame_reduced,
        }

    async def on_observation_started(self, event: ObservationStarted) -> Sequence[Event]:
        """Note the plan of an observation."""
        await self._write(lambda session: record_plan(session, event.plan, State.STARTED))
        return []

    async def on_observation_ended(self, event: ObservationEnded) -> Sequence[Event]:
        """Note the end of an observation."""
        await self._write(lambda session: record_plan(session, event.plan, State.ENDED))
        return []

    async def on_exposure_started(self, event: ExposureStarted) -> Sequence[Event]:
        """Note that a detector exposes."""
        return await self._exposure(event, State.STARTED)

    async def on_exposure_ended(self, event: ExposureEnded) -> Sequence[Event]:
        """Note that a detector has exposed."""
        return await self._exposure(event, State.ENDED)

    async def on_exposure_aborted(self, event: ExposureAborted) -> Sequence[Event]:
        """Note that no frame will come of an exposure."""
        return await self._exposure(event, State.ABORTED)

    async def on_read_written(self, event: ReadWritten) -> Sequence[Event]:
        """Catalogue a read."""
        return await self._store(of_read(event, await self._verify(event, event.object)))

    async def on_frame_ready(self, event: FrameReady) -> Sequence[Event]:
        """Catalogue a raw science frame."""
        product_of(event, event.product_id, level=1)
        return await self._store(of_raw_frame(event, await self._verify(event, event.object)))

    async def on_frame_reduced(self, event: FrameReduced) -> Sequence[Event]:
        """Catalogue a reduced frame."""
        product_of(event, event.product_id, level=event.level)
        return await self._store(of_reduced_frame(event, await self._verify(event, event.object)))

    async def _exposure(self, event: ExposureEvent, state: State) -> Sequence[Event]:
        await self._write(lambda session: record_exposure(session, event.exposure_id, state))
        return []

    async def _verify(self, event: ExposedEvent, ref: ObjectRef) -> Description:
        """Compare size and SHA-256 with what was announced, then read the headers."""
        loop = asyncio.get_running_loop()
        async with self.store.local(ref) as path:
            return await loop.run_in_executor(self.threads, describe, path, event.exposure_id)

    async def _store(self, arrival: Arrival) -> Sequence[Event]:
        verified_at = datetime.now(UTC)
        if (cause := CAUSE.get()) is not None:
            arrival = replace(arrival, announced_at=cause.envelope.time, spent=cause.spent_by("archive"))

        def change(session: Session) -> tuple[int, bool]:
            row = record(session, arrival, verified_at)
            return row, session.get_one(Product, row).conflicted

        row, conflicted = await self._write(change)
        if conflicted:
            _log.error(
                "conflict: a read has two different contents, neither it nor what is made of it is current",
                product_id=arrival.product_id,
                key=arrival.object.key,
            )
        return [ProductStored(product_id=arrival.product_id, object=arrival.object, catalogue_id=row)]

    async def _write(self, change: Callable[[Session], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self.writer, self._commit, change)

    def _commit(self, change: Callable[[Session], Result]) -> Result:
        with self.catalogue.write() as session:
            result = change(session)
            reach("archive.commit.before")
        reach("archive.commit.after")
        return result
