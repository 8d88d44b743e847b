"""From raw reads to linear differences: what every fit to the reads of a ramp begins with.

Per read: saturation and converter floor on the raw counts, reference-pixel offsets, linearity. The results are the
differences of neighbouring used reads, the variance that the read noise has after linearity, and which differences
are good. A saturated pixel loses all differences from that read on; a count of 0 is no measurement and loses the two
differences around it.

Counts are subtracted as they are, which is exact, and the linear term of the polynomial is applied to their
difference: a high pedestal costs no precision in float32.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from irisdrs.readout.sampling.linearity import Terms
from irisdrs.readout.sampling.stripes import fill_line

#: Variance of the converter's rounding to whole numbers, DN^2: no read is better than that.
ROUNDING_VARIANCE = np.float32(1 / 12)


class Detector(NamedTuple):
    """What the fit needs of the references; planes as in `Calibration`."""

    threshold: NDArray[np.uint16]
    terms: Terms
    gain: NDArray[np.float32]
    read_noise: NDArray[np.float32]
    dq: NDArray[np.uint32]


class Ramp(NamedTuple):
    """The reads of a ramp and what is known of each.

    Attributes
    ----------
    reads : uint16 (reads, rows, columns)
        Raw counts, DN.
    column_offset : float32 (reads, columns)
        To be subtracted from every row, DN.
    row_offset : float32 (reads, rows, stripes)
        To be subtracted from the columns of each stripe, DN; stripes are of as many columns each, 1 is the whole row.
    used : int64 (used,)
    interval : float32 (used,)
    usable : bool (used,)
        Of `Intervals`.
    """

    reads: NDArray[np.uint16]
    column_offset: NDArray[np.float32]
    row_offset: NDArray[np.float32]
    used: NDArray[np.int64]
    interval: NDArray[np.float32]
    usable: NDArray[np.bool_]


class Tile(NamedTuple):
    """A thread's scratch for some columns of one row: float32 (used reads, columns).

    Line j is of the difference that ends at used read j; none ends at the first, so line 0 is never good.

    Attributes
    ----------
    difference
        Linear difference, DN; 0 where it is not good.
    noise
        Variance of read j by read noise, DN^2.
    good
        1 or 0.
    residual, lever, weight
        What a fit leaves behind, see `likelihood`.
    lines : int64 (used reads - 1,)
        1, 2, .. Loops over lines take their numbers from here: from a plain range LLVM would conclude that a plane's
        line may overlap the line before, or that a descending loop may, and not vectorise the loop over columns.
    """

    difference: NDArray[np.float32]
    noise: NDArray[np.float32]
    good: NDArray[np.float32]
    residual: NDArray[np.float32]
    lever: NDArray[np.float32]
    weight: NDArray[np.float32]
    lines: NDArray[np.int64]


@njit(nogil=True, cache=True, error_model="numpy")
def curve(
    x: np.float32, a1: np.float32, a2: np.float32, a3: np.float32, a4: np.float32, a5: np.float32
) -> tuple[np.float32, np.float32]:
    """Linearity polynomial a_1 x + .. + a_5 x^5 without its linear term (DN), and its whole slope."""
    q = a4 + x * a5
    slope = q + x * a5
    q = a3 + x * q
    slope = q + x * slope
    q = a2 + x * q
    return x * x * q, a1 + x * (q + q + x * slope)


@njit(nogil=True, cache=True, error_model="numpy")
def _fetch_counts(ramp: Ramp, row: int, left: int, width: int, tile: Tile) -> None:
    """Put the counts of the used reads where their differences will be.

    Reads are far apart in memory. A loop that does nothing else has many of them under way at once; one that computes
    with each would wait for each. Counts are whole numbers in float32, too.
    """
    for j in range(len(ramp.used)):
        count, value = ramp.reads[ramp.used[j], row, left : left + width], tile.difference[j]
        for x in range(width):
            value[x] = np.float32(count[x])


@njit(nogil=True, cache=True, error_model="numpy")
def linear_differences(
    ramp: Ramp,
    detector: Detector,
    row: int,
    left: int,
    width: int,
    tile: Tile,
    limit: NDArray[np.float32],
    level: NDArray[np.float32],
    bent: NDArray[np.float32],
    lines: NDArray[np.float32],
    saturated: NDArray[np.float32],
    floored: NDArray[np.float32],
) -> None:
    """Fill `difference`, `noise` and `good` of a tile.

    Parameters
    ----------
    ramp : Ramp
    detector : Detector
    row, left, width : int
        Pixels (row, left) to (row, left + width - 1).
    tile : Tile
    limit, level, bent : float32 (columns,)
        Scratch.
    lines : float32 (2, columns)
        Scratch.
    saturated, floored : float32 (columns,)
        Become 1 where a read is saturated, or has a count of 0, else 0.
    """
    _fetch_counts(ramp, row, left, width, tile)
    highest, lowest = saturated, floored
    threshold = detector.threshold[row, left : left + width]
    sigma = detector.read_noise[row, left : left + width]
    a1 = detector.terms[0][row, left : left + width]
    a2 = detector.terms[1][row, left : left + width]
    a3 = detector.terms[2][row, left : left + width]
    a4 = detector.terms[3][row, left : left + width]
    a5 = detector.terms[4][row, left : left + width]
    stripe_columns = detector.gain.shape[1] // ramp.row_offset.shape[2]
    for x in range(width):
        highest[x], lowest[x] = np.float32(-1), np.float32(np.inf)
        level[x] = bent[x] = np.float32(0)
        limit[x] = np.float32(threshold[x])
    for j in range(len(ramp.used)):
        read, before = ramp.used[j], ramp.used[max(j - 1, 0)]
        offset = ramp.column_offset[read, left : left + width]
        offset_before = ramp.column_offset[before, left : left + width]
        row_offset, row_offset_before = lines[j % 2, :width], lines[(j + 1) % 2, :width]
        fill_line(ramp.row_offset[read, row], stripe_columns, left, row_offset)
        usable = np.float32(ramp.usable[j])
        difference, noise, good = tile.difference[j], tile.noise[j], tile.good[j]
        for x in range(width):
            value = difference[x]
            # Bounds, and factors chosen: a store that may or may not happen is slow.
            highest[x] = max(highest[x], value)
            lowest[x] = min(lowest[x], value)
            is_good = (highest[x] < limit[x]) & (min(value, level[x]) > np.float32(0))
            factor = usable if is_good else np.float32(0)
            bend, slope = curve(value - offset[x] - row_offset[x], a1[x], a2[x], a3[x], a4[x], a5[x])
            step = value - level[x] - (offset[x] - offset_before[x] + (row_offset[x] - row_offset_before[x]))
            step = a1[x] * step + (bend - bent[x])
            level[x] = value
            bent[x] = bend
            difference[x] = step if factor > np.float32(0) else np.float32(0)
            slope *= sigma[x]
            noise[x] = max(slope * slope, ROUNDING_VARIANCE)
            good[x] = factor
    for x in range(width):
        saturated[x] = np.float32(highest[x] >= limit[x])
        floored[x] = np.float32(lowest[x] == np.float32(0))
