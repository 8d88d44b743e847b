"""The edge between detector and system: checks, compresses, spools; facts and reads are put before they are told."""

import asyncio
import hashlib
import math
from collections.abc import Coroutine, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.data.fits import encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.edge.drain import LONGEST_WAIT_S, Drain, Tell
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal, WrongShape
from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    ObservationEnded,
    ObservationStarted,
    ReadFailed,
    ReadWritten,
)
from irisdrs.shared.events.metadata import to_metadata
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import fact_key, observation_ended_key, observation_key, read_key
from irisdrs.shared.store.port import JSON, ObjectRef, Store

_T = TypeVar("_T")

#: Longest reason in an event, characters.
_REASON = 1000


class Edge:
    """Stores and announces what the detectors of one observation do.

    Every method returns when what it was given is safe in the spool; inside of ``async with`` a task puts and tells it,
    in order. What an earlier process left in the spool goes first.

    Parameters
    ----------
    plan : ObservationPlan
    store : Store
    tell : Tell
    spool : Spool
        Closed with the edge.
    longest_wait_s : float
        Longest wait between two tries while store or bus are away, seconds.
    """

    def __init__(
        self, plan: ObservationPlan, store: Store, tell: Tell, spool: Spool, longest_wait_s: float = LONGEST_WAIT_S
    ) -> None:
        self.plan, self.spool = plan, spool
        self.drain = Drain(spool, store, tell, longest_wait_s)
        self._exposures = frozenset(plan.exposure_ids())
        self._draining: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._draining = asyncio.create_task(self.drain.run(), name="edge drain")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._draining is not None:
            self._draining.cancel()
            await asyncio.wait({self._draining})
        self.spool.close()
        if self._draining is not None and not self._draining.cancelled() and error is None:
            self._draining.result()  # nobody has met what killed it

    async def drained(self) -> None:
        """Wait until everything is put and told."""
        await self.meanwhile(self.spool.emptied())

    async def meanwhile(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for something while the spool is drained; if the drain dies, raise what killed it."""
        if self._draining is None:
            work.close()
            raise RuntimeError("an edge works inside of `async with`")
        task = asyncio.create_task(work)
        try:
            await asyncio.wait({task, self._draining}, return_when=asyncio.FIRST_COMPLETED)
            if self._draining.done():
                await self._draining
            return await task
        finally:
            task.cancel()
            await asyncio.wait({task})  # what is being written is written to its end

    async def start_observation(self) -> None:
        """The observation starts."""
        key = observation_key(self.plan.night, self.plan.observation)
        data = self.plan.model_dump_json().encode()
        await self._append(ObservationStarted(plan=self.plan), _ref(key, data, JSON), data)

    async def end_observation(self) -> None:
        """The observation has ended."""
        event = ObservationEnded(plan=self.plan)
        data = event.model_dump_json().encode()
        key = observation_ended_key(self.plan.night, self.plan.observation)
        await self._append(event, _ref(key, data, JSON), data)

    async def start_exposure(self, exposure: ExposureId, due_at: datetime) -> None:
        """A detector starts an exposure, which must have ended at `due_at`."""
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

    async def abort_exposure(self, exposure: ExposureId, reason: str) -> None:
        """A detector has given up an exposure; no frame is made of it."""
        event = ExposureAborted(**self._identity(exposure), reason=reason[:_REASON])
        await self._state(exposure, "aborted", event)

    async def read_failed(self, exposure: ExposureId, ramp: int, read: int, reason: str) -> None:
        """A read will not come: the exposure need not wait for it."""
        event = ReadFailed(**self._identity(exposure), ramp=ramp, read=read, reason=reason[:_REASON])
        await self._state(exposure, f"failed-{ramp:04d}-{read:05d}", event)

    async def write_read(self, pixels: NDArray[np.uint16], header: ReadHeader) -> ReadWritten:
        """Check a read, compress it, spool it.

        Parameters
        ----------
        pixels : uint16 (rows, columns)
            DN.
        header : ReadHeader

        Raises
        ------
        WrongShape
            If pixels or header are not of the shape that the plan says.
        Fatal
            If the header is not that of a read of the plan. Where it is known which read failed, that is told, so
            that its exposure does not wait for it.
        """
        try:
            if pixels.dtype != np.uint16 or pixels.shape != self.plan.sampling.shape:
                raise WrongShape(
                    f"{header.read_id} is {pixels.dtype} {pixels.shape}, planned is uint16 {self.plan.sampling.shape}.",
                    remedy="Is the detector read out as the plan says?",
                )
            self.check(header)
        except Fatal as problem:
            if self.expects(header):
                await self.read_failed(header.exposure_id, header.ramp, header.read, str(problem))
            raise
        data = await asyncio.to_thread(encode_read, pixels, header)
        event = await asyncio.to_thread(self.announcement, data, header)
        await self.write_packed(event, data)
        return event

    async def write_packed(self, event: ReadWritten, data: bytes) -> None:
        """Spool a read that was checked and compressed, and its announcement."""
        await self._append(event, event.object, data, to_metadata(event.model_dump(mode="json")))

    def announcement(self, data: bytes, header: ReadHeader) -> ReadWritten:
        """The event that announces a compressed read: its key says its SHA-256."""
        sha256 = hashlib.sha256(data).hexdigest()
        key = read_key(header.night, header.exposure_id, header.ramp, header.read, sha256)
        return ReadWritten(
            **self._identity(header.exposure_id),
            photons_end=header.ended_at,
            ramp=header.ramp,
            read=header.read,
            read_time_s=header.read_time_s,
            sampling=self.plan.sampling,
            object=ObjectRef(key=key, sha256=sha256, size=len(data)),
        )

    def expects(self, header: ReadHeader) -> bool:
        """Whether the plan has such a read, whatever else its header says."""
        sampling = self.plan.sampling
        planned = header.exposure_id in self._exposures and header.night == self.plan.night
        return planned and header.ramp <= sampling.ramps and header.read <= sampling.reads

    def check(self, header: ReadHeader) -> None:
        """Compare a read's header with the plan.

        Raises
        ------
        WrongShape
            If it is of another shape.
        Fatal
            If it is no read of the plan, or was taken otherwise than planned.
        """
        plan, sampling = self.plan, self.plan.sampling
        if not self.expects(header):
            raise Fatal(
                f"{header.read_id} of {header.night} is no read of the plan of {plan.observation} on {plan.night}.",
                remedy="Was it sent to the edge of another observation?",
            )
        if header.shape != sampling.shape:
            raise WrongShape(f"{header.read_id} has the shape {header.shape}, planned is {sampling.shape}.")
        planned: dict[str, object] = {
            "mode": plan.mode,
            "filter": plan.filter,
            "scale_arcsec": plan.scale_arcsec,
            "grating": plan.grating,
            "sampling_mode": sampling.mode,
            "group_reads": sampling.group_reads,
            "reads": sampling.reads,
            "ramps": sampling.ramps,
            "read_interval_s": sampling.read_time_s,
        }
        wrong = [
            f"{name} is {getattr(header, name)}, planned is {value}"
            for name, value in planned.items()
            if not _equal(getattr(header, name), value)
        ]
        if wrong:
            raise Fatal(f"{header.read_id} was not taken as planned: {'; '.join(wrong)}.")

    async def _state(self, exposure: ExposureId, fact: str, event: ExposureEvent) -> None:
        data = event.model_dump_json().encode()
        await self._append(event, _ref(fact_key(self.plan.night, exposure, fact), data, JSON), data)

    async def _append(
        self, event: Event, ref: ObjectRef | None = None, data: bytes = b"", metadata: Mapping[str, str] | None = None
    ) -> None:
        await self.meanwhile(self.spool.append(event, ref, data, metadata))

    def _identity(self, exposure: ExposureId) -> dict[str, object]:
        return {
            "observation": exposure.observation,
            "exposure_type": exposure.type,
            "exposure": exposure.number,
            "detector": exposure.detector,
            "night": self.plan.night,
        }


def _ref(key: str, data: bytes, media_type: str) -> ObjectRef:
    return ObjectRef(key=key, sha256=hashlib.sha256(data).hexdigest(), size=len(data), media_type=media_type)


def _equal(found: object, planned: object) -> bool:
    """Equal; numbers to what a FITS card keeps of them."""
    if isinstance(found, float) and isinstance(planned, float):
        return math.isclose(found, planned, rel_tol=1e-9)
    return found == planned
