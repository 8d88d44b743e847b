"""Up the ramp with the weights of Fixsen et al. (2000, PASP 112, 1350): the further a read is from the middle of the
ramp the more it counts, the more so the higher the ratio of signal to noise.

The table of powers is that of the JWST and Roman pipelines (stcal, `OLS_C`). The variances are those of the weights.
"""

import numpy as np
from numpy.typing import NDArray

#: Signal-to-noise ratios from which on the next power is taken.
RATIOS = (5.0, 10.0, 20.0, 50.0, 100.0)
#: Powers of the distance from the middle of the ramp.
POWERS = (0.0, 0.4, 1.0, 3.0, 6.0, 10.0)


def weights(times: NDArray[np.float64], power: float) -> NDArray[np.float64]:
    """Weights w_k (1/s) of f = sum w_k s_k: a weighted least-squares slope.

    Parameters
    ----------
    times : float64 (reads,)
        s, increasing; at least two.
    power : float
        Of |t - middle|; 0 is plain least squares.
    """
    middle, half = (times[-1] + times[0]) / 2, (times[-1] - times[0]) / 2
    share = (np.abs(times - middle) / half) ** power
    centred = times - np.sum(share * times) / np.sum(share)
    return np.asarray(share * centred / np.sum(share * centred**2))


def sum_weights(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the sums that are kept, one for each power and a constant, for a whole ramp.

    Power 0 is a straight line: with the constant it makes least squares of a ramp that is cut short anywhere.

    Parameters
    ----------
    times : float64 (reads,)
        Of a whole ramp, s, increasing; at least two.

    Returns
    -------
    float64 (7, reads)
        1, in units of one over the ramp's time; the constant is the last.
    """
    powers = np.stack([weights(times, power) for power in POWERS]) * (times[-1] - times[0])
    return np.concatenate([powers, np.full((1, len(times)), 1.0 / len(times))])
