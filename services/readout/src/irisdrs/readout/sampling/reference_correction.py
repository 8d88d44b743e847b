"""All that the reference pixels take off a read: one vector over its columns, one over its rows or stripes of them.

A pixel that is corrected is `count - column_offset[x] - row_offset[y]`, in this order, in float32. The kernels do
exactly this; a correction costs them one subtraction.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.reference_pixels import (
    drift_between_edges,
    drift_of_rows,
    edge_means,
    mean_of_edges,
)
from irisdrs.readout.sampling.side_columns import MEDIAN_ROWS, row_means, running_median, side_counts, wiener


class SideColumns(StrEnum):
    """How the reference pixels left and right of the science pixels are used."""

    NONE = "none"
    MEDIAN = "median"
    WIENER = "wiener"


@dataclass(frozen=True, slots=True)
class ReferenceCorrection:
    """Which corrections are made; by default the mean of top and bottom, for each channel and parity.

    Attributes
    ----------
    interpolated : bool
        Whether the offsets drift linearly from the first rows to the last, instead of being those of the mean.
    side_columns : SideColumns
    median_rows : int
        Of the running median, odd.
    alpha : float
        Factor of the side columns' signal (JWST's `side_gain`).
    gain : float64 (rows + 1,), optional
        Of the Wiener filter, from `wiener_gain`.
    """

    interpolated: bool = False
    side_columns: SideColumns = SideColumns.NONE
    median_rows: int = MEDIAN_ROWS
    alpha: float = 1.0
    gain: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.side_columns is SideColumns.WIENER and self.gain is None:
            raise ValueError("the Wiener filter needs the power of the row signal: give its gains")


#: Top and bottom only.
DEFAULT_CORRECTION = ReferenceCorrection()


@dataclass(frozen=True, slots=True)
class ReferenceVectors:
    """What is subtracted from a read.

    Attributes
    ----------
    column_offset : float32 (columns,)
        DN; 0 where there is none.
    row_offset : float32 (rows,) or (rows, stripes)
        DN; 0 where there is none, or when only the columns are corrected. Stripes of as many columns each have values
        of their own if kernels correct them (`reference_kernels`).
    missing_columns, missing_rows : bool (columns,), (rows,)
        Which have no usable reference pixel, and stay uncorrected; no row is missing when rows are not corrected.
    """

    column_offset: NDArray[np.float32]
    row_offset: NDArray[np.float32]
    missing_columns: NDArray[np.bool_]
    missing_rows: NDArray[np.bool_]


def reference_vectors(
    read: NDArray[np.uint16],
    usable: NDArray[np.bool_],
    usable_sides: NDArray[np.bool_],
    channel_columns: int,
    correction: ReferenceCorrection,
    first_column: int = 0,
    *,
    xp: Any = np,
) -> ReferenceVectors:
    """What the reference pixels of a read take off its pixels.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    usable : bool (2, border, columns)
        Which reference pixels of the first and of the last rows may be used.
    usable_sides : bool (2, rows, border)
        Those of the first and of the last columns.
    channel_columns, first_column : int
        Columns of an output channel; first column of the read on the detector.
    correction : ReferenceCorrection
    xp : module
        NumPy, or another library of the Python array API standard (2024.12), on whose arrays to work.
    """
    rows, columns = read.shape
    mean, some = edge_means(read, usable, channel_columns, first_column, xp=xp)
    change = drift_between_edges(mean, some, xp=xp) if correction.interpolated else 0.0
    column_offset, missing = mean_of_edges(mean, some, channel_columns, first_column, columns, change, xp=xp)
    drift = drift_of_rows(change, usable.shape[1], rows, xp=xp)
    nothing = xp.zeros(rows, dtype=xp.bool)
    if correction.side_columns is SideColumns.NONE:
        return ReferenceVectors(column_offset, drift, missing, nothing)
    sides = side_counts(read, usable_sides, column_offset, xp=xp) - drift[None, :, None]
    signal = _row_signal(sides, correction, xp)
    unknown = ~xp.isfinite(signal)
    row_offset = drift + correction.alpha * xp.where(unknown, 0.0, signal)
    return ReferenceVectors(column_offset, row_offset, missing, unknown)


def _row_signal(sides: NDArray[np.float32], correction: ReferenceCorrection, xp: Any) -> NDArray[np.float32]:
    if correction.side_columns is SideColumns.WIENER and correction.gain is not None:
        return wiener(row_means(sides, xp=xp), xp.asarray(correction.gain), xp=xp)
    return running_median(sides, correction.median_rows, xp=xp)
