"""The processor's side of the readout: allocate a ramp, fold reads into it, close the exposure.

A device that computes elsewhere has the same methods: `open`, `start_ramp`, `fold`, `end_ramp`, `close`.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling import cds, utr
from irisdrs.readout.sampling.coadd import add_rows, close_rows
from irisdrs.readout.sampling.fold import fold_rows
from irisdrs.readout.sampling.reference_pixels import reference_offsets
from irisdrs.readout.sampling.variance import poisson_factor, read_noise_factor
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

#: Rows that a thread takes at a time: small enough to share out evenly, large enough to cost nothing.
_BAND_ROWS = 256


@dataclass(slots=True)
class RampState:
    """Planes of the ramp that is being folded; what they mean is said in `fold_rows`."""

    first: NDArray[np.float32]
    mean: NDArray[np.float32]
    comoment: NDArray[np.float32]
    number: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    times_s: list[float] = field(default_factory=list)

    @classmethod
    def alloc(cls, shape: tuple[int, int]) -> "RampState":
        """Planes of a ramp without a read."""
        return cls(
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.float32),
            np.zeros(shape, np.uint16),
            np.zeros(shape, np.uint8),
        )


@dataclass(slots=True)
class Sums:
    """Sums over the ramps of an exposure; what they mean is said in `add_rows`."""

    signal: NDArray[np.float32]
    weight: NDArray[np.float32]
    poisson: NDArray[np.float32]
    rnoise: NDArray[np.float32]
    seen: NDArray[np.uint8]

    @classmethod
    def alloc(cls, shape: tuple[int, int]) -> "Sums":
        """Sums of no ramp."""
        signal, weight, poisson, rnoise = (np.zeros(shape, np.float32) for _ in range(4))
        return cls(signal, weight, poisson, rnoise, np.zeros(shape, np.uint8))


@dataclass(slots=True)
class ExposureState:
    """An exposure that is being folded.

    Attributes
    ----------
    calibration : Calibration
    mode : SamplingMode
    full_time_s : float
        From the first to the last read of a whole ramp: ramps are weighted in units of it.
    """

    calibration: Calibration
    mode: SamplingMode
    full_time_s: float
    ramp: RampState | None = None
    sums: Sums | None = None


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

    def open(self, calibration: Calibration, mode: SamplingMode, full_time_s: float) -> ExposureState:
        """Begin an exposure. Planes are allocated when its first read is folded."""
        return ExposureState(calibration, mode, full_time_s)

    def fold(self, state: ExposureState, read: NDArray[np.uint16], time_s: float) -> None:
        """Fold one read into the current ramp.

        Parameters
        ----------
        state : ExposureState
        read : uint16 (rows, columns)
            Raw counts, DN.
        time_s : float
            End of the read since the reset; later than that of the read before.
        """
        calibration = state.calibration
        if state.ramp is None:
            state.ramp = RampState.alloc(read.shape)
        ramp = state.ramp
        if ramp.times_s and time_s <= ramp.times_s[-1]:
            raise ValueError(f"a read at {time_s} s after one at {ramp.times_s[-1]} s")
        ramp.times_s.append(time_s)
        estimator = cds if state.mode is SamplingMode.CDS else utr
        gain, lever = estimator.fold_factors(np.array(ramp.times_s))
        offset, _ = reference_offsets(read, calibration.usable, calibration.channel_columns, calibration.first_column)
        self._rows(
            read.shape[0],
            lambda start, stop: fold_rows(
                read,
                calibration.threshold,
                calibration.terms,
                offset,
                len(ramp.times_s) == 1,
                np.float32(gain),
                np.float32(lever),
                ramp.first,
                ramp.mean,
                ramp.comoment,
                ramp.number,
                ramp.flags,
                start,
                stop,
            ),
        )

    def end_ramp(self, state: ExposureState) -> None:
        """Add the current ramp to the sums; nothing when it has no read."""
        ramp, state.ramp = state.ramp, None
        if ramp is None:
            return
        if state.sums is None:
            state.sums = Sums.alloc(ramp.first.shape)
        sums = state.sums
        table = _table(state.mode, ramp.times_s, state.full_time_s)
        slope = ramp.mean if state.mode is SamplingMode.CDS else ramp.comoment
        self._rows(
            slope.shape[0],
            lambda start, stop: add_rows(
                slope,
                ramp.number,
                ramp.flags,
                table,
                sums.signal,
                sums.weight,
                sums.poisson,
                sums.rnoise,
                sums.seen,
                start,
                stop,
            ),
        )

    def close(self, state: ExposureState, flags: Quality = Quality.GOOD) -> RateFrame:
        """Close an exposure after its last ramp; its state must not be used again.

        Parameters
        ----------
        state : ExposureState
        flags : Quality
            Flags for all pixels (DROPOUT).
        """
        self.end_ramp(state)
        calibration = state.calibration
        sums, state.sums = state.sums or Sums.alloc(calibration.gain.shape), None
        dq = calibration.dq | np.uint32(flags)
        self._rows(
            dq.shape[0],
            lambda start, stop: close_rows(
                calibration.gain,
                calibration.read_noise,
                sums.seen,
                sums.signal,
                sums.weight,
                sums.poisson,
                sums.rnoise,
                dq,
                start,
                stop,
            ),
        )
        return RateFrame(
            data=sums.signal,
            err=sums.weight,
            var_poisson=sums.poisson,
            var_rnoise=sums.rnoise,
            dq=dq,
            saturated_fraction=_saturated_fraction(sums.seen[calibration.science]),
        )

    def _rows(self, rows: int, work: Callable[[int, int], object]) -> None:
        bands = [self._pool.submit(work, start, min(start + _BAND_ROWS, rows)) for start in range(0, rows, _BAND_ROWS)]
        for band in bands:
            band.result()


def _table(mode: SamplingMode, times_s: list[float], full_time_s: float) -> NDArray[np.float32]:
    """Factors by number of good reads for `add_rows`; float64 throughout, rounded once."""
    estimator = cds if mode is SamplingMode.CDS else utr
    times = np.array(times_s)
    table = np.zeros((4, len(times) + 1))
    for n in range(2, len(times) + 1):
        used = times[:n]
        weights = estimator.weights(used)
        ramp_weight = (used[-1] - used[0]) / full_time_s
        table[:, n] = (
            ramp_weight,
            ramp_weight * estimator.scale(used),
            ramp_weight**2 * poisson_factor(weights, used),
            ramp_weight**2 * read_noise_factor(weights),
        )
    return table.astype(np.float32)


def _saturated_fraction(science: NDArray[np.uint8]) -> float:
    return float(np.mean((science & Quality.SATURATED) != 0)) if science.size else 0.0
