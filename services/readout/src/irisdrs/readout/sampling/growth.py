"""Saturation grows: charge spills over the edge of a full well into the eight neighbours.

As `n_pix_grow_sat=1` of stcal's `flag_saturated_pixels`.
"""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel

_ADC_MAX = np.uint16(65535)


@kernel
def grow_rows(
    read: NDArray[np.uint16], threshold: NDArray[np.uint16], grown: NDArray[np.uint16], start: int, stop: int
) -> None:
    """Copy rows of a read, with the largest count wherever a pixel or a neighbour is saturated.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    threshold : uint16 (rows, columns)
        Smallest saturated count.
    grown : uint16 (rows, columns)
        Result; 65535 is saturated for every threshold.
    """
    rows, columns = read.shape
    near = np.zeros(columns, np.uint8)  # saturated in this row or in one beside it
    for y in range(start, stop):
        above, below = max(y - 1, 0), min(y + 1, rows - 1)
        for x in range(columns):
            saturated = (
                (read[y, x] >= threshold[y, x])
                | (read[above, x] >= threshold[above, x])
                | (read[below, x] >= threshold[below, x])
            )
            near[x] = np.uint8(1) if saturated else np.uint8(0)
        grown[y, 0] = _ADC_MAX if near[0] | near[min(1, columns - 1)] else read[y, 0]
        for x in range(1, columns - 1):
            grown[y, x] = _ADC_MAX if (near[x - 1] | near[x] | near[x + 1]) != 0 else read[y, x]
        grown[y, columns - 1] = _ADC_MAX if near[max(columns - 2, 0)] | near[columns - 1] else read[y, columns - 1]
