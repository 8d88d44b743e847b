"""The read after the reset, and the dark current.

Subtracting the zero read drops out of every slope and difference; it matters where a single read makes the frame. The
dark current is linear in time: taking it off every read, or its rate off the fitted rate, is the same for every
estimator f = sum w_k s_k with sum w_k = 0 and sum w_k t_k = 1, which all of this package are. Off the rate costs less.
"""

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.quality import Quality


def subtract_zero_read(
    counts: NDArray[np.float32], zero: NDArray[np.float32], read_noise: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Counts above the zero read, and the variance that one read of each brings.

    Parameters
    ----------
    counts, zero : float32 (rows, columns)
        A read and the zero read of the same ramp, linearised, DN.
    read_noise : float32 (rows, columns)
        Noise of one read, DN.

    Returns
    -------
    above : float32 (rows, columns)
        DN.
    variance : float32 (rows, columns)
        2 read_noise^2, DN^2; photons not counted.
    """
    return counts - zero, np.float32(2) * read_noise * read_noise


def subtract_dark_from_read(
    counts: NDArray[np.float32], dark_rate: NDArray[np.float32], time_s: float
) -> NDArray[np.float32]:
    """A linearised read without what the dark current has added since the reset; unknown rates (NaN) count as 0.

    Parameters
    ----------
    counts : float32 (rows, columns)
        DN.
    dark_rate : float32 (rows, columns)
        DN/s.
    time_s : float
        Of the read since the reset, s.
    """
    known = np.where(np.isfinite(dark_rate), dark_rate, np.float32(0))
    return np.asarray(counts - known * np.float32(time_s), np.float32)


def subtract_dark_rate(
    rate: NDArray[np.float32],
    variance: NDArray[np.float32],
    dark_rate: NDArray[np.float32],
    dark_variance: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint32]]:
    """A fitted rate without the dark rate.

    The photon noise of the dark current is in the variance of the fit already; what is added is that of the reference.

    Parameters
    ----------
    rate, dark_rate : float32 (rows, columns)
        DN/s.
    variance, dark_variance : float32 (rows, columns)
        (DN/s)^2.

    Returns
    -------
    rate, variance : float32 (rows, columns)
        As they were where rate or variance of the dark is not known (NaN, or a negative variance).
    flags : uint32 (rows, columns)
        UNRELIABLE_DARK there.
    """
    known = np.isfinite(dark_rate) & np.isfinite(dark_variance) & (dark_variance >= 0)
    none = np.float32(0)
    return (
        rate - np.where(known, dark_rate, none),
        variance + np.where(known, dark_variance, none),
        np.where(known, np.uint32(0), np.uint32(Quality.UNRELIABLE_DARK)),
    )
