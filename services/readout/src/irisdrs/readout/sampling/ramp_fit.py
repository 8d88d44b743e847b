"""Fit the rate of every pixel to the reads of a ramp that is whole.

Rows are taken in tiles of a few columns whose differences stay in the cache: linear differences, a search for jumps,
the fit, its variances. Loops over reads are outside, loops over columns inside and without branches; a pixel is
taken alone only when it may have a jump. Every pixel is computed on its own: the result does not depend on how rows
are shared among threads. On a graphics processor (`cuda.kernels`) a thread has a tile of one column.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from irisdrs.readout.sampling import likelihood
from irisdrs.readout.sampling.differences import Detector, Ramp, Tile, linear_differences
from irisdrs.readout.sampling.fixsen import POWERS
from irisdrs.readout.sampling.jumps import JumpLimits, drop_outliers, drop_steps, may_have_step
from irisdrs.readout.sampling.likelihood import Fit
from irisdrs.readout.sampling.linear_modes import (
    FIXSEN,
    LIKELIHOOD,
    OWN_CLASS,
    difference_weights,
    power_class_of,
)
from irisdrs.shared.quality import Quality

_DO_NOT_USE = np.uint32(Quality.DO_NOT_USE)
_SATURATED = np.uint32(Quality.SATURATED)
_AD_FLOOR = np.uint32(Quality.AD_FLOOR)
_JUMP_DET = np.uint32(Quality.JUMP_DET)
_UNRELIABLE_SLOPE = np.uint32(Quality.UNRELIABLE_SLOPE)

#: Columns of a tile: its planes of 100 reads take 0.6 MB, about what a core has to itself.
_TILE_COLUMNS = 256

#: Jump tests, as the kernel knows them.
NO_TEST, STEP_TEST, OUTLIER_TEST = range(3)


class Method(NamedTuple):
    """How to fit.

    Attributes
    ----------
    mode : int
        Of `linear_modes`.
    fowler_reads : int
        FOWLER: reads in each group.
    jump_test : int
        NO_TEST, STEP_TEST (likelihood), OUTLIER_TEST (two-point difference).
    limits : JumpLimits
    chi2_limit : float32 (used reads,)
        By number of differences, chi^2 above which a slope is unreliable.
    """

    mode: int
    fowler_reads: int
    jump_test: int
    limits: JumpLimits
    chi2_limit: NDArray[np.float32]


class Planes(NamedTuple):
    """What the fit finds, (rows, columns); zeros before.

    Attributes
    ----------
    rate : float32
        DN/s.
    poisson : float32
        Variance by photons for each DN/s of rate, DN/s.
    rnoise : float32
        Variance by read noise, (DN/s)^2.
    chi2 : float32
        Of the likelihood fit; 0 for other modes.
    time : float32
        Sum of the used differences' times, s.
    number : uint16
        Used differences.
    dq : uint32
    """

    rate: NDArray[np.float32]
    poisson: NDArray[np.float32]
    rnoise: NDArray[np.float32]
    chi2: NDArray[np.float32]
    time: NDArray[np.float32]
    number: NDArray[np.uint16]
    dq: NDArray[np.uint32]


@njit(nogil=True, cache=True, error_model="numpy")
def fit_rows(ramp: Ramp, detector: Detector, method: Method, planes: Planes, start: int, stop: int) -> None:
    """Fit the rows `start` to `stop`, in place."""
    used = max(len(ramp.used), 1)
    tile = Tile(
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.empty((used, _TILE_COLUMNS), np.float32),
        np.arange(1, used),
    )
    sums = np.zeros((16, _TILE_COLUMNS), np.float32)
    fit = Fit(sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7], sums[8])
    suspect = np.zeros(_TILE_COLUMNS, np.uint8)
    pixel = np.zeros((6, used), np.float32)
    common = common_weights(ramp.interval, method)
    columns = planes.rate.shape[1]
    for row in range(start, stop):
        for left in range(0, columns, _TILE_COLUMNS):
            width = min(_TILE_COLUMNS, columns - left)
            fit_columns(ramp, detector, method, planes, row, left, width, tile, fit, sums, suspect, pixel, common)


@njit(nogil=True, cache=True, error_model="numpy")
def fit_columns(
    ramp: Ramp,
    detector: Detector,
    method: Method,
    planes: Planes,
    row: int,
    left: int,
    width: int,
    tile: Tile,
    fit: Fit,
    sums: NDArray[np.float32],
    suspect: NDArray[np.uint8],
    pixel: NDArray[np.float32],
    common: NDArray[np.float32],
) -> None:
    """Fit the columns from `left` to `left + width` of a row, in place.

    Parameters
    ----------
    tile, fit : Tile, Fit
        Scratch, of at least these columns.
    sums : float32 (16, columns)
        Scratch, of which `fit` has the first nine.
    suspect : uint8 (columns,)
        Scratch.
    pixel : float32 (6, used reads)
        Scratch.
    common : float32 (powers, used reads)
        From `common_weights`.
    """
    saturated, floored = sums[14], sums[15]
    for x in range(width):
        fit.inverse_gain[x] = np.float32(1) / detector.gain[row, left + x]
    limit, level, bent, lines = sums[9], sums[10], sums[11], sums[12:14]
    linear_differences(ramp, detector, row, left, width, tile, limit, level, bent, lines, saturated, floored)
    likelihood.guess_rates(tile, ramp.interval, fit, width)
    dq = detector.dq[row, left : left + width]
    _drop_jumps(ramp, method, dq, tile, fit, width, sums, suspect, pixel)
    _fit_tile(ramp, method, tile, fit, width, common, pixel)
    _store(method, planes, fit, row, left, width, saturated, floored, suspect)


@njit(nogil=True, cache=True, error_model="numpy")
def _drop_jumps(
    ramp: Ramp,
    method: Method,
    dq: NDArray[np.uint32],
    tile: Tile,
    fit: Fit,
    width: int,
    sums: NDArray[np.float32],
    suspect: NDArray[np.uint8],
    pixel: NDArray[np.float32],
) -> None:
    """Leave out jumps; `suspect` stays 1 for pixels that have one.

    Pixels that nobody uses are not searched: what is wrong with them looks like a jump at every read.
    The likelihood test leaves rates of a first fit behind, the others guessed ones.
    """
    suspect[:] = 0
    if method.jump_test == NO_TEST:
        return
    usable = 0
    for j in range(len(ramp.usable)):
        usable += 1 if ramp.usable[j] else 0
    if method.jump_test == STEP_TEST:
        likelihood.factorise(tile, ramp.interval, fit, width)
        may_have_step(tile, fit, method.limits.chi2, width, sums[9], sums[10], sums[11], sums[12], suspect)
    else:
        suspect[:] = 1
    difference, noise, good = pixel[0], pixel[1], pixel[2]
    for x in range(width):
        suspect[x] = suspect[x] if (dq[x] & _DO_NOT_USE) == 0 else 0
        if suspect[x] == 0:
            continue
        for j in range(len(ramp.interval)):
            difference[j], noise[j], good[j] = tile.difference[j, x], tile.noise[j, x], tile.good[j, x]
        if method.jump_test == STEP_TEST:
            jumps, fit.rate[x] = drop_steps(
                difference,
                ramp.interval,
                noise,
                good,
                fit.inverse_gain[x],
                method.limits.chi2,
                pixel[3],
                pixel[4],
                pixel[5],
            )
        else:
            jumps = drop_outliers(
                difference,
                ramp.interval,
                noise,
                good,
                fit.inverse_gain[x],
                method.limits,
                usable,
                pixel[3],
                pixel[4],
            )
        suspect[x] = 1 if jumps > 0 else 0
        for j in range(len(ramp.interval)):
            if good[j] != tile.good[j, x]:
                tile.difference[j, x] = tile.good[j, x] = np.float32(0)
                fit.number[x] -= np.float32(1)
                fit.time[x] -= ramp.interval[j]
    if method.jump_test == OUTLIER_TEST:
        likelihood.guess_rates(tile, ramp.interval, fit, width)


@njit(nogil=True, cache=True, error_model="numpy")
def _fit_tile(
    ramp: Ramp,
    method: Method,
    tile: Tile,
    fit: Fit,
    width: int,
    common: NDArray[np.float32],
    pixel: NDArray[np.float32],
) -> None:
    """Estimate rates and variances; `fit.a` becomes chi^2."""
    if method.mode == LIKELIHOOD:
        if method.jump_test != STEP_TEST:
            likelihood.factorise(tile, ramp.interval, fit, width)
            likelihood.improve_rates(fit, width)
        likelihood.factorise(tile, ramp.interval, fit, width)
        likelihood.weigh_differences(tile, width)
    else:
        _weigh_linearly(ramp, method, tile, fit, width, common, pixel)
    likelihood.spread(tile, ramp.interval, fit, width)
    for x in range(width):
        inverse = np.float32(1) / fit.c[x] if fit.c[x] > np.float32(0) else np.float32(0)
        fit.rate[x] += fit.b[x] * inverse
        fit.a[x] = max(fit.a[x] - fit.b[x] * fit.b[x] * inverse, np.float32(0))


@njit(nogil=True, cache=True, error_model="numpy")
def _weigh_linearly(
    ramp: Ramp,
    method: Method,
    tile: Tile,
    fit: Fit,
    width: int,
    common: NDArray[np.float32],
    pixel: NDArray[np.float32],
) -> None:
    """Weights of a linear mode in the tile's levers, and its sums in b and c; the guessed rates are kept."""
    difference, noise, good, weight = pixel[0], pixel[1], pixel[2], pixel[3]
    last = len(ramp.interval) - 1
    whole = np.float32(last) if _is_whole(ramp.usable) else np.float32(-1)
    for x in range(width):
        for j in range(len(ramp.interval)):
            difference[j], noise[j], good[j] = tile.difference[j, x], tile.noise[j, x], tile.good[j, x]
        inverse_gain = fit.inverse_gain[x]
        weights = weight
        if fit.number[x] == whole:
            weights = common[0]
            if method.mode == FIXSEN:
                weights = common[power_class_of(difference, noise, 1, last + 1, inverse_gain)]
        else:
            difference_weights(
                method.mode,
                method.fowler_reads,
                difference,
                ramp.interval,
                noise,
                good,
                inverse_gain,
                OWN_CLASS,
                weight,
            )
        b = c = np.float32(0)
        for j in range(1, len(ramp.interval)):
            tile.lever[j, x] = weights[j]
            b += weights[j] * (difference[j] - fit.rate[x] * ramp.interval[j])
            c += weights[j] * ramp.interval[j]
        tile.lever[0, x] = np.float32(0)
        fit.a[x], fit.b[x], fit.c[x] = np.float32(0), b, c


@njit(nogil=True, cache=True, error_model="numpy")
def _is_whole(usable: NDArray[np.bool_]) -> bool:
    """Whether all differences between the used reads may be used, so that a good pixel has one segment."""
    number = 0
    for j in range(len(usable)):
        number += 1 if usable[j] else 0
    return number == len(usable) - 1


@njit(nogil=True, cache=True, error_model="numpy")
def common_weights(interval: NDArray[np.float32], method: Method) -> NDArray[np.float32]:
    """Weights of pixels without a flaw, for each class of powers."""
    used = max(len(interval), 1)
    found = np.zeros((len(POWERS), used), np.float32)
    nothing, good = np.zeros(used, np.float32), np.ones(used, np.float32)
    if method.mode != LIKELIHOOD and len(interval) > 1:
        for power_class in range(len(POWERS)):
            difference_weights(
                method.mode,
                method.fowler_reads,
                nothing,
                interval,
                nothing,
                good,
                np.float32(1),
                power_class,
                found[power_class],
            )
    return found


@njit(nogil=True, cache=True, error_model="numpy")
def _store(
    method: Method,
    planes: Planes,
    fit: Fit,
    row: int,
    left: int,
    width: int,
    saturated: NDArray[np.float32],
    floored: NDArray[np.float32],
    suspect: NDArray[np.uint8],
) -> None:
    for x in range(width):
        column = left + x
        number = np.int64(fit.number[x])
        finite = math.isfinite(fit.rate[x]) & math.isfinite(fit.poisson[x]) & math.isfinite(fit.rnoise[x])
        usable = finite & (number > 0)
        dq = _SATURATED if saturated[x] > np.float32(0) else np.uint32(0)
        dq |= _AD_FLOOR if floored[x] > np.float32(0) else np.uint32(0)
        dq |= _JUMP_DET if suspect[x] > 0 else np.uint32(0)
        dq |= _UNRELIABLE_SLOPE if fit.a[x] > method.chi2_limit[number] else np.uint32(0)
        dq |= np.uint32(0) if usable else _DO_NOT_USE
        planes.rate[row, column] = fit.rate[x] if usable else np.float32(0)
        planes.poisson[row, column] = fit.poisson[x] if usable else np.float32(0)
        planes.rnoise[row, column] = fit.rnoise[x] if usable else np.float32(0)
        planes.chi2[row, column] = fit.a[x] if usable else np.float32(0)
        planes.time[row, column] = fit.time[x] if usable else np.float32(0)
        planes.number[row, column] = np.uint16(number) if usable else np.uint16(0)
        planes.dq[row, column] |= dq
