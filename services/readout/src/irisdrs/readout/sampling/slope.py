"""A ramp's slope and its variances, from the running sums.

Every estimator here is linear in the reads, f = sum w_k s_k with sum w_k = 0 and sum w_k t_k = 1. Its variance follows
from the weights: of read noise sr^2 sum w_k^2, and of photons (f / g) sum_j dt_j (sum_{k>=j} w_k)^2, because electrons
that are collected in an interval are in every later read. Both sums depend on how many reads a pixel used, so they are
tables by n.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.fold import RampState

#: Fewest reads that have a slope.
LEAST_READS = 2


@dataclass(frozen=True, slots=True)
class Slopes:
    """Rate of each pixel and its variances, (ny, nx); zero where fewer than two reads are good.

    Attributes
    ----------
    rate : float32
        DN/s.
    var_poisson, var_rnoise : float32
        (DN/s)^2.
    good_time_s : float32
        Time from the first to the last good read, seconds.
    """

    rate: NDArray[np.float32]
    var_poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    good_time_s: NDArray[np.float32]


def utr_weights(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of unweighted least squares (up the ramp), 1/s: (t_k - mean t) / sum (t - mean t)^2."""
    centred = times_s - times_s.mean()
    return np.asarray(centred / np.sum(centred**2))


def cds_weights(times_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of correlated double sampling, 1/s: last less first."""
    weights = np.zeros(len(times_s))
    weights[0], weights[-1] = -1.0, 1.0
    return np.asarray(weights / (times_s[-1] - times_s[0]))


def variance_factors(weights: NDArray[np.float64], times_s: NDArray[np.float64]) -> tuple[float, float]:
    """Factors of a linear estimator's variance.

    Returns
    -------
    poisson : float
        Var = poisson * f / g; 1/s.
    rnoise : float
        Var = rnoise * sr^2; 1/s^2.
    """
    tails = np.cumsum(weights[::-1])[::-1][1:]  # sum of the weights of the reads after each interval
    return float(np.sum(np.diff(times_s) * tails**2)), float(np.sum(weights**2))


def fit_utr(
    state: RampState, times_s: NDArray[np.float64], gain: NDArray[np.float32], noise: NDArray[np.float32]
) -> Slopes:
    """Up the ramp: least squares over the good reads.

    Parameters
    ----------
    state : RampState
    times_s : (n,)
        Times of the folded reads since the reset, seconds, in order.
    gain : (ny, nx)
        e-/DN.
    noise : (ny, nx)
        Noise of one read, DN.
    """
    divisors = np.zeros(len(times_s) + 1)
    for n in range(LEAST_READS, len(times_s) + 1):
        divisors[n] = 1.0 / np.sum((times_s[:n] - times_s[:n].mean()) ** 2)
    rate = state.comoment * divisors.astype(np.float32)[state.count]
    return _with_variances(rate, state, times_s, gain, noise, utr_weights)


def fit_cds(
    state: RampState, times_s: NDArray[np.float64], gain: NDArray[np.float32], noise: NDArray[np.float32]
) -> Slopes:
    """Correlated double sampling: the last good read less the first. Parameters as of `fit_utr`."""
    divisors = np.zeros(len(times_s) + 1)
    divisors[LEAST_READS:] = 1.0 / (times_s[1:] - times_s[0])
    rate = state.last * divisors.astype(np.float32)[state.count]
    return _with_variances(rate, state, times_s, gain, noise, cds_weights)


def _with_variances(
    rate: NDArray[np.float32],
    state: RampState,
    times_s: NDArray[np.float64],
    gain: NDArray[np.float32],
    noise: NDArray[np.float32],
    weights: Callable[[NDArray[np.float64]], NDArray[np.float64]],
) -> Slopes:
    poisson, rnoise, spans = (np.zeros(len(times_s) + 1, np.float32) for _ in range(3))
    for n in range(LEAST_READS, len(times_s) + 1):
        used = times_s[:n]
        poisson[n], rnoise[n] = variance_factors(weights(used), used)
        spans[n] = used[-1] - used[0]
    var_poisson = poisson[state.count]
    var_poisson *= np.maximum(rate, 0.0)
    var_poisson /= gain
    var_rnoise = rnoise[state.count]
    var_rnoise *= noise
    var_rnoise *= noise
    return Slopes(rate, var_poisson, var_rnoise, spans[state.count])
