"""Up the ramp: the unweighted least-squares slope over all good reads, in a stream.

With the n reads at times t_k, their mean tbar and T_n = sum (t_k - tbar)^2, the slope is C_n / T_n, where the
co-moment C_n = sum (t_k - tbar) s_k grows by (t_n - tbar_{n-1}) (s_n - mean_n) with every read (Welford 1962,
Technometrics 4, 419; Chan, Golub & LeVeque 1983, Am. Stat. 37, 242). Saturation only ever cuts a ramp short, so all
quantities of time are tables by the number of good reads.
"""

import numpy as np
from numpy.typing import NDArray


def weights(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights w_k = (t_k - tbar) / T_n (1/s) of f = sum w_k s_k.

    Parameters
    ----------
    times : float64 (reads,)
        Times of the reads, s, increasing; at least two.
    """
    centred = times - times.mean()
    return np.asarray(centred / np.sum(centred**2))


def scale(times: NDArray[np.float64]) -> float:
    """Factor 1 / T_n from the co-moment (DN s) to the rate (DN/s)."""
    return float(1.0 / np.sum((times - times.mean()) ** 2))


def fold_factors(times: NDArray[np.float64]) -> tuple[float, float]:
    """Gain 1/n of the running mean, and lever t_n - tbar_{n-1} (s), for the latest of the n reads at `times`."""
    lever = float(times[-1] - times[:-1].mean()) if len(times) > 1 else 0.0
    return 1.0 / len(times), lever


def needed(times: NDArray[np.float64]) -> int:
    """Number, from 1, of the read that must be good for the latest to be used: the one before, and so all of them."""
    return len(times) - 1
