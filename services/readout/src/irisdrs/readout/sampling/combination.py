"""Combine weighted sums of reads into a rate: the best combination, and its exact variances.

Sums A_i = sum_k R_ik (s_k - s_0) of the reads above the first make an unbiased rate sum c_i A_i whenever
sum c_i tau_i = 1, tau_i = sum_k R_ik (t_k - t_0), for whatever reads were used. With unit read noise and unit f / g,
sums have the covariances A and B; the variance is least for c ~ (A + r B / dt)^-1 tau.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling import fixsen, optimal

#: Reads whose combinations are found at a time: what is computed on the way stays in the cache.
_BLOCK_READS = 32

#: Variance that rounding the sums to float32 adds, in units of their read noise: keeps combinations of ramps that are
#: cut short, whose sums are nearly alike, from cancelling digits that are not there.
_ROUNDING = 1e-7


@dataclass(frozen=True, slots=True)
class Combinations:
    """Tables by number of good reads n, for `coadd.SumFold`.

    Attributes
    ----------
    guess : float32 (reads + 1, sums)
        Coefficients of the first guess of the rate: least squares.
    table : float32 (reads + 1, entries, sums + 2)
        Coefficients (1/s), Poisson factor (1/s), read-noise factor (1/s^2), by entry: of r, or of Fixsen's powers.
    """

    guess: NDArray[np.float32]
    table: NDArray[np.float32]


def for_optimum(sum_weights: NDArray[np.float64], times: NDArray[np.float64]) -> Combinations:
    """Least variance for every r.

    Parameters
    ----------
    sum_weights : float64 (sums, reads)
        Of the reads that were used.
    times : float64 (reads,)
        Of the reads that were used, s, increasing.
    """
    lever, noise, photons = _moments(sum_weights, times)
    return _tables(_best(lever, noise, photons, times, optimal.entries()), noise, photons)


def for_fixsen(sum_weights: NDArray[np.float64], times: NDArray[np.float64], whole: bool) -> Combinations:
    """The sum of a power alone when the ramp is whole; when it is cut short, least squares.

    The weights of a power are made for the middle of the planned ramp. Over a part of it they do not add up to zero:
    such a sum has mostly the first read's noise, and at some length measures no slope at all.

    Parameters
    ----------
    sum_weights, times
        As in `for_optimum`.
    whole : bool
        Whether the first and the last planned read were used.
    """
    lever, noise, photons = _moments(sum_weights, times)
    shortened = _best(lever, noise, photons, times, np.zeros(1))
    coefficients = np.repeat(shortened, len(fixsen.POWERS), axis=2)
    if whole and len(times) > 1:
        coefficients[:, -1] = (np.eye(len(fixsen.POWERS), lever.shape[1]) / lever[-1]).T
    return _tables(coefficients, noise, photons)


def _moments(
    weights: NDArray[np.float64], times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """tau (reads, sums), and covariances A and B (reads, sums, sums) of the sums over the first n reads."""
    above = times - times[0]
    columns = np.where(above > 0, weights, 0.0).T  # (reads, sums); the first read is 0 above itself
    lever = np.cumsum(columns * above[:, None], axis=0)
    total = np.cumsum(columns, axis=0)
    squares = columns[:, :, None] * columns[:, None, :]
    noise = np.cumsum(squares, axis=0) + total[:, :, None] * total[:, None, :]
    before = lever - columns * above[:, None]
    mixed = columns[:, :, None] * before[:, None, :]
    photons = np.cumsum(mixed + mixed.transpose(0, 2, 1) + squares * above[:, None, None], axis=0)
    return lever, noise, photons


def _best(
    lever: NDArray[np.float64],
    noise: NDArray[np.float64],
    photons: NDArray[np.float64],
    times: NDArray[np.float64],
    ratios: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Coefficients (sums, reads, entries) of least variance; 0 where there are fewer than two reads."""
    found = np.zeros((lever.shape[1], len(times), len(ratios)))
    if len(times) < 2:
        return found
    cadence = float(np.mean(np.diff(times)))
    diagonal = np.diagonal(noise, axis1=1, axis2=2)
    rounding = _ROUNDING * (diagonal + diagonal.max(axis=1, keepdims=True) * _ROUNDING)
    softened = noise + rounding[:, :, None] * np.eye(lever.shape[1])
    for start in range(1, len(times), _BLOCK_READS):
        reads = slice(start, start + _BLOCK_READS)
        right = lever[reads].T[:, :, None]  # (sums, reads, 1)
        shot = (photons[reads] / cadence).transpose(1, 2, 0)[..., None]
        solved = _solved(softened[reads].transpose(1, 2, 0)[..., None] + ratios * shot, right)
        found[:, reads] = solved / _product(solved, right)
    return found


def _solved(covariance: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """x of covariance x = right for many covariances at once, (sums, reads, entries).

    Elimination without pivots is stable for covariances. It is done element by element: a library's kernels for this
    processor or that one must not decide the last bits of a frame.

    Parameters
    ----------
    covariance : float64 (sums, sums, reads, entries)
        Overwritten.
    right : float64 (sums, reads, 1)
    """
    sums = len(covariance)
    found = np.broadcast_to(right, covariance.shape[1:]).copy()
    for i in range(sums):
        for j in range(i + 1, sums):
            factor = covariance[j, i] / covariance[i, i]
            covariance[j, i:] -= factor * covariance[i, i:]
            found[j] -= factor * found[i]
    for i in reversed(range(sums)):
        for j in range(i + 1, sums):
            found[i] -= covariance[i, j] * found[j]
        found[i] /= covariance[i, i]
    return found


def _product(
    left: NDArray[np.float64], right: Sequence[NDArray[np.float64]] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Sum over the sums, the first axis, term by term."""
    total = left[0] * right[0]
    for i in range(1, len(left)):
        total += left[i] * right[i]
    return np.asarray(total)


def _tables(
    coefficients: NDArray[np.float64], noise: NDArray[np.float64], photons: NDArray[np.float64]
) -> Combinations:
    sums, reads, entries = coefficients.shape
    table = np.zeros((reads + 1, entries, sums + 2), np.float32)
    table[1:, :, :sums] = coefficients.transpose(1, 2, 0)
    for start in range(0, reads, _BLOCK_READS):
        block = slice(start, start + _BLOCK_READS)
        for place, covariance in ((sums, photons), (sums + 1, noise)):
            rows = covariance[block].transpose(1, 2, 0)[..., None]  # (sums, sums, reads, 1)
            beside = [_product(coefficients[:, block], row) for row in rows]
            table[1:][block, :, place] = _product(coefficients[:, block], beside)
    return Combinations(table[:, 0, :sums].copy(), table)
