"""Fit the rate of every pixel to the reads of a ramp that is whole.

Rows are taken in tiles of a few columns whose differences stay in the cache: linear differences, a search for jumps,
the fit, its variances. Loops over reads are outside, loops over columns inside and without branches; a pixel is
taken alone only when it may have a jump. Every pixel is computed on its own: the result does not depend on how rows
are shared among threads. On a graphics processor (`cuda.kernels`) a thread has a tile of one column.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling import likelihood
from irisdrs.readout.sampling.differences import Detector, Ramp, Tile, linear_differences, stripe_columns
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

#: Columns of a tile: its planes of 100 reads take 1 MB, which a core has to itself.
_TILE_COLUMNS = 512

#: float32 values in a line of the cache.
_CACHE_LINE = 16

#: Planes of a `Tile`, rows of sums that `fit_columns` takes for its columns, and lines of a `Pixel`.
TILE_PLANES, SUMS, PIXEL_LINES = 5, 16, 6

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


class Pixel(NamedTuple):
    """A thread's scratch for the differences of one pixel: float32 (used reads,).

    Attributes
    ----------
    difference
        DN; 0 where it is not good.
    noise
        As in `Tile`.
    good
        1 or 0.
    first, second, third
        Scratch of the functions that the pixel is handed to.
    """

    difference: NDArray[np.float32]
    noise: NDArray[np.float32]
    good: NDArray[np.float32]
    first: NDArray[np.float32]
    second: NDArray[np.float32]
    third: NDArray[np.float32]


@kernel
def fit_rows(ramp: Ramp, detector: Detector, method: Method, planes: Planes, start: int, stop: int) -> None:
    """Fit the rows `start` to `stop`, in place."""
    used = max(len(ramp.used), 1)
    plane = _aligned_lines(TILE_PLANES * used).reshape(TILE_PLANES, used, _TILE_COLUMNS)
    tile = Tile(plane[0], plane[1], plane[2], plane[3], plane[4], np.arange(1, used))
    sums = _aligned_lines(SUMS)
    suspect = np.zeros(_TILE_COLUMNS, np.uint8)
    pixel = np.zeros((PIXEL_LINES, used), np.float32)
    common = common_weights(ramp.interval, method)
    columns = stripe_columns(ramp)
    for row in range(start, stop):
        for stripe in range(ramp.row_offset.shape[2]):
            first, last = stripe * columns, (stripe + 1) * columns
            for left in range(first, last, _TILE_COLUMNS):
                width = min(_TILE_COLUMNS, last - left)
                fit_columns(ramp, detector, method, planes, row, left, width, tile, sums, suspect, pixel, common)


@kernel
def _aligned_lines(number: int) -> NDArray[np.float32]:
    """Scratch, float32 (number, tile columns), uninitialised. Its lines begin with a line of the cache.

    A vector that lies in two lines of the cache takes twice as long to load.
    """
    values = number * _TILE_COLUMNS
    room = np.empty(values + _CACHE_LINE, np.float32)
    skip = (-room.ctypes.data // room.itemsize) % _CACHE_LINE
    return room[skip : skip + values].reshape(number, _TILE_COLUMNS)


@kernel
def fit_columns(
    ramp: Ramp,
    detector: Detector,
    method: Method,
    planes: Planes,
    row: int,
    left: int,
    width: int,
    tile: Tile,
    sums: NDArray[np.float32],
    suspect: NDArray[np.uint8],
    pixels: NDArray[np.float32],
    common: NDArray[np.float32],
) -> None:
    """Fit the columns from `left` to `left + width` of a row, in place.

    Parameters
    ----------
    tile : Tile
        Scratch, of at least these columns.
    sums : float32 (SUMS, columns)
        Scratch.
    suspect : uint8 (columns,)
        Scratch.
    pixels : float32 (PIXEL_LINES, used reads)
        Scratch.
    common : float32 (powers, used reads)
        From `common_weights`.
    """
    fit = Fit(sums[0], sums[1], sums[2], sums[3], sums[4], sums[5], sums[6], sums[7], sums[8])
    saturated, floored, lines = sums[9], sums[10], sums[11:SUMS]
    pixel = Pixel(pixels[0], pixels[1], pixels[2], pixels[3], pixels[4], pixels[5])
    for x in range(width):
        fit.inverse_gain[x] = np.float32(1) / detector.gain[row, left + x]
    linear_differences(ramp, detector, row, left, width, tile, lines, saturated, floored)
    likelihood.guess_rates(tile, ramp.interval, fit, width)
    dq = detector.dq[row, left : left + width]
    _drop_jumps(ramp, method, dq, tile, fit, width, lines, suspect, pixel)
    _fit_tile(ramp, method, tile, fit, width, lines, common, pixel)
    _store(method, planes, fit, row, left, width, saturated, floored, suspect, lines[0])


@kernel
def _drop_jumps(
    ramp: Ramp,
    method: Method,
    dq: NDArray[np.uint32],
    tile: Tile,
    fit: Fit,
    width: int,
    lines: NDArray[np.float32],
    suspect: NDArray[np.uint8],
    pixel: Pixel,
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
        may_have_step(tile, fit, method.limits.chi2, width, lines[0], lines[1], lines[2], lines[3], suspect)
    else:
        suspect[:] = 1
    for x in range(width):
        suspect[x] = suspect[x] if (dq[x] & _DO_NOT_USE) == 0 else 0
        if suspect[x] == 0:
            continue
        _take_pixel(tile, x, pixel)
        if method.jump_test == STEP_TEST:
            jumps, fit.rate[x] = drop_steps(
                pixel.difference,
                ramp.interval,
                pixel.noise,
                pixel.good,
                fit.inverse_gain[x],
                method.limits.chi2,
                pixel.first,
                pixel.second,
                pixel.third,
            )
        else:
            jumps = drop_outliers(
                pixel.difference,
                ramp.interval,
                pixel.noise,
                pixel.good,
                fit.inverse_gain[x],
                method.limits,
                usable,
                pixel.first,
                pixel.second,
            )
        suspect[x] = 1 if jumps > 0 else 0
        for j in range(len(ramp.interval)):
            if pixel.good[j] == np.float32(0) and tile.difference[j, x] == tile.difference[j, x]:
                tile.difference[j, x] = np.float32(np.nan)
                fit.number[x] -= np.float32(1)
                fit.time[x] -= ramp.interval[j]
    if method.jump_test == OUTLIER_TEST:
        likelihood.guess_rates(tile, ramp.interval, fit, width)


@kernel
def _take_pixel(tile: Tile, x: int, pixel: Pixel) -> None:
    """Copy a column of the tile."""
    for j in range(len(pixel.good)):
        is_good = tile.difference[j, x] == tile.difference[j, x]
        pixel.difference[j] = tile.difference[j, x] if is_good else np.float32(0)
        pixel.noise[j] = tile.noise[j, x]
        pixel.good[j] = np.float32(is_good)


@kernel
def _fit_tile(
    ramp: Ramp,
    method: Method,
    tile: Tile,
    fit: Fit,
    width: int,
    lines: NDArray[np.float32],
    common: NDArray[np.float32],
    pixel: Pixel,
) -> None:
    """Estimate rates and variances; `fit.a` becomes chi^2."""
    if method.mode == LIKELIHOOD:
        if method.jump_test != STEP_TEST:
            likelihood.factorise(tile, ramp.interval, fit, width)
            likelihood.improve_rates(fit, width)
        likelihood.factorise(tile, ramp.interval, fit, width)
        likelihood.spread(tile, ramp.interval, fit, width, lines[0])
    else:
        _weigh_linearly(ramp, method, tile, fit, width, common, pixel)
        likelihood.spread_of_weights(tile, ramp.interval, fit, width)
    for x in range(width):
        inverse = np.float32(1) / fit.c[x] if fit.c[x] > np.float32(0) else np.float32(0)
        fit.rate[x] += fit.b[x] * inverse
        fit.a[x] = max(fit.a[x] - fit.b[x] * fit.b[x] * inverse, np.float32(0))


@kernel
def _weigh_linearly(
    ramp: Ramp,
    method: Method,
    tile: Tile,
    fit: Fit,
    width: int,
    common: NDArray[np.float32],
    pixel: Pixel,
) -> None:
    """Weights of a linear mode in the tile's levers, and its sums in b and c; the guessed rates are kept."""
    last = len(ramp.interval) - 1
    whole = np.float32(last) if _is_whole(ramp.usable) else np.float32(-1)
    for x in range(width):
        _take_pixel(tile, x, pixel)
        inverse_gain = fit.inverse_gain[x]
        weights = pixel.first
        if fit.number[x] == whole:
            weights = common[0]
            if method.mode == FIXSEN:
                weights = common[power_class_of(pixel.difference, pixel.noise, 1, last + 1, inverse_gain)]
        else:
            difference_weights(
                method.mode,
                method.fowler_reads,
                pixel.difference,
                ramp.interval,
                pixel.noise,
                pixel.good,
                inverse_gain,
                OWN_CLASS,
                weights,
            )
        b = c = np.float32(0)
        for j in range(1, len(ramp.interval)):
            tile.lever[j, x] = weights[j]
            b += weights[j] * (pixel.difference[j] - fit.rate[x] * ramp.interval[j])
            c += weights[j] * ramp.interval[j]
        tile.lever[0, x] = np.float32(0)
        fit.a[x], fit.b[x], fit.c[x] = np.float32(0), b, c


@kernel
def _is_whole(usable: NDArray[np.bool_]) -> bool:
    """Whether all differences between the used reads may be used, so that a good pixel has one segment."""
    number = 0
    for j in range(len(usable)):
        number += 1 if usable[j] else 0
    return number == len(usable) - 1


@kernel
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


@kernel
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
    usable: NDArray[np.float32],
) -> None:
    """Put what was found into the planes; `usable` is scratch."""
    rate, poisson = planes.rate[row, left : left + width], planes.poisson[row, left : left + width]
    rnoise, chi2 = planes.rnoise[row, left : left + width], planes.chi2[row, left : left + width]
    time, number = planes.time[row, left : left + width], planes.number[row, left : left + width]
    dq = planes.dq[row, left : left + width]
    for x in range(width):
        is_finite = math.isfinite(fit.rate[x]) & math.isfinite(fit.poisson[x]) & math.isfinite(fit.rnoise[x])
        usable[x] = np.float32(is_finite & (fit.number[x] > np.float32(0)))
    for x in range(width):
        rate[x] = fit.rate[x] if usable[x] > np.float32(0) else np.float32(0)
        poisson[x] = fit.poisson[x] if usable[x] > np.float32(0) else np.float32(0)
        rnoise[x] = fit.rnoise[x] if usable[x] > np.float32(0) else np.float32(0)
        chi2[x] = fit.a[x] if usable[x] > np.float32(0) else np.float32(0)
        time[x] = fit.time[x] if usable[x] > np.float32(0) else np.float32(0)
        number[x] = np.uint16(fit.number[x] * usable[x])
    for x in range(width):
        flags = _SATURATED if saturated[x] > np.float32(0) else np.uint32(0)
        flags |= _AD_FLOOR if floored[x] > np.float32(0) else np.uint32(0)
        flags |= _JUMP_DET if suspect[x] > 0 else np.uint32(0)
        flags |= _UNRELIABLE_SLOPE if fit.a[x] > method.chi2_limit[np.int64(fit.number[x])] else np.uint32(0)
        dq[x] |= flags if usable[x] > np.float32(0) else flags | _DO_NOT_USE
