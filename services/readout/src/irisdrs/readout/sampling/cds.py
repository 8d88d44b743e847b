"""Correlated double sampling: the last good read minus the first, by their time."""

import numpy as np
from numpy.typing import NDArray


def weights(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w_k (1/s) of f = sum w_k s_k.

    Parameters
    ----------
    times : float64 (reads,)
        Times of the reads, s, increasing; at least two.
    """
    found = np.zeros(len(times))
    found[-1] = 1.0 / (times[-1] - times[0])
    found[0] = -found[-1]
    return found


def scale(times: NDArray[np.float64]) -> float:
    """Factor from the accumulated difference (DN) to the rate (DN/s)."""
    return float(1.0 / (times[-1] - times[0]))


def fold_factors(_times: NDArray[np.float64]) -> tuple[float, float]:
    """Gain of the running mean, and lever of the co-moment, for the latest read.

    A gain of 1 makes the running mean the latest read.
    """
    return 1.0, 0.0


def needed(times: NDArray[np.float64]) -> int:
    """Number, from 1, of the read that must be good for the latest to be used: the first; 0 if it needs no other."""
    return min(len(times) - 1, 1)
