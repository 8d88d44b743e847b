"""Add the fits of an exposure's ramps to one frame."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.fitting import RampFit
from irisdrs.shared.quality import Quality

#: Rows that are added at a time, over all ramps: what is computed on the way stays small.
_BAND_ROWS = 256


class RampWeights(StrEnum):
    """How ramps count."""

    #: By the inverse of their variance at one common rate. A ramp's own rate must not weigh it: low ones would win.
    VARIANCE = "variance"
    #: By their exposure time in good differences.
    TIME = "time"
    #: By that time, and not averaged: a pixel has the signal that it collected, DN, of all its ramps.
    SUM = "sum"


@dataclass(frozen=True, slots=True)
class SummedFrame(RateFrame):
    """A frame of ramps that were summed: DN where `RateFrame` has DN/s, DN^2 where it has (DN/s)^2.

    Attributes
    ----------
    time_s : float32 (rows, columns)
        In which the signal was collected: less where a ramp lost intervals, and with them their part of the sum.
    """

    time_s: NDArray[np.float32]


def coadd(
    fits: Sequence[RampFit],
    calibration: Calibration,
    weighting: RampWeights = RampWeights.VARIANCE,
    flags: Quality = Quality.GOOD,
) -> tuple[RateFrame, NDArray[np.uint16]]:
    """Mean rate, or summed signal, of the ramps of an exposure, with variances that are exact for the weights used.

    Parameters
    ----------
    fits : sequence of RampFit
        At least one, at most 65535.
    calibration : Calibration
    weighting : RampWeights
    flags : Quality
        Flags for all pixels (DROPOUT).

    Returns
    -------
    frame : RateFrame
        A `SummedFrame` if they are summed. DQ has the flags of the references and those of all ramps; DO_NOT_USE of a
        ramp only where no ramp is usable.
    ramps : uint16 (rows, columns)
        Ramps that have a rate.
    """
    shape = fits[0].rate.shape
    data, err, poisson, rnoise = (np.zeros(shape, np.float32) for _ in range(4))
    dq = calibration.dq | np.uint32(flags)
    ramps = np.zeros(shape, np.uint16)
    saturated = np.zeros(shape, np.bool_)
    summed = weighting is RampWeights.SUM
    time_s = np.zeros(shape if summed else (0, 0), np.float32)
    band = max(_BAND_ROWS // len(fits), 1)
    for start in range(0, shape[0], band):
        rows = slice(start, start + band)
        usable = np.stack([fit.differences[rows] > 0 for fit in fits])
        times = np.where(usable, np.stack([fit.time_s[rows] for fit in fits]), np.float32(0))
        shares = times if summed else _shares(fits, rows, usable, times, weighting)
        data[rows] = sum(share * fit.rate[rows] for share, fit in zip(shares, fits, strict=True))
        poisson[rows] = sum(share**2 * fit.poisson[rows] for share, fit in zip(shares, fits, strict=True))
        common = data[rows]
        if summed:
            time_s[rows] = times.sum(axis=0)
            common = data[rows] / _divisor(time_s[rows])
        poisson[rows] *= np.maximum(common, np.float32(0))
        rnoise[rows] = sum(share**2 * fit.var_rnoise[rows] for share, fit in zip(shares, fits, strict=True))
        err[rows] = np.sqrt(poisson[rows] + rnoise[rows])
        seen = np.bitwise_or.reduce([fit.dq[rows] for fit in fits])
        ramps[rows] = usable.sum(axis=0)
        unusable = np.where(ramps[rows] > 0, np.uint32(0), np.uint32(Quality.DO_NOT_USE))
        dq[rows] |= (seen & ~np.uint32(Quality.DO_NOT_USE)) | unusable
        saturated[rows] = (seen & np.uint32(Quality.SATURATED)) != 0
    planes = data, err, poisson, rnoise, dq, _fraction(saturated[calibration.science])
    return SummedFrame(*planes, time_s) if summed else RateFrame(*planes), ramps


def frame_of(fit: RampFit, calibration: Calibration, flags: Quality = Quality.GOOD) -> RateFrame:
    """The frame of an exposure of one ramp, in the planes of its fit, which must not be used again.

    Equal to `coadd` of the one ramp, without the memory for another frame.
    """
    err = fit.chi2
    saturated = np.zeros(fit.rate.shape, np.bool_)
    for start in range(0, fit.rate.shape[0], _BAND_ROWS):
        rows = slice(start, start + _BAND_ROWS)
        fit.poisson[rows] *= np.maximum(fit.rate[rows], np.float32(0))
        err[rows] = np.sqrt(fit.poisson[rows] + fit.var_rnoise[rows])
        saturated[rows] = (fit.dq[rows] & np.uint32(Quality.SATURATED)) != 0
        fit.dq[rows] |= calibration.dq[rows] | np.uint32(flags)
    fraction = _fraction(saturated[calibration.science])
    return RateFrame(fit.rate, err, fit.poisson, fit.var_rnoise, fit.dq, fraction)


def _fraction(science: NDArray[np.bool_]) -> float:
    return float(science.mean()) if science.size else 0.0


def _shares(
    fits: Sequence[RampFit],
    rows: slice,
    usable: NDArray[np.bool_],
    times: NDArray[np.float32],
    weighting: RampWeights,
) -> NDArray[np.float32]:
    """Share of each ramp in the mean, (ramps, rows, columns); 0 everywhere where none is usable."""
    shares = _normalised(times)
    if weighting is RampWeights.TIME:
        return shares
    common = np.maximum(sum(share * fit.rate[rows] for share, fit in zip(shares, fits, strict=True)), np.float32(0))
    variances = np.stack([fit.poisson[rows] * common + fit.var_rnoise[rows] for fit in fits])
    return _normalised(np.where(usable, 1 / np.where(usable, variances, np.float32(1)), np.float32(0)))


def _normalised(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(weights / _divisor(weights.sum(axis=0)))


def _divisor(total: NDArray[np.float32]) -> NDArray[np.float32]:
    """A sum of weights, 1 where there is none."""
    return np.where(total > 0, total, np.float32(1))
