"""Weights of the differences of one pixel in the sampling modes that are linear in the reads.

A rate sum v_k s_k of the reads s_k with sum v_k = 0 is a rate sum u_j d_j of their differences, u_j = sum_{k>=j} v_k;
and sum u_j d_j / sum u_j dt_j is right for a straight ramp whatever the weights are. So each mode only says its u, in
any unit. Differences that are left out (jumps, saturation, rejected intervals) cut the ramp into segments of reads,
each with a pedestal of its own: a mode is applied to each segment, and the segments are combined.

All functions work on the differences of one pixel, float32 (used reads,), as in `Pixel`.
"""

import math

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.fixsen import POWERS, RATIOS

#: Modes, as the kernels know them.
LIKELIHOOD, LEAST_SQUARES, FIXSEN, FOWLER, CDS = range(5)

#: Instead of a class: that of each segment's own signal to noise.
OWN_CLASS = -1


@kernel
def difference_weights(
    mode: int,
    fowler_reads: int,
    difference: NDArray[np.float32],
    interval: NDArray[np.float32],
    noise: NDArray[np.float32],
    good: NDArray[np.float32],
    inverse_gain: np.float32,
    power_class: int,
    weight: NDArray[np.float32],
) -> None:
    """Fill `weight` with the weights of the differences, 0 where one is not good.

    Parameters
    ----------
    mode : int
        LEAST_SQUARES, FIXSEN, FOWLER, CDS.
    fowler_reads : int
        FOWLER: reads in each of the two groups; fewer where a segment has fewer.
    inverse_gain : float32
        DN per electron.
    power_class : int
        FIXSEN: of `POWERS`, or OWN_CLASS.
    """
    weight[:] = np.float32(0)
    j, last = 1, len(interval) - 1
    while j <= last:
        stop = j
        while stop <= last and good[stop] > np.float32(0):
            stop += 1
        if stop > j:
            # Differences j to stop - 1 lie between the reads j - 1 to stop - 1.
            if mode == FOWLER:
                _fowler(j, stop, fowler_reads, weight)
            elif mode == CDS:
                weight[j:stop] = np.float32(1)
            else:
                power = 0.0
                if mode == FIXSEN and power_class == OWN_CLASS:
                    power = POWERS[power_class_of(difference, noise, j, stop, inverse_gain)]
                elif mode == FIXSEN:
                    power = POWERS[power_class]
                _least_squares(j, stop, interval, power, weight)
        j = stop + 1


@kernel
def _fowler(start: int, stop: int, reads: int, weight: NDArray[np.float32]) -> None:
    """Mean of the last reads minus mean of the first: the weights rise over the first group, and fall over the last."""
    differences = stop - start
    group = max(min(reads, (differences + 1) // 2), 1)
    for j in range(start, stop):
        weight[j] = np.float32(min(j - start + 1, stop - j, group))


@kernel
def _least_squares(
    start: int, stop: int, interval: NDArray[np.float32], power: float, weight: NDArray[np.float32]
) -> None:
    """Least squares over the reads of a segment, those far from its middle weighted by a power of their distance.

    Segments count by their sum of squared times, unweighted: the inverse variance by read noise.
    """
    duration = np.float64(0)
    for j in range(start, stop):
        duration += interval[j]
    middle = 0.5 * duration
    time, reads = 0.0, stop - start + 1
    sum_w = sum_wt = sum_t = sum_tt = 0.0
    for k in range(reads):
        time += interval[start + k - 1] if k > 0 else 0.0
        w = read_weight(time, middle, power)
        sum_w += w
        sum_wt += w * time
        sum_t += time
        sum_tt += time * time
    mean, time, tail = sum_wt / sum_w, duration, 0.0
    lever = 0.0
    for j in range(stop - 1, start - 1, -1):
        tail += read_weight(time, middle, power) * (time - mean)
        weight[j] = np.float32(tail)
        lever += tail * interval[j]
        time -= interval[j]
    scale = np.float32((sum_tt - sum_t * sum_t / reads) / lever)
    for j in range(start, stop):
        weight[j] *= scale


@kernel
def read_weight(time: float, middle: float, power: float) -> float:
    """Weight of a read at a time since the first of its segment (Fixsen et al. 2000, PASP 112, 1350)."""
    return 1.0 if power == 0.0 else (abs(time - middle) / middle) ** power


@kernel
def power_class_of(
    difference: NDArray[np.float32], noise: NDArray[np.float32], start: int, stop: int, inverse_gain: np.float32
) -> int:
    """Class by the signal to noise of a segment between its first and last read, with the noise of one read."""
    signal = np.float32(0)
    for j in range(start, stop):
        signal += difference[j]
    if not signal > np.float32(0):
        return 0
    ratio = signal / math.sqrt(noise[start - 1] + signal * inverse_gain)
    found = 0
    for limit in RATIOS:
        found += 1 if ratio >= limit else 0
    return found
