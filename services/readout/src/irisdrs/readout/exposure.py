"""One exposure in the hands of the service: its reads, what they have come to, its frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import Backend, RateFrame
from irisdrs.readout.builders import FrameBuilder, begin_frame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.estimation import Estimation
from irisdrs.readout.membership import Membership, Slot
from irisdrs.readout.planned import check_configured, check_planned
from irisdrs.readout.preview import step_for
from irisdrs.readout.ring import Room
from irisdrs.shared.data.fits import decode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events.facts import FrameReady
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.quality import Quality
from irisdrs.shared.references import Reference

Decoded = tuple[NDArray[np.uint16], ReadHeader]


@dataclass(slots=True)
class Exposure:
    """What is in memory of an exposure; everything can be rebuilt from the store.

    Attributes
    ----------
    membership, night
    estimation : Estimation
        How its reads become a frame.
    aborted : bool
    closed : bool
        Its end has been told: what is missing is not waited for any more.
    overdue : bool
        Its deadline has passed: what comes still waits in the store for the last one missing, or the end.
    plan : ObservationPlan, optional
        Of its observation; known before the first read.
    references, calibration
        Known after the first read.
    builder : FrameBuilder, optional
        What the reads that are used have come to so far.
    header : ReadHeader, optional
        Of the first used read.
    place : str
        Where on the detector it lies, once two reads have said the same; until then `places` has what each said.
    ended : (ramp, s)
        Ramp of the last used read, and its end since the reset.
    announced : FrameReady, optional
        The frame that was made of the reads `membership.used`.
    completed_by : str
        Id of the event whose handling gave `announced`: told again, it gets the same answer.
    """

    membership: Membership
    night: date
    estimation: Estimation
    aborted: bool = False
    closed: bool = False
    overdue: bool = False
    plan: ObservationPlan | None = None
    references: Mapping[str, Reference] = field(default_factory=dict)
    calibration: Calibration | None = None
    builder: FrameBuilder | None = None
    header: ReadHeader | None = None
    place: str = ""
    places: dict[Slot, str] = field(default_factory=dict)
    ended: tuple[int, float] = (0, 0.0)
    photons_end: datetime | None = None
    announced: FrameReady | None = None
    completed_by: str = ""

    def decode(self, slot: Slot, data: bytes) -> Decoded:
        """Decode a read and check that it is the one that its key says, taken as its exposure was announced.

        Raises
        ------
        CorruptObject, WrongShape
            If the bytes are no such read.
        """
        pixels, header = decode_read(data, self.membership.sampling.shape)
        if (header.exposure_id, header.ramp, header.read) != (self.membership.exposure, *slot):
            raise CorruptObject(
                f"The object of {self.membership.exposure} ramp {slot[0]} read {slot[1]} says it is {header.read_id}.",
                remedy="Restore the right object, then re-drive.",
            )
        check_planned(header, self.night, self.membership.sampling)
        if self.plan is not None:
            check_configured(header, self.plan)
        ramp, ended_s = self.ended
        if self.builder is not None and header.ramp == ramp and header.read_time_s <= ended_s:
            raise CorruptObject(
                f"{header.read_id} says that it ended {header.read_time_s} s after the reset, and the read before it "
                f"says {ended_s} s.",
                remedy="Reads of a ramp end one after the other: look at RDENDT in their headers.",
            )
        return pixels, header

    def locate(self, slot: Slot, header: ReadHeader) -> bool:
        """Take note of where on the detector a read says that it is.

        The first two reads that agree decide, and until then the first one: a single read that lies costs no other.

        Returns
        -------
        bool
            False if what is folded lies elsewhere: it is forgotten, and reads are folded from the first one on.

        Raises
        ------
        CorruptObject
            If the read lies elsewhere.
        """
        place = _place(header)
        if not self.place:
            self.places[slot] = place
            self.place = place if list(self.places.values()).count(place) > 1 else ""
        if self.builder is not None and self.header is not None and self.place not in ("", _place(self.header)):
            decided = self.place
            self.start_again()
            self.place = decided
            return False
        taken = self.place or next(iter(self.places.values()))
        if place != taken:
            raise CorruptObject(
                f"{header.read_id} says another window of the detector than other reads of its exposure: "
                f"{place}, not {taken}.",
                remedy="An exposure is read in one window: look at the headers of its reads.",
            )
        return True

    def is_elsewhere(self) -> None:
        """The window that was taken is not on the detector: the next read says which, and which references."""
        self.references, self.place, self.places = {}, "", {}

    def begin(self, backend: Backend, room: Room) -> FrameBuilder:
        """A frame of no read, for `open`.

        Raises
        ------
        Fatal
            If the sampling does not go with its mode.
        """
        if self.calibration is None:
            raise RuntimeError("references are loaded before reads are folded")
        sampling = self.membership.sampling
        return begin_frame(backend, room, self.calibration, sampling, self.estimation, step_for(sampling.shape))

    def open(self, builder: FrameBuilder, header: ReadHeader) -> FrameBuilder:
        """Take what becomes the frame, and the header of the first read that is used."""
        self.builder, self.header = builder, header
        return builder

    def folded(self, slot: Slot, header: ReadHeader) -> None:
        """A read is in what becomes the frame."""
        self.ended, self.photons_end = (header.ramp, header.read_time_s), header.ended_at
        self.membership.folded(slot)

    def give(self) -> tuple[FrameBuilder, Quality]:
        """Hand over what becomes the frame, to be closed with these flags."""
        if self.builder is None:
            raise RuntimeError("an exposure without a read has no frame")
        whole = len(self.membership.used) == self.membership.expected
        builder, self.builder = self.builder, None
        return builder, Quality.GOOD if whole else Quality.DROPOUT

    def live(self) -> RateFrame | None:
        """What is there so far, as finely as a picture needs it; None before there is anything to see."""
        if self.builder is None or len(self.membership.used) < 2:  # one read has no slope
            return None
        return self.builder.live()

    def start_again(self) -> None:
        """Forget what was folded and announced: the reads that are used have changed."""
        self.membership.start_again()
        self.builder, self.announced, self.completed_by = None, None, ""
        self.references, self.calibration = {}, None  # the first read, which decides them, may be another
        self.place, self.places = "", {}

    def give_way(self) -> None:
        """Give up everything large: another exposure of the detector has begun. The store has it all."""
        if self.announced is None:
            self.start_again()
        self.calibration = None

    def done(self, announced: FrameReady, event_id: str) -> list[FrameReady]:
        """The frame is stored: give up everything large, and say it."""
        self.builder, self.calibration = None, None
        self.announced, self.completed_by = announced, event_id
        return [announced]


def _place(header: ReadHeader) -> str:
    """Where on the detector a read is, and what is read besides."""
    guides = "".join(f", guiding in {window.section}" for window in header.guide_windows)
    return f"{header.window.section if header.window else header.subarray}{guides}"
