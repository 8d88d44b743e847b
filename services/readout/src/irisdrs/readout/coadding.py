"""Add the fits of an exposure's ramps to one frame."""

from collections.abc import Sequence
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


def coadd(
    fits: Sequence[RampFit],
    calibration: Calibration,
    weighting: RampWeights = RampWeights.VARIANCE,
    flags: Quality = Quality.GOOD,
) -> tuple[RateFrame, NDArray[np.uint16]]:
    """Mean rate of the ramps of an exposure, with variances that are exact for the weights used.

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
        DQ has the flags of the references and those of all ramps; DO_NOT_USE of a ramp only where no ramp is usable.
    ramps : uint16 (rows, columns)
        Ramps that have a rate.
    """
    shape = fits[0].rate.shape
    data, err, poisson, rnoise = (np.zeros(shape, np.float32) for _ in range(4))
    dq = calibration.dq | np.uint32(flags)
    ramps = np.zeros(shape, np.uint16)
    saturated = np.zeros(shape, np.bool_)
    band = max(_BAND_ROWS // len(fits), 1)
    for start in range(0, shape[0], band):
        rows = slice(start, start + band)
        usable = np.stack([fit.differences[rows] > 0 for fit in fits])
        shares = _shares(fits, rows, usable, weighting)
        data[rows] = sum(share * fit.rate[rows] for share, fit in zip(shares, fits, strict=True))
        poisson[rows] = sum(share**2 * fit.poisson[rows] for share, fit in zip(shares, fits, strict=True))
        poisson[rows] *= np.maximum(data[rows], np.float32(0))
        rnoise[rows] = sum(share**2 * fit.var_rnoise[rows] for share, fit in zip(shares, fits, strict=True))
        err[rows] = np.sqrt(poisson[rows] + rnoise[rows])
        seen = np.bitwise_or.reduce([fit.dq[rows] for fit in fits])
        ramps[rows] = usable.sum(axis=0)
        unusable = np.where(ramps[rows] > 0, np.uint32(0), np.uint32(Quality.DO_NOT_USE))
        dq[rows] |= (seen & ~np.uint32(Quality.DO_NOT_USE)) | unusable
        saturated[rows] = (seen & np.uint32(Quality.SATURATED)) != 0
    return RateFrame(data, err, poisson, rnoise, dq, _fraction(saturated[calibration.science])), ramps


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
    fits: Sequence[RampFit], rows: slice, usable: NDArray[np.bool_], weighting: RampWeights
) -> NDArray[np.float32]:
    """Share of each ramp in the mean, (ramps, rows, columns); 0 everywhere where none is usable."""
    times = np.stack([fit.time_s[rows] for fit in fits])
    shares = _normalised(np.where(usable, times, np.float32(0)))
    if weighting is RampWeights.TIME:
        return shares
    common = np.maximum(sum(share * fit.rate[rows] for share, fit in zip(shares, fits, strict=True)), np.float32(0))
    variances = np.stack([fit.poisson[rows] * common + fit.var_rnoise[rows] for fit in fits])
    return _normalised(np.where(usable, 1 / np.where(usable, variances, np.float32(1)), np.float32(0)))


def _normalised(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    total = weights.sum(axis=0)
    return np.asarray(weights / np.where(total > 0, total, np.float32(1)))
