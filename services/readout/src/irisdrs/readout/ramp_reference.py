"""What the reference pixels take off the reads of one ramp, which come one after another."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling.reference_correction import (
    DEFAULT_CORRECTION,
    ReferenceCorrection,
    ReferenceVectors,
    SideColumns,
)
from irisdrs.readout.sampling.reference_kernels import side_signals


class RampReference:
    """Measures the reads of a ramp in their order.

    Kernels work on what the side columns have changed since the first read that is used: the pattern of the reference
    pixels, which all reads have, must not get into the science. The first read keeps its correlated noise, and all
    others get as much of it: a constant for each pixel, which no slope and no difference knows.

    Parameters
    ----------
    calibration : Calibration
        With kernels or without.
    correction : ReferenceCorrection

    Raises
    ------
    ValueError
        If the correction takes off the rows what kernels take off, too.
    """

    def __init__(self, calibration: Calibration, correction: ReferenceCorrection = DEFAULT_CORRECTION) -> None:
        if calibration.kernels is not None and correction.side_columns is not SideColumns.NONE:
            raise ValueError(f"kernels and {correction.side_columns} both correct by the side columns")
        self._calibration, self._correction = calibration, correction
        self._first: NDArray[np.float32] | None = None

    def vectors(self, read: NDArray[np.uint16]) -> ReferenceVectors:
        """What is taken off the columns and rows of the next read (rows, columns), DN."""
        calibration = self._calibration
        found = calibration.reference_vectors(read, self._correction)
        if calibration.kernels is None:
            return found
        sides = calibration.side_counts(read, found.column_offset)
        if self._first is None:
            self._first = sides
        noise = calibration.kernels.correction(side_signals(sides - self._first))
        # Kernels of frames go through the stripes of a row.
        return replace(found, row_offset=np.ascontiguousarray(found.row_offset[:, None] + noise))
