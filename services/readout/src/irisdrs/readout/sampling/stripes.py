"""Values that stripes of a row's columns share, spread over the columns: for the kernels of the fold."""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel


@kernel
def fill_line(stripes: NDArray[np.float32], stripe_columns: int, line: NDArray[np.float32]) -> None:
    """Fill a row with the values of its stripes, in place.

    Parameters
    ----------
    stripes : float32 (stripes,)
    stripe_columns : int
        Columns of each stripe.
    line : float32 (columns,)
    """
    for stripe in range(len(stripes)):
        part = line[stripe * stripe_columns : (stripe + 1) * stripe_columns]
        for x in range(len(part)):
            part[x] = stripes[stripe]
