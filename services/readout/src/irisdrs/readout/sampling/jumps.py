"""Jumps: differences that a cosmic ray has raised, found and left out.

Two tests. `drop_steps` is that of the likelihood (Brandt 2024, PASP 136, 045005): the difference whose omission lowers
chi^2 most is left out when it does so by more than a limit, and the rest is tested again; it knows that neighbouring
differences share a read, and so finds small jumps. `drop_outliers` compares every difference with their median
(Anderson & Gordon 2011, PASP 123, 1237), as `stcal.jump.twopoint_difference.find_crs` does.

All functions but `may_have_step` work on the differences of one pixel, float32 (used reads,), as in `Pixel`.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.differences import Tile
from irisdrs.readout.sampling.likelihood import Fit, eliminate, invert_diagonal, substitute

#: Fewer differences than these cannot tell which of them has the jump (Brandt 2024).
FEWEST_DIFFERENCES = 3


class JumpLimits(NamedTuple):
    """Limits of the jump tests; `settings` of the fit explains them.

    Attributes
    ----------
    chi2
        Likelihood test, fall of chi^2.
    normal, three, two
        Two-point test, standard deviations: with four or more, three, and two usable differences.
    single_pass
        Two-point test: from so many differences on, all are tested against one median.
    """

    chi2: np.float32
    normal: np.float32
    three: np.float32
    two: np.float32
    single_pass: int


@kernel
def may_have_step(
    tile: Tile,
    fit: Fit,
    limit: np.float32,
    width: int,
    rho: NDArray[np.float32],
    weight_after: NDArray[np.float32],
    diagonal: NDArray[np.float32],
    excess: NDArray[np.float32],
    suspect: NDArray[np.uint8],
) -> None:
    """Pixels of a factorised tile with a difference whose omission lowers chi^2 by more than the limit.

    `fit.rate` becomes the rate of the factorised fit, not negative.

    Parameters
    ----------
    rho, weight_after, diagonal, excess : float32 (columns,)
        Scratch.
    suspect : uint8 (columns,)
        Becomes 1 for such pixels.
    """
    for x in range(width):
        rho[x] = weight_after[x] = diagonal[x] = excess[x] = np.float32(0)
        fit.a[x] = fit.b[x] / fit.c[x] if fit.c[x] > np.float32(0) else np.float32(0)
        fit.c[x] = np.float32(1) / fit.c[x] if fit.c[x] > np.float32(0) else np.float32(0)
    for j in tile.lines[::-1]:
        residual, lever, weight, noise = tile.residual[j], tile.lever[j], tile.weight[j], tile.noise[j]
        for x in range(width):
            u = substitute(lever[x], noise[x], weight[x], weight_after[x])
            r = substitute(residual[x] - fit.a[x] * lever[x], noise[x], weight[x], rho[x])
            q = invert_diagonal(noise[x], weight[x], diagonal[x])
            excess[x] = max(excess[x], r * r - limit * (q - u * u * fit.c[x]))
            weight_after[x], rho[x], diagonal[x] = u, r, q
    for x in range(width):
        fit.rate[x] = max(fit.rate[x] + fit.a[x], np.float32(0))
        enough = fit.number[x] >= np.float32(FEWEST_DIFFERENCES)
        suspect[x] = np.uint8(1) if enough & (excess[x] > np.float32(0)) else np.uint8(0)


@kernel
def guess_rate(difference: NDArray[np.float32], interval: NDArray[np.float32], good: NDArray[np.float32]) -> np.float32:
    """Mean rate of the good differences but the steepest one, as `guess_rates`."""
    total = time = top_step = top_time = top = np.float32(0)
    number = 0
    for j in range(1, len(interval)):
        if good[j] > np.float32(0):
            steepness = difference[j] / interval[j]
            if number == 0 or steepness > top:
                top, top_step, top_time = steepness, difference[j], interval[j]
            total += difference[j]
            time += interval[j]
            number += 1
    if number > 1:
        total, time = total - top_step, time - top_time
    return max(total / time, np.float32(0)) if number > 0 else np.float32(0)


@kernel
def steepest_fall(
    difference: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    rate: np.float32,
    inverse_gain: np.float32,
    residual: NDArray[np.float32],
    lever: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> tuple[int, np.float32, np.float32]:
    """The difference whose omission lowers chi^2 most (0 if none does), by how much, and the rate of the fit, DN/s.

    Parameters
    ----------
    rate : float32
        For the covariance, DN/s, not negative.
    inverse_gain : float32
        DN per electron.
    residual, lever, weight : float32 (used,)
        Scratch.
    """
    b = c = np.float32(0)
    residual[0] = lever[0] = weight[0] = np.float32(0)
    for j in range(1, len(interval)):
        y, z, w = eliminate(
            difference[j] - rate * interval[j],
            interval[j],
            rate * inverse_gain,
            noise[j - 1],
            noise[j],
            good[j] > np.float32(0),
            residual[j - 1],
            lever[j - 1],
            weight[j - 1],
        )
        residual[j], lever[j], weight[j] = y, z, w
        b += w * y * z
        c += w * z * z
    found, fall = 0, np.float32(0)
    slope, u, r, q = b / c, np.float32(0), np.float32(0), np.float32(0)
    for j in range(len(interval) - 1, 0, -1):
        u = substitute(lever[j], noise[j], weight[j], u)
        r = substitute(residual[j] - slope * lever[j], noise[j], weight[j], r)
        q = invert_diagonal(noise[j], weight[j], q)
        free = q - u * u / c
        if free > np.float32(0) and r * r > fall * free:
            found, fall = j, r * r / free
    return found, fall, max(rate + slope, np.float32(0))


@kernel
def drop_steps(
    difference: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    inverse_gain: np.float32,
    limit: np.float32,
    residual: NDArray[np.float32],
    lever: NDArray[np.float32],
    weight: NDArray[np.float32],
) -> tuple[int, np.float32]:
    """Leave out jumps by the likelihood, largest first, until none is left or three differences are.

    `good` becomes 0 for them; the parameters are those of `steepest_fall`. Returns the number of jumps, and the rate
    of the rest (DN/s, not negative).
    """
    number = 0
    for j in range(1, len(interval)):
        number += 1 if good[j] > np.float32(0) else 0
    jumps = 0
    while True:
        guess = guess_rate(difference, interval, good)
        found, fall, rate = steepest_fall(
            difference, interval, noise, good, guess, inverse_gain, residual, lever, weight
        )
        few = number < FEWEST_DIFFERENCES or (jumps > 0 and number == FEWEST_DIFFERENCES)
        if few or not fall > limit:
            return jumps, rate
        good[found] = np.float32(0)
        jumps += 1
        number -= 1


@kernel
def sort(values: NDArray[np.float32], number: int) -> None:
    """Sort the first `number` values without further memory (Shell 1959, CACM 2, 30; Knuth's gaps 1, 4, 13, ..)."""
    gap = 1
    while 3 * gap < number:
        gap = 3 * gap + 1
    while gap > 0:
        for i in range(gap, number):
            value, j = values[i], i
            while j >= gap and values[j - gap] > value:
                values[j] = values[j - gap]
                j -= gap
            values[j] = value
        gap //= 3


@kernel
def median_of_sorted(values: NDArray[np.float32], number: int) -> np.float32:
    """Median of the first `number` sorted values."""
    half = number // 2
    lower = values[half] if number % 2 else values[half - 1]
    return np.float32(0.5 * (lower + values[half]))


@kernel
def deviation(
    steepness: np.float32,
    median: np.float32,
    interval: np.float32,
    noise: np.float32,
    noise_before: np.float32,
    inverse_gain: np.float32,
) -> np.float32:
    """Distance of a difference per time (DN/s) from the median, in standard deviations; 0 without noise."""
    variance = abs(median) * interval * inverse_gain + noise + noise_before
    return abs(steepness - median) * interval / math.sqrt(variance) if variance > np.float32(0) else np.float32(0)


@kernel
def drop_outliers(
    difference: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    inverse_gain: np.float32,
    limits: JumpLimits,
    usable: int,
    steepness: NDArray[np.float32],
    values: NDArray[np.float32],
) -> int:
    """Leave out jumps by the two-point difference; `good` becomes 0 for them. Returns the number of jumps.

    Parameters
    ----------
    usable : int
        Differences that the ramp has for pixels that never saturate: they decide how it is tested.
    steepness, values : float32 (used,)
        Scratch.
    """
    for j in range(1, len(interval)):
        steepness[j] = difference[j] / interval[j]
    jumps = 0
    if usable >= limits.single_pass:
        number = _gather(steepness, good, values)
        if number > 0:
            sort(values, number)
            median = median_of_sorted(values, number)
            jumps = _drop_beyond(steepness, interval, noise, good, inverse_gain, median, limits.normal)
        return jumps
    for j in range(1, len(interval)):
        steepness[j] = abs(steepness[j])
    found = 1
    while found > 0:
        number = _gather(steepness, good, values)
        sort(values, number)
        median, limit = _median_without_largest(values, number, limits)
        found = _drop_largest(steepness, interval, noise, good, inverse_gain, median, limit) if number >= 2 else 0
        jumps += found
    return jumps


@kernel
def _gather(steepness: NDArray[np.float32], good: NDArray[np.float32], values: NDArray[np.float32]) -> int:
    number = 0
    for j in range(1, len(steepness)):
        if good[j] > np.float32(0):
            values[number] = steepness[j]
            number += 1
    return number


@kernel
def _drop_beyond(
    steepness: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    inverse_gain: np.float32,
    median: np.float32,
    limit: np.float32,
) -> int:
    jumps = 0
    for j in range(1, len(interval)):
        ratio = deviation(steepness[j], median, interval[j], noise[j], noise[j - 1], inverse_gain)
        if good[j] > np.float32(0) and ratio > limit:
            good[j] = np.float32(0)
            jumps += 1
    return jumps


@kernel
def _median_without_largest(
    values: NDArray[np.float32], number: int, limits: JumpLimits
) -> tuple[np.float32, np.float32]:
    """Median and limit by the number of sorted values: of four or more, the largest (and its equals) do not count."""
    if number >= 4:
        kept = number - 1
        while kept > 0 and values[kept - 1] == values[number - 1]:
            kept -= 1
        # All equal: nothing stands out.
        median = median_of_sorted(values, kept) if kept > 0 else values[0]
        return median, limits.normal
    if number == 3:
        return values[1], limits.three
    return values[0], limits.two


@kernel
def _drop_largest(
    steepness: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    inverse_gain: np.float32,
    median: np.float32,
    limit: np.float32,
) -> int:
    """Leave out the difference farthest from the median, and its equals, if it is beyond the limit."""
    largest = np.float32(0)
    for j in range(1, len(interval)):
        ratio = deviation(steepness[j], median, interval[j], noise[j], noise[j - 1], inverse_gain)
        largest = max(largest, ratio) if good[j] > np.float32(0) else largest
    if not largest > limit:
        return 0
    jumps = 0
    for j in range(1, len(interval)):
        ratio = deviation(steepness[j], median, interval[j], noise[j], noise[j - 1], inverse_gain)
        if good[j] > np.float32(0) and ratio == largest:
            good[j] = np.float32(0)
            jumps += 1
    return jumps
