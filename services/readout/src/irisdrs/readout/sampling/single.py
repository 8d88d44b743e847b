"""A single read: its signal by the time since the reset.

The level that the pixel had right after its reset, with the noise of the reset, is in the signal: frames are flagged.
"""

import numpy as np
from numpy.typing import NDArray


def weights(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """The one weight 1 / t_0 (1/s), of the first read.

    Parameters
    ----------
    times : float64 (reads,)
        Times since the reset, s, positive.
    """
    found = np.zeros(len(times))
    found[0] = 1.0 / times[0]
    return found


def scale(times: NDArray[np.float64]) -> float:
    """Factor from the signal of the first read (DN) to the rate (DN/s)."""
    return float(1.0 / times[0])


def poisson_factor(times: NDArray[np.float64]) -> float:
    """Variance of the rate by photons, for f / g = 1 (1/s): those of the whole time since the reset."""
    return float(1.0 / times[0])


def fold_factors(_times: NDArray[np.float64]) -> tuple[float, float]:
    """Neither mean nor co-moment grows: the first read is all."""
    return 0.0, 0.0


def needed(_times: NDArray[np.float64]) -> int:
    """Number, from 1, of the read that must be good for the latest to be used: it needs no other."""
    return 0
