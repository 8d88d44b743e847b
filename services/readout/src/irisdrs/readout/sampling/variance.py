"""Variance of an estimate that is linear in the reads, exactly, for any times.

A rate f = sum w_k s_k of reads s_k at times t_k (DN) with independent read noise of variance sr^2 and Poisson counts
between reads of mean f dt has

- var_rnoise = sr^2 sum_k w_k^2
- var_poisson = (f / g) sum_{j>=1} dt_j (sum_{k>=j} w_k)^2, dt_j = t_j - t_{j-1}, g the gain in electrons per DN.

What came before the first read is in every read; it drops out because the weights sum to zero.
"""

import numpy as np
from numpy.typing import NDArray


def read_noise_factor(weights: NDArray[np.float64]) -> float:
    """sum w_k^2, in 1/s^2, for weights (reads,) in 1/s."""
    return float(np.sum(weights**2))


def poisson_factor(weights: NDArray[np.float64], times: NDArray[np.float64]) -> float:
    """sum_j dt_j (sum_{k>=j} w_k)^2, in 1/s, for weights (reads,) in 1/s and times (reads,) in s."""
    tails = np.cumsum(weights[::-1])[::-1]
    return float(np.sum(np.diff(times) * tails[1:] ** 2))
