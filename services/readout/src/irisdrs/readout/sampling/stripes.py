"""Values that stripes of a row's columns share, spread over the columns: for the kernels of the fold and of the fit."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(nogil=True, cache=True, error_model="numpy")
def fill_line(stripes: NDArray[np.float32], stripe_columns: int, left: int, line: NDArray[np.float32]) -> None:
    """Fill some columns of a row, from `left` on, with the values of their stripes, in place.

    Parameters
    ----------
    stripes : float32 (stripes,)
    stripe_columns : int
        Columns of each stripe.
    left : int
        First column.
    line : float32 (columns,)
    """
    x = 0
    while x < len(line):
        stripe = (left + x) // stripe_columns
        end = min((stripe + 1) * stripe_columns - left, len(line))
        part = line[x:end]
        for i in range(len(part)):
            part[i] = stripes[stripe]
        x = end
