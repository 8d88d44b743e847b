"""Reads folded into an exposure's rate, on the CPU, in the order in which they are given."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.coadd import Coadd
from irisdrs.readout.sampling.fold import (
    AD_FLOOR,
    NO_LINEARITY,
    NO_OFFSET,
    NO_SATURATION_LEVEL,
    SATURATED,
    DetectorConstants,
    RampState,
    fold,
)
from irisdrs.readout.sampling.reference_pixels import column_offsets
from irisdrs.readout.sampling.slope import Slopes, fit_cds, fit_utr
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

_ESTIMATORS = {SamplingMode.UTR: fit_utr, SamplingMode.CDS: fit_cds}

#: From the state's flags to DQ. A pixel without its reference-pixel offset has no known zero: its slope is not to be
#: trusted, because offsets drift from read to read.
_QUALITY = (
    (SATURATED, Quality.SATURATED),
    (AD_FLOOR, Quality.AD_FLOOR),
    (NO_LINEARITY, Quality.NO_LIN_CORR),
    (NO_SATURATION_LEVEL, Quality.NO_SAT_CHECK),
    (NO_OFFSET, Quality.UNRELIABLE_SLOPE),
)


@dataclass(frozen=True, slots=True)
class FrameArrays:
    """A raw science frame's arrays, (ny, nx).

    Attributes
    ----------
    rate, err : float32
        DN/s; err is the square root of the sum of both variances.
    var_poisson, var_rnoise : float32
        (DN/s)^2.
    dq : uint32
        Flags of `irisdrs.shared.quality`.
    saturated_fraction : float
        Of the science pixels.
    """

    rate: NDArray[np.float32]
    err: NDArray[np.float32]
    var_poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    dq: NDArray[np.uint32]
    saturated_fraction: float


class Accumulation:
    """Running sums of an exposure.

    Parameters
    ----------
    mode : SamplingMode
    constants : DetectorConstants
    gain : (ny, nx) float32
        e-/DN.
    noise : (ny, nx) float32
        Noise of one read, DN.
    """

    def __init__(
        self, mode: SamplingMode, constants: DetectorConstants, gain: NDArray[np.float32], noise: NDArray[np.float32]
    ) -> None:
        self._mode, self._constants, self._gain, self._noise = mode, constants, gain, noise
        self._coadd = Coadd()
        self._flags = np.zeros(gain.shape, np.uint8)
        self._state: RampState | None = None
        self._ramp = 0
        self._times_s: list[float] = []
        self._mean_times_s = [0.0]

    def fold(self, ramp: int, pixels: NDArray[np.uint16], time_s: float) -> None:
        """Fold a read; the reads of a ramp in the order of their times, the ramps one after another."""
        if ramp != self._ramp or self._state is None:
            self._finish_ramp()
            self._ramp, self._state = ramp, RampState.empty(pixels.shape)  # type: ignore[arg-type]
        constants, state = self._constants, self._state
        offsets = column_offsets(pixels, constants.good_reference, constants.border, constants.channel_columns)
        fold(
            pixels,
            time_s,
            np.array(self._mean_times_s),
            offsets,
            constants.saturation,
            constants.coefficients,
            state.first,
            state.last,
            state.mean,
            state.comoment,
            state.count,
            state.flags,
        )
        self._times_s.append(time_s)
        self._mean_times_s.append(float(np.mean(self._times_s)))

    def finish(self, dropout: bool) -> FrameArrays:
        """Rate, variances and flags of what was folded.

        Parameters
        ----------
        dropout : bool
            Whether reads are missing: flags every pixel.
        """
        self._finish_ramp()
        slopes = self._coadd.result()
        dq = self._quality(slopes, dropout)
        border = self._constants.border
        science = (self._flags & SATURATED != 0)[border:-border, border:-border]
        err = np.sqrt(slopes.var_poisson + slopes.var_rnoise)
        return FrameArrays(
            slopes.rate, err, slopes.var_poisson, slopes.var_rnoise, dq, float(np.count_nonzero(science) / science.size)
        )

    def _finish_ramp(self) -> None:
        if self._state is None:
            return
        times_s = np.array(self._times_s)
        self._coadd.add(_ESTIMATORS[self._mode](self._state, times_s, self._gain, self._noise))
        self._flags |= self._state.flags
        self._state, self._times_s, self._mean_times_s = None, [], [0.0]

    def _quality(self, slopes: Slopes, dropout: bool) -> NDArray[np.uint32]:
        dq = np.full(self._flags.shape, int(Quality.DROPOUT if dropout else Quality.GOOD), np.uint32)
        for bit, flag in _QUALITY:
            dq[(self._flags & bit) != 0] |= np.uint32(flag)
        dq[slopes.good_time_s == 0] |= np.uint32(Quality.DO_NOT_USE)
        border = self._constants.border
        reference = np.uint32(Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE)
        for edge in (dq[:border], dq[-border:], dq[:, :border], dq[:, -border:]):
            edge |= reference
        return dq
