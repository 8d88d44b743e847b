"""One exposure in the hands of the service: its reads, its running sums, its frame."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import ExposureState, Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.membership import Membership, Slot
from irisdrs.readout.preview import step_for
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.data.fits import decode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events.facts import FrameReady
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality
from irisdrs.shared.references import Reference

Decoded = tuple[NDArray[np.uint16], ReadHeader]


@dataclass(slots=True)
class Exposure:
    """What is in memory of an exposure; everything can be rebuilt from the store.

    Attributes
    ----------
    membership, night
    aborted : bool
    references, calibration
        Known after the first read.
    announced : FrameReady, optional
        The frame that was made of the reads `membership.used`.
    completed_by : str
        Id of the event whose handling gave `announced`: told again, it gets the same answer.
    """

    membership: Membership
    night: date
    aborted: bool = False
    references: Mapping[str, Reference] = field(default_factory=dict)
    context: str = ""
    calibration: Calibration | None = None
    state: ExposureState | None = None
    ramp: int = 0
    header: ReadHeader | None = None
    photons_end: datetime | None = None
    announced: FrameReady | None = None
    completed_by: str = ""

    def decode(self, slot: Slot, data: bytes) -> Decoded:
        """Decode a read and check that it is the one that its key says.

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
        if self.state is not None and self.header is not None and _place(header) != _place(self.header):
            raise CorruptObject(
                f"{header.read_id} says another window of the detector than the first read of its exposure: "
                f"{_place(header)}, not {_place(self.header)}.",
                remedy="An exposure is read in one window: look at the header of the read.",
            )
        ramp = self.state.ramp if self.state is not None and self.ramp == slot[0] else None
        if ramp is not None and header.read_time_s <= ramp.times_s[-1]:
            raise CorruptObject(
                f"{header.read_id} says that it ended {header.read_time_s} s after the reset, and the read before it "
                f"{ramp.times_s[-1]} s.",
                remedy="Times of a ramp increase: look at RDENDT in the headers of both.",
            )
        return pixels, header

    def open(self, processor: Processor, header: ReadHeader) -> ExposureState:
        """The running sums; begun with the header of the first read that is used."""
        if self.calibration is None:
            raise RuntimeError("references are loaded before reads are folded")
        if self.state is None:
            sampling = self.membership.sampling
            full_time_s = max(sampling.reads - 1, 1) * sampling.read_time_s
            self.state = processor.open(self.calibration, sampling.mode, full_time_s, options_of(sampling))
            self.header, self.ramp = header, header.ramp
        return self.state

    def folded(self, slot: Slot, header: ReadHeader) -> None:
        """A read is in the running sums."""
        self.ramp, self.photons_end = slot[0], header.ended_at
        self.membership.folded(slot)

    def finish(self, processor: Processor) -> RateFrame:
        """The frame's arrays; the running sums are given up."""
        if self.state is None:
            raise RuntimeError("an exposure without a read has no frame")
        whole = len(self.membership.used) == self.membership.expected
        state, self.state = self.state, None
        return processor.close(state, Quality.GOOD if whole else Quality.DROPOUT)

    def live(self, processor: Processor) -> RateFrame | None:
        """What is folded so far, as finely as a picture needs it; None before there is anything to see."""
        if self.state is None or len(self.membership.used) < 2:  # one read has no slope
            return None
        return processor.live(self.state, step=step_for(self.membership.sampling.shape))

    def start_again(self) -> None:
        """Forget what was folded and announced: the reads that are used have changed."""
        self.membership.start_again()
        self.state, self.announced, self.completed_by = None, None, ""

    def give_way(self) -> None:
        """Give up everything large: another exposure of the detector has begun. The store has it all."""
        if self.announced is None:
            self.start_again()
        self.calibration = None

    def done(self, announced: FrameReady, event_id: str) -> list[FrameReady]:
        """The frame is stored: give up everything large, and say it."""
        self.state, self.calibration = None, None
        self.announced, self.completed_by = announced, event_id
        return [announced]


def options_of(sampling: Sampling) -> FoldOptions | None:
    """The choices that a plan makes about a fold: the groups of MCDS."""
    if sampling.mode is not SamplingMode.MCDS:
        return None
    return FoldOptions(planned_times_s=sampling.read_times_s, group_reads=sampling.group_reads)


def _place(header: ReadHeader) -> str:
    """Where on the detector a read is, and what is read besides."""
    guides = "".join(f", guiding in {window.section}" for window in header.guide_windows)
    return f"{header.window.section if header.window else header.subarray}{guides}"
