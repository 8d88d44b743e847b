"""The per-pixel kernel: fold one raw read into the state of a ramp.

Order per read: saturation and converter floor on the raw counts, reference-pixel offset, linearity, accumulation.
A pixel that saturates, or reads 0, is left out from that read on (it latches). Every pixel is computed on its own,
without reordering: the result does not depend on how rows are shared among threads.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from irisdrs.shared.quality import Quality

_SATURATED = np.uint8(Quality.SATURATED)
_AD_FLOOR = np.uint8(Quality.AD_FLOOR)


@njit(nogil=True, cache=True, error_model="numpy")
def fold_rows(
    read: NDArray[np.uint16],
    threshold: NDArray[np.uint16],
    terms: NDArray[np.float32],
    offset: NDArray[np.float32],
    is_first: bool,
    gain: np.float32,
    lever: np.float32,
    first: NDArray[np.float32],
    mean: NDArray[np.float32],
    comoment: NDArray[np.float32],
    number: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Fold the rows `start` to `stop` of a read into the state, in place.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    threshold : uint16 (rows, columns)
        Smallest saturated count.
    terms : float32 (5, rows, columns)
        Linearity, from `linearity_terms`.
    offset : float32 (columns,)
        From `reference_offsets`.
    is_first : bool
        Whether this is the first read of the ramp.
    gain, lever : float32
        From `fold_factors` of the sampling mode.
    first, mean, comoment : float32 (rows, columns)
        Linearised first read, DN; running mean of the reads above it, DN; co-moment with time, DN s.
    number : uint16 (rows, columns)
        Good reads so far.
    flags : uint8 (rows, columns)
        SATURATED, AD_FLOOR: latched.
    """
    for y in range(start, stop):
        for x in range(read.shape[1]):
            count = read[y, x]
            latched = flags[y, x]
            if count >= threshold[y, x]:
                latched |= _SATURATED
            if count == 0:
                latched |= _AD_FLOOR
            good = latched == 0
            v = np.float32(count) - offset[x]
            higher = terms[2, y, x] + v * (terms[3, y, x] + v * terms[4, y, x])
            v = v * (terms[0, y, x] + v * (terms[1, y, x] + v * higher))
            start_value = v if is_first else first[y, x]
            above = v - start_value
            new_mean = mean[y, x] + gain * (above - mean[y, x])
            new_comoment = comoment[y, x] + lever * (above - new_mean)
            first[y, x] = start_value
            mean[y, x] = new_mean if good else mean[y, x]
            comoment[y, x] = new_comoment if good else comoment[y, x]
            number[y, x] += np.uint16(1) if good else np.uint16(0)
            flags[y, x] = latched
