"""Add up the ramps of an exposure, each pixel weighted by its good time, and close the sums into a frame.

A ramp's weight is the time between its first and last good read, in units of the full time: 1 for a ramp that is
whole, so that a single whole ramp passes unchanged. Ramps are added in index order.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from irisdrs.shared.quality import Quality

_DO_NOT_USE = np.uint32(Quality.DO_NOT_USE)


@njit(nogil=True, cache=True, error_model="numpy")
def add_rows(
    slope: NDArray[np.float32],
    number: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    table: NDArray[np.float32],
    signal: NDArray[np.float32],
    weight: NDArray[np.float32],
    poisson: NDArray[np.float32],
    rnoise: NDArray[np.float32],
    seen: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Add rows of a folded ramp to the sums of its exposure, in place.

    Parameters
    ----------
    slope : float32 (rows, columns)
        What the sampling mode accumulates: the co-moment or the last difference.
    number : uint16 (rows, columns)
        Good reads.
    flags : uint8 (rows, columns)
        Latched flags of the ramp.
    table : float32 (4, reads + 1)
        By number of good reads: weight w, w * scale, w^2 * Poisson factor, w^2 * read-noise factor; all 0 below two
        reads, which make no slope.
    signal, weight, poisson, rnoise : float32 (rows, columns)
        Sums over ramps.
    seen : uint8 (rows, columns)
        Flags of all ramps.
    """
    for y in range(start, stop):
        for x in range(slope.shape[1]):
            n = number[y, x]
            weight[y, x] += table[0, n]
            signal[y, x] += slope[y, x] * table[1, n]
            poisson[y, x] += table[2, n]
            rnoise[y, x] += table[3, n]
            seen[y, x] |= flags[y, x]


@njit(nogil=True, cache=True, error_model="numpy")
def close_rows(
    gain: NDArray[np.float32],
    read_noise: NDArray[np.float32],
    seen: NDArray[np.uint8],
    signal: NDArray[np.float32],
    weight: NDArray[np.float32],
    poisson: NDArray[np.float32],
    rnoise: NDArray[np.float32],
    dq: NDArray[np.uint32],
    start: int,
    stop: int,
) -> None:
    """Turn the sums into a frame, in place: signal becomes the rate, weight its error, the others variances.

    Parameters
    ----------
    gain : float32 (rows, columns)
        Electrons per DN, positive.
    read_noise : float32 (rows, columns)
        Noise of one read, DN.
    dq : uint32 (rows, columns)
        Flags known before; takes those of the ramps, and DO_NOT_USE where no ramp gave a slope (all planes are 0
        there).
    """
    for y in range(start, stop):
        for x in range(signal.shape[1]):
            w = weight[y, x]
            usable = w > np.float32(0)
            inverse = np.float32(1) / w if usable else np.float32(0)
            rate = signal[y, x] * inverse
            # The Poisson variance needs a rate that is not negative; the data keep theirs.
            shot = max(rate, np.float32(0)) / gain[y, x] * (poisson[y, x] * inverse * inverse)
            noise = read_noise[y, x] * read_noise[y, x] * (rnoise[y, x] * inverse * inverse)
            signal[y, x] = rate
            poisson[y, x] = shot
            rnoise[y, x] = noise
            weight[y, x] = np.sqrt(shot + noise)
            dq[y, x] |= np.uint32(seen[y, x]) | (np.uint32(0) if usable else _DO_NOT_USE)
