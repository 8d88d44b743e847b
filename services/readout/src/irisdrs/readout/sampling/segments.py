"""Up the ramp with jumps: segments between them, a common slope, an intercept for each.

The slope of all segments is f = sum C / sum T, with C = sum (t - tbar) (s - sbar) and T = sum (t - tbar)^2 of each:
least squares with a free intercept for each segment. Its variances are exactly

- var_rnoise = sr^2 / sum T,
- var_poisson = (f / g) sum P / (sum T)^2, with P = sum_j h_j (sum_{k>=j} (t_k - tbar))^2 of each segment.

Reads of a segment follow one another, so T, P and all factors of the update are tables by the read that it began with.
"""

import numpy as np
from numpy.typing import NDArray

#: The jump test trusts the slope of so many reads: two of them cannot tell a jump from the slope.
TRUSTED_READS = 3


def moments(times: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """T (s^2) and P (s^3) of the reads from each one to the last.

    Parameters
    ----------
    times : float64 (reads,)
        s, increasing.

    Returns
    -------
    moment, shot : float64 (reads + 1,)
        By the first read of the segment; the last entry is that of no read.
    """
    n = len(times)
    moment, shot = np.zeros(n + 1), np.zeros(n + 1)
    if n == 0:
        return moment, shot
    before = times - times[-1]  # sums of short segments lose nothing to a distant origin
    count, total = np.arange(n, 0, -1), _tails(before)
    mean = total / count
    moment[:n] = _tails(before**2) - total * mean
    # The square of sum_{k>=j} (t_k - tbar) multiplied out, summed over the intervals after the segment's first read.
    interval, count, total = np.diff(times), count[1:], total[1:]
    square, mixed, plain = (np.append(_tails(interval * factor), 0.0) for factor in (total**2, total * count, count**2))
    shot[:n] = square - 2.0 * mean * mixed + mean**2 * plain
    return moment, shot


def _tails(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums of the values from each one to the last."""
    return np.asarray(np.cumsum(values[::-1])[::-1])


def factors(times: NDArray[np.float64]) -> NDArray[np.float32]:
    """What folding the latest read needs, by the read that a segment began with.

    Parameters
    ----------
    times : float64 (k + 1,)
        Times of the reads so far, s, the latest included.

    Returns
    -------
    float32 (4, k + 1)
        Gain 1 / (n + 1) of the running mean and lever t_k - tbar of the co-moment, for segments of n reads before the
        latest; their T and P.
    """
    before, latest = times[:-1], times[-1]
    n = np.arange(len(before), -1, -1)
    lever = np.zeros(len(times))
    lever[:-1] = latest - np.cumsum(before[::-1])[::-1] / n[:-1]
    return np.stack([1.0 / (n + 1), lever, *moments(before)]).astype(np.float32)


def trusted_moment(times: NDArray[np.float64]) -> float:
    """T (s^2) from which on a slope is trusted: a little less than that of the first `TRUSTED_READS` reads."""
    return float(0.99 * moments(times[:TRUSTED_READS])[0][0]) if len(times) >= TRUSTED_READS else np.inf


def is_even(times: NDArray[np.float64]) -> bool:
    """Whether all intervals are the same, to a millionth."""
    intervals = np.diff(times)
    return len(intervals) == 0 or bool(np.ptp(intervals) <= 1e-6 * intervals[-1])
