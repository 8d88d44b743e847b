"""The processor's side of the readout: allocate a ramp, fold reads into it, close the exposure.

A device that computes elsewhere has the same methods (`Backend`): planes are its own from the first read on, reads go
up with `fold`, and only frames come back.
"""

import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Adder, Offsets, Ramp, Sums, begin_ramp, every
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.closing import close_ramp, close_sums
from irisdrs.readout.fitting import FitSettings, RampFit, fit_ramp
from irisdrs.readout.ramp_reference import RampReference
from irisdrs.readout.sampling.growth import grow_rows
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.readout.sampling.reference_correction import DEFAULT_CORRECTION, ReferenceCorrection
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

#: Rows that a thread takes at a time: small enough to share out evenly, large enough to cost nothing.
_BAND_ROWS = 256

#: Reads of a ramp that its counters, uint16, can tell apart.
_MOST_READS = 65535


@dataclass(slots=True)
class ExposureState:
    """An exposure that is being folded.

    Attributes
    ----------
    calibration : Calibration
    mode : SamplingMode
    full_time_s : float
        From the first to the last read of a whole ramp: ramps are weighted in units of it.
    options : FoldOptions
    reference : RampReference, optional
        Of the current ramp, if its reads are measured here.
    """

    calibration: Calibration
    mode: SamplingMode
    full_time_s: float
    options: FoldOptions
    ramp: Ramp | None = None
    sums: Sums | None = None
    grown: NDArray[np.uint16] | None = None
    reference: RampReference | None = None


@dataclass(frozen=True, slots=True)
class RateFrame:
    """A raw science frame's arrays, all (rows, columns).

    Attributes
    ----------
    data : float32
        Rate, DN/s; 0 where there is none.
    err : float32
        One standard deviation, DN/s.
    var_poisson, var_rnoise : float32
        (DN/s)^2.
    dq : uint32
    saturated_fraction : float
        Fraction of the science pixels with a saturated read.
    """

    data: NDArray[np.float32]
    err: NDArray[np.float32]
    var_poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    dq: NDArray[np.uint32]
    saturated_fraction: float


class Ahead(Protocol):
    """Where the reads of a ramp are put beforehand, one after another, that are to be fitted together."""

    def take(self, read: NDArray[np.uint16]) -> None:
        """Take the next read (rows, columns)."""
        ...

    def clear(self) -> None:
        """Forget the reads: the next ramp begins."""
        ...


class Backend(Protocol):
    """Where pixels are computed: what the service calls, whichever machine does it. `Processor` says what each does."""

    def open(
        self,
        calibration: Calibration,
        mode: SamplingMode,
        full_time_s: float,
        options: FoldOptions | None = None,
    ) -> ExposureState:
        """Begin an exposure."""
        ...

    def fold(
        self, state: ExposureState, read: NDArray[np.uint16], time_s: float, offsets: Offsets | None = None
    ) -> None:
        """Take a read up, and fold it into the current ramp."""
        ...

    def end_ramp(self, state: ExposureState) -> None:
        """Add the current ramp to the exposure."""
        ...

    def live(self, state: ExposureState, flags: Quality = Quality.GOOD, step: int = 1) -> RateFrame:
        """The frame of the reads so far, or every so many rows and columns of it."""
        ...

    def close(self, state: ExposureState, flags: Quality = Quality.GOOD) -> RateFrame:
        """The frame of the exposure, whose state is given up."""
        ...

    def ahead(self, reads: int, shape: tuple[int, int]) -> Ahead | None:
        """Where so many reads can be put before they are fitted; None where that would save nothing."""
        ...

    def fit(
        self,
        reads: NDArray[np.uint16],
        calibration: Calibration,
        times_s: NDArray[np.float64],
        settings: FitSettings | None = None,
        *,
        column_offset: NDArray[np.float32] | None = None,
        row_offset: NDArray[np.float32] | None = None,
        ahead: Ahead | None = None,
    ) -> RampFit:
        """Fit a ramp of which all reads are at hand; `ahead` has the same reads, from the first on."""
        ...

    def shutdown(self) -> None:
        """Give everything up."""
        ...


class Processor:
    """Folds on the processor's cores; one instance serves all detectors of a process.

    Rows are shared among threads of its own: numba's built-in pool must not be entered from two threads at once.

    Parameters
    ----------
    threads : int
        0: one for each core.
    """

    def __init__(self, threads: int = 0) -> None:
        self._pool = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="readout")

    def shutdown(self) -> None:
        """End the threads."""
        self._pool.shutdown()

    def open(
        self,
        calibration: Calibration,
        mode: SamplingMode,
        full_time_s: float,
        options: FoldOptions | None = None,
    ) -> ExposureState:
        """Begin an exposure. Planes are allocated when its first read is folded.

        Raises
        ------
        Fatal
            If the options do not go with the mode.
        """
        chosen = options or FoldOptions()
        chosen.check(mode)
        return ExposureState(calibration.flagged_for(chosen.reference), mode, full_time_s, chosen)

    def fold(
        self, state: ExposureState, read: NDArray[np.uint16], time_s: float, offsets: Offsets | None = None
    ) -> None:
        """Fold one read into the current ramp.

        Parameters
        ----------
        state : ExposureState
        read : uint16 (rows, columns)
            Raw counts, DN.
        time_s : float
            End of the read since the reset; later than that of the read before.
        offsets : float32 (columns,), (rows,) or (rows, stripes), optional
            What the reference pixels take off its columns and rows, DN [default: measured in it].

        Raises
        ------
        ValueError
            If the read is not later, is the second of a ramp of a single read, has another shape than the references
            or is not uint16; or if the ramp is longer than its counters.
        """
        check_read(state, read, time_s, () if state.ramp is None else state.ramp.times_s)
        if state.ramp is None:
            state.ramp = begin_ramp(read.shape, state.mode, state.options)
        found = offsets_of(state, read, offsets, fresh=not state.ramp.times_s)
        state.ramp.times_s.append(time_s)
        state.ramp.fold(self._rows, self._grown(state, read), state.calibration, found)

    def end_ramp(self, state: ExposureState) -> None:
        """Add the current ramp to the sums; nothing when it has no read."""
        ramp, state.ramp = state.ramp, None
        if ramp is None:
            return
        if state.sums is None:
            state.sums = Sums.alloc(state.calibration.gain.shape)
        sums, adder = state.sums, self._adder(state, ramp)
        self._rows(len(sums.seen), lambda start, stop: adder.add(sums.rows(start, stop), start, stop))

    def live(self, state: ExposureState, flags: Quality = Quality.GOOD, step: int = 1) -> RateFrame:
        """The frame of the reads so far: what `close` would give. Folding goes on as if nobody had asked.

        Parameters
        ----------
        state : ExposureState
            Nothing else may be folding into it meanwhile.
        flags : Quality
            Flags for all pixels.
        step : int
            Every so many rows and columns: a preview of 1024 x 1024 pixels costs a sixteenth of the frame.
        """
        shape = state.calibration.gain.shape
        calibration = replace(state.calibration, threshold=state.calibration.threshold[:0])
        if not state.options.linearity_noise:
            calibration = replace(calibration, terms=calibration.terms[:, :0])  # not needed: spare the copy
        calibration = thinned(calibration, step)
        return self.close(
            replace(
                state,
                calibration=calibration,
                ramp=None if state.ramp is None else every(state.ramp, shape, step),
                # Sums of its own, even before the first ramp has ended: the frame leaves the ramp as it is.
                sums=Sums.alloc(calibration.gain.shape)
                if state.sums is None
                else every(state.sums, shape, step, copy=True),
            ),
            flags,
        )

    def close(self, state: ExposureState, flags: Quality = Quality.GOOD) -> RateFrame:
        """Close an exposure after its last ramp; its state must not be used again.

        Parameters
        ----------
        state : ExposureState
        flags : Quality
            Flags for all pixels (DROPOUT).
        """
        calibration = state.calibration
        flags |= flags_of(state.mode)
        ramp, sums = state.ramp, state.sums
        if ramp is not None and sums is None:
            closed, dq, saturated = close_ramp(self._rows, ramp, self._adder(state, ramp), calibration, flags)
        else:
            self.end_ramp(state)
            sums = state.sums or Sums.alloc(calibration.gain.shape)
            closed, dq, saturated = close_sums(self._rows, sums, calibration, flags)
        state.ramp = state.sums = None
        science = dq[calibration.science].size
        return RateFrame(
            data=closed.signal,
            err=closed.weight,
            var_poisson=closed.poisson,
            var_rnoise=closed.rnoise,
            dq=dq,
            saturated_fraction=float(saturated / max(science, 1)),
        )

    def _grown(self, state: ExposureState, read: NDArray[np.uint16]) -> NDArray[np.uint16]:
        if not state.options.grow_saturation:
            return read
        if state.grown is None:
            state.grown = np.empty_like(read)
        grown, threshold = state.grown, state.calibration.threshold
        self._rows(read.shape[0], lambda start, stop: grow_rows(read, threshold, grown, start, stop))
        return grown

    def _adder(self, state: ExposureState, ramp: Ramp) -> Adder:
        terms = state.calibration.terms
        wanted = terms if state.options.linearity_noise else terms[:, :0]
        return ramp.adder(state.calibration, state.full_time_s, tuple(wanted))

    def ahead(self, reads: int, shape: tuple[int, int]) -> Ahead | None:
        """Nothing: the reads are where they are needed."""
        return None

    def fit(
        self,
        reads: NDArray[np.uint16],
        calibration: Calibration,
        times_s: NDArray[np.float64],
        settings: FitSettings | None = None,
        *,
        use_read: NDArray[np.bool_] | None = None,
        use_difference: NDArray[np.bool_] | None = None,
        column_offset: NDArray[np.float32] | None = None,
        row_offset: NDArray[np.float32] | None = None,
        correction: ReferenceCorrection = DEFAULT_CORRECTION,
        ahead: Ahead | None = None,
    ) -> RampFit:
        """Fit a ramp of which all reads are at hand; parameters and errors are those of `fit_ramp`."""
        return fit_ramp(
            self._rows,
            reads,
            calibration,
            times_s,
            settings or FitSettings(),
            use_read,
            use_difference,
            column_offset,
            row_offset,
            correction,
        )

    def share(self, rows: int, work: Callable[[int, int], object]) -> None:
        """Call work(start, stop) for all rows, in bands, on the threads."""
        self._rows(rows, work)

    def _rows(self, rows: int, work: Callable[[int, int], object]) -> None:
        bands = [self._pool.submit(work, start, min(start + _BAND_ROWS, rows)) for start in range(0, rows, _BAND_ROWS)]
        for band in bands:
            band.result()


def check_read(state: ExposureState, read: NDArray[np.uint16], time_s: float, times_s: Sequence[float]) -> None:
    """Check that a read can be folded into a ramp with reads at these times; errors as those of `Processor.fold`."""
    shape = state.calibration.gain.shape
    if read.shape != shape or read.dtype != np.uint16 or not math.isfinite(time_s):
        raise ValueError(f"a read of {read.dtype} {read.shape} at {time_s} s, references {shape}")
    if times_s and (time_s <= times_s[-1] or state.mode is SamplingMode.SINGLE):
        raise ValueError(f"a read at {time_s} s after one at {times_s[-1]} s, in mode {state.mode}")
    if len(times_s) >= _MOST_READS:
        raise ValueError(f"a ramp of more than {_MOST_READS} reads")


def offsets_of(state: ExposureState, read: NDArray[np.uint16], given: Offsets | None, *, fresh: bool) -> Offsets:
    """Offsets (columns,) and (rows, stripes) of a read, DN: those that are given, or by its reference pixels.

    `fresh` is True for the first read of a ramp.
    """
    if given is None:
        if fresh or state.reference is None:
            state.reference = RampReference(state.calibration, state.options.reference)
        found = state.reference.vectors(read)
        given = found.column_offset, found.row_offset
    of_columns, of_rows = given
    return of_columns, of_rows.reshape(len(read), -1)


def flags_of(mode: SamplingMode) -> Quality:
    """Flags that all pixels of a mode have."""
    # SINGLE is a level by a time, with the level after the reset in it.
    return Quality.UNRELIABLE_SLOPE if mode is SamplingMode.SINGLE else Quality.GOOD


def thinned(calibration: Calibration, step: int) -> Calibration:
    """Every so many rows and columns of the planes; the reference pixels, which whole reads have, stay as they are."""
    science = _thinned(calibration.science, step)
    return every(replace(calibration, science=science), calibration.gain.shape, step)


def _thinned(science: tuple[slice, slice], step: int) -> tuple[slice, slice]:
    """The same pixels when every so many rows and columns are left."""
    rows, columns = (slice(-(-part.start // step), -(-part.stop // step)) for part in science)
    return rows, columns
