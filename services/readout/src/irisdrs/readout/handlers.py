"""The handlers of one detector: reads in, a raw science frame out.

Pixels are taken from the store; what is known of an exposure is rebuilt from the store whenever memory has not got
it. The frame is put and announced by the handler of whichever event makes the exposure complete.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime

import structlog

from irisdrs.readout.exposure import Exposure
from irisdrs.readout.membership import Membership, Slot
from irisdrs.readout.preview import Turn
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.bus.topology import readout_queue
from irisdrs.shared.errors import Fatal, IrisError, MissingReference, NotDue
from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    ProcessingFailed,
    ReadFailed,
    ReadWritten,
)
from irisdrs.shared.events.jobs import ExposureDue
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import Sampling
from irisdrs.shared.service import Handlers

_log = structlog.get_logger(__name__)

#: Exposures that are remembered, so that a late or repeated message needs no look into the store.
REMEMBERED = 32


class DetectorHandlers:
    """Handlers of one detector's queue; called one event at a time."""

    def __init__(self, workshop: Workshop) -> None:
        self._workshop = workshop
        self._preview_turn = Turn()
        self._exposures: OrderedDict[ExposureId, Exposure] = OrderedDict()

    def handlers(self) -> Handlers:
        """Handlers by the type of event."""
        return {
            ExposureStarted: self.on_exposure_started,
            ReadWritten: self.on_read_written,
            ReadFailed: self.on_read_failed,
            ExposureEnded: self.on_exposure_ended,
            ExposureAborted: self.on_exposure_aborted,
            ExposureDue: self.on_exposure_due,
        }

    async def on_exposure_started(self, event: ExposureStarted) -> Sequence[Event]:
        """See what the store has of the exposure, fetch its references meanwhile, and return its deadline."""
        exposure = await self._exposure(event, event.sampling)
        await self._workshop.preload(exposure, event.detector)
        due = ExposureDue(**_identity(event), due_at=event.due_at, sampling=event.sampling)
        return [due]

    async def on_read_written(self, event: ReadWritten) -> Sequence[Event]:
        """Fold the read and those that can follow it; return the frame if that completes the exposure, else a preview.

        Raises
        ------
        Fatal
            If the read is damaged, of the wrong shape, no read of this exposure or in conflict with another; or if it
            completes an exposure whose references are missing.
        """
        exposure = await self._exposure(event, event.sampling)
        slot = event.ramp, event.read
        membership = exposure.membership
        if not membership.has_slot(slot):
            raise Fatal(f"{event.subject} is no read of an exposure of {membership.expected} reads.")
        if exposure.aborted:
            return []
        if exposure.announced is not None and slot in membership.used and membership.known[slot] == event.object:
            return self._again(exposure, event)
        membership.note(slot, event.object)
        if membership.outdated:
            exposure.start_again()
        if membership.slot(membership.position) != slot and not membership.complete:
            await self._workshop.look(exposure)  # a gap: is what is missing in the store already?
        frame = await self._advance(exposure, event)
        if slot not in membership.lost:
            return frame or await self._preview(exposure, slot)
        if not frame:
            raise membership.lost[slot]
        return [*frame, _left_out(event, membership.lost[slot])]  # the frame without it must be announced all the same

    async def on_read_failed(self, event: ReadFailed) -> Sequence[Event]:
        """Do not wait for the read any more."""
        exposure = self._exposures.get(event.exposure_id)
        if exposure is None or exposure.aborted:
            return []  # the store says it again when the exposure is looked up
        exposure.membership.fail((event.ramp, event.read))
        return await self._advance(exposure, event)

    async def on_exposure_ended(self, event: ExposureEnded) -> Sequence[Event]:
        """Make the frame of what is there.

        Raises
        ------
        Fatal
            If no read can be used, or references are missing.
        """
        return await self._close(event, event.sampling)

    async def on_exposure_due(self, event: ExposureDue) -> Sequence[Event]:
        """As `on_exposure_ended`, once the deadline has passed.

        Raises
        ------
        NotDue
            Before the deadline.
        """
        if datetime.now(UTC) < event.due_at:
            exposure = self._exposures.get(event.exposure_id)
            if exposure is not None and (exposure.aborted or exposure.announced is not None):
                return []
            raise NotDue(f"{event.subject} is due at {event.due_at.isoformat()}.")
        return await self._close(event, event.sampling)

    async def on_exposure_aborted(self, event: ExposureAborted) -> Sequence[Event]:
        """Make no frame."""
        exposure = self._exposures.get(event.exposure_id)
        if exposure is not None:
            exposure.start_again()
            exposure.aborted = True
        return []

    async def _close(self, event: ExposureEnded | ExposureDue, sampling: Sampling) -> Sequence[Event]:
        exposure = await self._exposure(event, sampling)
        # The edge tells the end after all its reads; after a deadline they may be on their way still, one by one.
        exposure.closed = exposure.closed or isinstance(event, ExposureEnded)
        exposure.overdue = True
        if exposure.announced is not None and not await self._workshop.has(exposure.announced):
            exposure.start_again()  # somebody has deleted the frame: it is made again
        if exposure.announced is not None and len(exposure.membership.used) == exposure.membership.expected:
            return self._again(exposure, event)
        await self._workshop.look(exposure)
        if exposure.aborted:
            return []
        if exposure.membership.outdated:
            exposure.start_again()
        if exposure.announced is not None:
            return self._again(exposure, event)
        frame = await self._advance(exposure, event, closing=True)
        if not frame:
            raise Fatal(
                f"{event.exposure_id} has ended and none of its {exposure.membership.expected} reads can be used.",
                remedy="Look into the parked events of its reads.",
            )
        return frame

    async def _advance(self, exposure: Exposure, event: ExposureEvent, *, closing: bool = False) -> list[FrameReady]:
        """Fold what can be folded; the frame, if that is all, else nothing.

        Once the exposure is closed, nothing that is missing is waited for: a late read makes a new version at once.
        After its deadline alone nothing is folded before all is there: for what may never come, nothing large waits.
        A missing reference fails only the event that would complete the exposure: until then the reads wait in the
        store.
        """
        closing = closing or exposure.closed
        if exposure.overdue and not closing and not exposure.membership.settled:
            return []
        if exposure.announced is None and exposure.membership.whole and not exposure.membership.used:
            found = await self._workshop.find_frame(exposure)
            if found is not None:
                return exposure.done(found, event.event_id)
        try:
            await self._workshop.fold(exposure)
            while closing and not exposure.membership.complete:
                exposure.membership.leave_out_missing()
                await self._workshop.fold(exposure)
        except MissingReference as problem:
            if closing or exposure.membership.settled:
                raise
            _log.warning("reads wait for a reference", exposure=str(event.exposure_id), problem=str(problem))
            return []
        if exposure.announced is not None or not exposure.membership.complete or not exposure.membership.used:
            return []
        return exposure.done(await self._workshop.make_frame(exposure), event.event_id)

    async def _preview(self, exposure: Exposure, slot: Slot) -> Sequence[Event]:
        """A picture of the exposure with this read, if one is due."""
        if slot not in exposure.membership.used or exposure.announced is not None or not self._preview_turn.take():
            return []
        return await self._workshop.preview(exposure)

    def _again(self, exposure: Exposure, event: Event) -> list[FrameReady]:
        """The announcement once more, when the event that gave it is told again: it was not settled then."""
        if exposure.announced is None or exposure.completed_by != event.event_id:
            return []
        return [exposure.announced]

    async def _exposure(self, event: ExposureEvent, sampling: Sampling) -> Exposure:
        exposure = self._exposures.get(event.exposure_id)
        if exposure is None:
            membership = Membership(event.exposure_id, sampling)
            exposure = Exposure(membership, event.night, self._workshop.estimation_of(sampling))
            await self._workshop.look(exposure)
            if not isinstance(event, ExposureStarted):  # a late read, and who has heard the deadline is gone
                exposure.overdue = await self._workshop.is_overdue(exposure)
            for earlier in self._exposures.values():
                earlier.give_way()
            self._exposures[event.exposure_id] = exposure
            while len(self._exposures) > REMEMBERED:
                self._exposures.popitem(last=False)
        return exposure


def _left_out(event: ReadWritten, problem: IrisError) -> ProcessingFailed:
    return ProcessingFailed(
        service="readout",
        queue=readout_queue(event.detector),
        failed_event_id=event.event_id,
        failed_type=event.told_as,
        attempt=1,
        error_class=type(problem).__name__,
        message=str(problem),
        outcome="left out of the frame",
    )


def _identity(event: ExposureEvent) -> dict[str, object]:
    names = ("observation", "exposure_type", "exposure", "detector", "night")
    return {name: getattr(event, name) for name in names}
