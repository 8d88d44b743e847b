"""Between the handlers and the pixels: what is looked up, fetched, computed in threads, and stored."""

import asyncio
import contextlib
import json
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import TypeVar

import structlog

from irisdrs.readout import constants, frame
from irisdrs.readout.backend import Backend
from irisdrs.readout.calibration import KERNELS_TYPE, REFERENCE_TYPES, Calibration
from irisdrs.readout.estimation import EXACT_READS, Estimation, estimation_of
from irisdrs.readout.exposure import Exposure
from irisdrs.readout.membership import Slot
from irisdrs.readout.preview import PNG, picture
from irisdrs.readout.ring import Room
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.shared.crash_points import reach
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, Fatal, IrisError, MissingReference, Outage, Retryable, WrongShape
from irisdrs.shared.events.facts import ExposureStarted, FrameReady
from irisdrs.shared.events.metadata import from_metadata, to_metadata
from irisdrs.shared.events.telemetry import PreviewUpdated
from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.identity import inputs_hash
from irisdrs.shared.observation import ObservationPlan, Sampling
from irisdrs.shared.references import Reference, References
from irisdrs.shared.store.keys import (
    exposure_prefix,
    fact_key,
    observation_key,
    preview_key,
    product_key,
    version_prefix,
)
from irisdrs.shared.store.port import Store

#: Calibrations that are kept in memory: one for each detector. At 4096 x 4096 each takes 0.57 GB, and 2 s to load.
CALIBRATIONS = len(Detector)

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")
_READ = re.compile(r"(\d{4})/(\d{5})-[0-9a-f]{16}\.fits")
_FAILED = re.compile(r"failed-(\d{4})-(\d{5})\.json")


class Workshop:
    """What the handlers of all detectors of a process work with.

    Parameters
    ----------
    store, references, threads
        Of the host.
    backend : Backend
    room : Room
        Where reads wait for their fit.
    exact_reads, grow_saturation
        Of `estimation_of`.
    reference_algorithm : ReferenceAlgorithm
        SIRS for whole frames of more than one read; what CRDS has no kernels for then waits for them.
    """

    def __init__(
        self,
        store: Store,
        references: References,
        threads: Executor,
        backend: Backend,
        room: Room,
        exact_reads: int = EXACT_READS,
        grow_saturation: bool = False,
        reference_algorithm: ReferenceAlgorithm = ReferenceAlgorithm.MEAN,
    ) -> None:
        self._reference_algorithm = reference_algorithm
        self._store, self._references, self._threads = store, references, threads
        self._backend, self._room = backend, room
        self._exact_reads, self._grow_saturation = exact_reads, grow_saturation
        self._calibrations: OrderedDict[tuple[object, ...], Calibration] = OrderedDict()

    def estimation_of(self, sampling: Sampling) -> Estimation:
        """How an exposure of this sampling becomes a frame."""
        return estimation_of(sampling, self._exact_reads, grow_saturation=self._grow_saturation)

    async def look(self, exposure: Exposure) -> None:
        """Take note of everything that the store has of an exposure."""
        prefix = exposure_prefix(exposure.night, exposure.membership.exposure)
        for key in await self._store.keys(prefix):
            name = key.removeprefix(prefix)
            if name == "aborted.json":
                exposure.aborted = True
            if found := _FAILED.fullmatch(name):
                exposure.membership.fail((int(found[1]), int(found[2])))
            if found := _READ.fullmatch(name):
                await self._note(exposure, (int(found[1]), int(found[2])), key)

    async def _note(self, exposure: Exposure, slot: Slot, key: str) -> None:
        known = exposure.membership.known.get(slot)
        if (known is not None and known.key == key) or not exposure.membership.has_slot(slot):
            return
        stored = await self._store.head(key)
        if stored is not None:
            exposure.membership.note(slot, stored.ref)

    async def is_overdue(self, exposure: Exposure) -> bool:
        """Whether the deadline of an exposure has passed, as far as the store says; its event may be settled then."""
        stored = await self._store.head(fact_key(exposure.night, exposure.membership.exposure, "started"))
        if stored is None:
            return False
        try:
            started = ExposureStarted.at_rest(json.loads(await self._store.get(stored.ref)))
        except (CorruptObject, ValueError, LookupError, TypeError, RecursionError):
            return False  # damaged: it says nothing
        return started.due_at <= datetime.now(UTC)

    async def preload(self, exposure: Exposure, detector: Detector) -> None:
        """Have the references of an exposure fetched before its first read, which decides which they are.

        What goes wrong here goes wrong again with the first read, and counts then.
        """
        if exposure.references:
            return
        with contextlib.suppress(Fatal, Outage, Retryable):
            plan = await self._plan(exposure)
            parameters = plan.crds_parameters(detector, exposure.membership.exposure.type, plan.foreseen_at)
            types = self._types_for(exposure.membership.sampling.mode, whole=True)
            await self._references.best_references(parameters, types, plan.crds_context)

    async def find_frame(self, exposure: Exposure) -> FrameReady | None:
        """The frame of all expected reads, if somebody has made it already."""
        membership = exposure.membership
        inputs = [(f"read-{ramp:04d}-{read:05d}", ref.sha256) for (ramp, read), ref in membership.known.items()]
        wanted = inputs_hash(frame.recipe_of(membership), inputs)
        versions = await self._store.keys(version_prefix(exposure.night, frame.product_of(membership), wanted))
        stored = await self._store.head(versions[-1]) if versions else None
        if stored is None:
            return None
        membership.used = dict(membership.known)
        membership.position = membership.expected
        return from_metadata(FrameReady, stored)

    async def has(self, announced: FrameReady) -> bool:
        """Whether a frame is in the store still."""
        return await self._store.head(announced.object.key) is not None

    async def fold(self, exposure: Exposure) -> None:
        """Fold the reads that follow one another, from where the exposure stands.

        Raises
        ------
        Outage
            If there is no room to keep a ramp; everything is folded again when it is handed the event again.
        """
        while (following := exposure.membership.next()) is not None:
            slot, ref = following
            plan = await self._plan(exposure)
            try:
                data = await self._store.get(ref)
                pixels, header = await self._in_thread(exposure.decode, slot, data)
                if not exposure.locate(slot, header):
                    continue
            except (CorruptObject, WrongShape) as error:
                _leave_out(exposure, slot, error)
                continue
            try:
                await self._prepare(exposure, header, plan)
            except WrongShape as error:  # its window is not on the detector
                exposure.is_elsewhere()
                _leave_out(exposure, slot, error)
                continue
            except MissingReference as problem:
                if exposure.references or not await self._next_has_references(exposure, header, plan):
                    raise
                _leave_out(exposure, slot, _unlike_the_next(header, problem))
                continue
            try:
                builder = exposure.builder or exposure.open(
                    await self._in_thread(exposure.begin, self._backend, self._room), header
                )
                await self._in_thread(builder.fold, header.ramp, pixels, header.read_time_s)
            except BaseException:
                exposure.start_again()  # a part of the read may be in, and its thread may still run
                raise
            exposure.folded(slot, header)
            reach("readout.fold.after")

    async def make_frame(self, exposure: Exposure) -> FrameReady:
        """Make the frame, put it, and give its announcement."""
        try:
            return await self._make_frame(exposure)
        except BaseException:
            exposure.start_again()  # the sums are used up: the next attempt folds the reads anew
            raise

    async def preview(self, exposure: Exposure) -> list[PreviewUpdated]:
        """Put a picture of what is folded so far, and announce it; without one, the frame is made all the same."""
        membership = exposure.membership
        try:
            live = await self._in_thread(exposure.live)
            if live is None:
                return []
            data = await self._in_thread(picture, live.data, live.dq)
            wanted = inputs_hash(frame.recipe_of(membership), membership.inputs())
            key = preview_key(exposure.night, membership.exposure, len(membership.used), wanted)
            put = await self._store.put(key, data, media_type=PNG)
        except (IrisError, OSError) as problem:
            _log.warning("no preview", exposure=str(membership.exposure), problem=str(problem))
            return []
        identity = membership.exposure
        return [
            PreviewUpdated(
                observation=identity.observation,
                exposure_type=identity.type,
                exposure=identity.number,
                detector=identity.detector,
                night=exposure.night,
                object=put.stored.ref,
                read=len(membership.used),
                reads=membership.expected,
            )
        ]

    async def _make_frame(self, exposure: Exposure) -> FrameReady:
        header, photons_end, membership, plan = (
            exposure.header,
            exposure.photons_end,
            exposure.membership,
            exposure.plan,
        )
        if header is None or photons_end is None or plan is None:
            raise RuntimeError("an exposure without a read has no frame")
        builder, flags = exposure.give()
        arrays = await self._in_thread(builder.close, flags)
        estimation = exposure.estimation
        job = frame.job_of(membership, estimation, exposure.references, plan.crds_context)
        names = {kind: f"crds://{found.name}" for kind, found in exposure.references.items()}
        used = len(membership.used)
        data = await self._in_thread(frame.to_file, arrays, header, photons_end, used, names, job, estimation)
        key = product_key(header.night, frame.product_of(membership), job.inputs_hash, job.job_hash)
        metadata = to_metadata(frame.announcement_of(arrays, header, photons_end, membership, job))
        reach("readout.put.before")
        put = await self._store.put(key, data, metadata=metadata)
        reach("readout.put.after")
        return from_metadata(FrameReady, put.stored)

    async def _prepare(self, exposure: Exposure, header: ReadHeader, plan: ObservationPlan) -> None:
        """Load the references of an exposure, with its first read.

        Raises
        ------
        WrongShape
            If the read says a window that the detector has not got.
        MissingReference
            If there is a reference missing. The read stays known, and is folded when the next event finds it.
        """
        if exposure.calibration is not None:
            return
        if not exposure.references:
            exposure.references = await self._references_for(header, plan)
        paths = {kind: found.path for kind, found in exposure.references.items()}
        hashes = sorted(found.sha256 for found in exposure.references.values())
        cadence = header.read_interval_s if KERNELS_TYPE in paths else None  # for which kernels are made
        identity = (*hashes, header.shape, header.window, header.guide_windows, cadence)
        if identity not in self._calibrations:
            try:
                self._calibrations[identity] = await self._in_thread(constants.load_for, paths, header)
            except CorruptObject as error:
                raise MissingReference(error.message, remedy="Repair the CRDS cache, then re-drive.") from error
        self._calibrations.move_to_end(identity)
        while len(self._calibrations) > CALIBRATIONS:
            self._calibrations.popitem(last=False)
        exposure.calibration = self._calibrations[identity]

    async def _references_for(self, header: ReadHeader, plan: ObservationPlan) -> Mapping[str, Reference]:
        types = self._types_for(header.sampling_mode, whole=header.window is None)
        return await self._references.best_references(header.crds_parameters(), types, plan.crds_context)

    def _types_for(self, mode: SamplingMode, *, whole: bool) -> Sequence[str]:
        """References that an exposure needs; kernels work on changes between reads of the whole detector."""
        changes = whole and mode is not SamplingMode.SINGLE
        with_kernels = changes and self._reference_algorithm is ReferenceAlgorithm.SIRS
        return (*REFERENCE_TYPES, KERNELS_TYPE) if with_kernels else REFERENCE_TYPES

    async def _next_has_references(self, exposure: Exposure, header: ReadHeader, plan: ObservationPlan) -> bool:
        """Whether CRDS has references for the read that follows: then it is not CRDS that lacks those of this one."""
        slot = header.ramp, header.read
        membership = exposure.membership
        for following in map(membership.slot, membership.order):
            if following <= slot or following in membership.lost:
                continue
            try:
                data = await self._store.get(membership.known[following])
                _, witness = await self._in_thread(exposure.decode, following, data)
                await self._references_for(witness, plan)
            except (CorruptObject, WrongShape):
                continue  # says nothing
            except MissingReference:
                return False
            return True
        return False

    async def _plan(self, exposure: Exposure) -> ObservationPlan:
        """The plan of the exposure's observation, read again until its references are known.

        Raises
        ------
        CorruptObject, Fatal
            If it is not in the store. The reads stay known, and are folded when the next event finds it.
        """
        if exposure.plan is not None and exposure.references:
            return exposure.plan
        key = observation_key(exposure.night, exposure.membership.exposure.observation)
        stored = await self._store.head(key)
        if stored is None:
            raise Fatal(
                f"{exposure.membership.exposure} belongs to an observation without a plan: {key} is not in the store.",
                remedy="The edge puts it before the first event. Put it, then re-drive.",
            )
        exposure.plan = ObservationPlan.model_validate_json(await self._store.get(stored.ref), extra="ignore")
        return exposure.plan

    async def _in_thread(self, function: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _leave_out(exposure: Exposure, slot: Slot, error: CorruptObject | WrongShape) -> None:
    _log.error("read left out", exposure=str(exposure.membership.exposure), slot=slot, problem=str(error))
    exposure.membership.lost[slot] = error.with_traceback(None)  # else it holds the sums, and the ring


def _unlike_the_next(header: ReadHeader, problem: MissingReference) -> CorruptObject:
    return CorruptObject(
        f"CRDS has references for the read that follows, and none for what {header.read_id} says: {problem.message}",
        remedy="Look at the time in its header.",
    )
