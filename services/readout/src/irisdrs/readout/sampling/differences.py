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
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.linearity import Terms

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
    column_step : float32 (used, columns)
        `column_offset` of a used read above that of the used read before it, DN; 0 for the first.
    row_offset : float32 (reads, rows, stripes)
        To be subtracted from the columns of each stripe, DN; stripes are of as many columns each, 1 is the whole row.
    used : int64 (used,)
    interval : float32 (used,)
    usable : bool (used,)
        Of `Intervals`.
    """

    reads: NDArray[np.uint16]
    column_offset: NDArray[np.float32]
    column_step: NDArray[np.float32]
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
        Linear difference, DN; NaN where it is not good.
    noise
        Variance of read j by read noise, DN^2.
    residual, lever, weight
        What a fit leaves behind, see `likelihood`.
    lines : int64 (used reads - 1,)
        1, 2, .. Loops over lines take their numbers from here: from a plain range LLVM would conclude that a plane's
        line may overlap the line before, or that a descending loop may, and not vectorise the loop over columns.
    """

    difference: NDArray[np.float32]
    noise: NDArray[np.float32]
    residual: NDArray[np.float32]
    lever: NDArray[np.float32]
    weight: NDArray[np.float32]
    lines: NDArray[np.int64]


@kernel
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


@kernel
def _fetch_counts(ramp: Ramp, row: int, left: int, width: int, tile: Tile, floored: NDArray[np.float32]) -> None:
    """Put the counts of the used reads where their differences will be, and note which pixels have a count of 0.

    Reads are far apart in memory. A loop that does next to nothing else has many of them under way at once; one that
    computes with each would wait for each. Counts are whole numbers in float32, too.
    """
    lowest = floored
    for x in range(width):
        lowest[x] = np.float32(np.inf)
    for j in range(len(ramp.used)):
        count, value = ramp.reads[ramp.used[j], row, left : left + width], tile.difference[j]
        for x in range(width):
            value[x] = np.float32(count[x])
            lowest[x] = min(lowest[x], value[x])
    for x in range(width):
        floored[x] = np.float32(lowest[x] == np.float32(0))


@kernel
def linear_differences(
    ramp: Ramp,
    detector: Detector,
    row: int,
    left: int,
    width: int,
    tile: Tile,
    lines: NDArray[np.float32],
    saturated: NDArray[np.float32],
    floored: NDArray[np.float32],
) -> None:
    """Fill `difference` and `noise` of a tile.

    Parameters
    ----------
    ramp : Ramp
    detector : Detector
    row, left, width : int
        Pixels (row, left) to (row, left + width - 1), of one stripe.
    tile : Tile
    lines : float32 (5, columns)
        Scratch.
    saturated, floored : float32 (columns,)
        Become 1 where a read is saturated, or has a count of 0, else 0.
    """
    _fetch_counts(ramp, row, left, width, tile, floored)
    limit, level, bent, shift, shift_step = lines[0], lines[1], lines[2], lines[3], lines[4]
    threshold = detector.threshold[row, left : left + width]
    sigma = detector.read_noise[row, left : left + width]
    a1 = detector.terms[0][row, left : left + width]
    a2 = detector.terms[1][row, left : left + width]
    a3 = detector.terms[2][row, left : left + width]
    a4 = detector.terms[3][row, left : left + width]
    a5 = detector.terms[4][row, left : left + width]
    stripe = left // stripe_columns(ramp)
    for x in range(width):
        limit[x] = np.float32(threshold[x])
        level[x] = bent[x] = np.float32(0)
    for j in range(len(ramp.used)):
        read, before = ramp.used[j], ramp.used[max(j - 1, 0)]
        offset, offset_step = ramp.column_offset[read, left : left + width], ramp.column_step[j, left : left + width]
        row_offset = ramp.row_offset[read, row, stripe]
        row_step = row_offset - ramp.row_offset[before, row, stripe]
        # A step is a sum of steps: sums of offsets of thousands of DN have a rounding that their steps have not.
        for x in range(width):
            shift[x] = offset[x] + row_offset
            shift_step[x] = offset_step[x] + row_step
        kept = np.float32(1) if ramp.usable[j] else np.float32(np.nan)
        difference, noise = tile.difference[j], tile.noise[j]
        for x in range(width):
            value = difference[x]
            # Values chosen: a store that may or may not happen is slow. No count is below a limit that was reached.
            open_limit = limit[x] if value < limit[x] else np.float32(-1)
            is_good = (open_limit > np.float32(0)) & (min(value, level[x]) > np.float32(0))
            bend, slope = curve(value - shift[x], a1[x], a2[x], a3[x], a4[x], a5[x])
            step = a1[x] * (value - level[x] - shift_step[x]) + (bend - bent[x])
            level[x] = value
            limit[x] = open_limit
            bent[x] = bend
            difference[x] = step * kept if is_good else np.float32(np.nan)
            slope *= sigma[x]
            noise[x] = max(slope * slope, ROUNDING_VARIANCE)
    for x in range(width):
        saturated[x] = np.float32(limit[x] < np.float32(0))


@kernel
def stripe_columns(ramp: Ramp) -> int:
    """Columns of each stripe of the row offsets."""
    return int(ramp.column_offset.shape[1] // ramp.row_offset.shape[2])
