"""The per-pixel kernels: fold one raw read into the state of a ramp.

Order per read: saturation and converter floor on the raw counts, offsets of the reference pixels, linearity, and then
one of three ways to accumulate:

- `fold_rows`: running mean and co-moment; all modes that are one sum over the reads, whose weights the latest read
  fixes (CDS, MCDS, least squares). 15 bytes a pixel.
- `fold_segment_rows`: the same, with a jump test between reads and a new segment after each jump. 27 bytes a pixel.
- `fold_sum_rows`: several sums with weights that are planned before the ramp begins (Fixsen, optimum).

What is done to a pixel is said in `pixel`. Every pixel is computed on its own, without reordering: the result does not
depend on how rows are shared among threads.

Loops compile to vector instructions. They select factors (0 for a read that is left out) and always store: a choice
between a new value and the old one becomes a masked store, which costs more than all the rest on some processors. What
is rare is done after a row.
"""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.linearity import Terms
from irisdrs.readout.sampling.pixel import (
    after_event,
    even_factors,
    fold_pixel,
    fold_segment_pixel,
    fold_sum_pixel,
    linearised,
)
from irisdrs.readout.sampling.stripes import fill_line
from irisdrs.shared.quality import Quality

_SATURATED = np.uint8(Quality.SATURATED)

#: Elements between rows that are read together: rows that begin at the same place of a memory page contend for the
#: same few places of the processor's cache. 48 of float32 are three cache lines.
_APART = 48


@kernel
def fold_rows(
    read: NDArray[np.uint16],
    threshold: NDArray[np.uint16],
    terms: Terms,
    column_offset: NDArray[np.float32],
    row_offset: NDArray[np.float32],
    gain: np.float32,
    lever: np.float32,
    latest: np.uint16,
    needed: np.uint16,
    first: NDArray[np.float32],
    mean: NDArray[np.float32],
    comoment: NDArray[np.float32],
    number: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Fold the rows `start` to `stop` of a read into mean and co-moment, in place.

    A pixel that saturates is left out from that read on (it latches); one that reads 0 is left out of that read, and
    of those that cannot do without it.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    threshold : uint16 (rows, columns)
        Smallest saturated count.
    terms : five of float32 (rows, columns)
        Linearity, from `linearity_terms`.
    column_offset : float32 (columns,)
    row_offset : float32 (rows, stripes)
        Of the reference pixels, DN; both are subtracted. Stripes are of as many columns each; 1 is the whole row.
    gain, lever : float32
        From `fold_factors` of the sampling mode.
    latest, needed : uint16
        Number of this read, from 1; and the least `number` with which a pixel can use it, from `needed` of the mode.
    first : float32 (rows, columns)
        Linearised first read, DN, from `first_rows`.
    mean, comoment : float32 (rows, columns)
        Running mean of the reads above the first, DN; co-moment with time, DN s.
    number : uint16 (rows, columns)
        Number of the latest read that is used, from 1; 0 if there is none.
    flags : uint8 (rows, columns)
        SATURATED, AD_FLOOR: latched.
    """
    a1, a2, a3, a4, a5 = terms
    line, stripe_columns = np.empty(read.shape[1], np.float32), read.shape[1] // row_offset.shape[1]
    for y in range(start, stop):
        fill_line(row_offset[y], stripe_columns, line)
        for x in range(read.shape[1]):
            mean[y, x], comoment[y, x], number[y, x], flags[y, x] = fold_pixel(
                read[y, x],
                threshold[y, x],
                column_offset[x],
                line[x],
                gain,
                lever,
                latest,
                needed,
                first[y, x],
                mean[y, x],
                comoment[y, x],
                number[y, x],
                flags[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )


@kernel
def first_rows(
    read: NDArray[np.uint16],
    terms: Terms,
    column_offset: NDArray[np.float32],
    row_offset: NDArray[np.float32],
    first: NDArray[np.float32],
    start: int,
    stop: int,
) -> None:
    """Keep the linearised first read of a ramp, which is subtracted from every read. Parameters as in `fold_rows`."""
    a1, a2, a3, a4, a5 = terms
    line, stripe_columns = np.empty(read.shape[1], np.float32), read.shape[1] // row_offset.shape[1]
    for y in range(start, stop):
        fill_line(row_offset[y], stripe_columns, line)
        for x in range(read.shape[1]):
            first[y, x] = linearised(
                read[y, x], column_offset[x], line[x], a1[y, x], a2[y, x], a3[y, x], a4[y, x], a5[y, x]
            )


@kernel
def fold_segment_rows(
    read: NDArray[np.uint16],
    threshold: NDArray[np.uint16],
    terms: Terms,
    column_offset: NDArray[np.float32],
    row_offset: NDArray[np.float32],
    gain: NDArray[np.float32],
    read_noise: NDArray[np.float32],
    limit_sigma: np.float32,
    least_moment: np.float32,
    interval: np.float32,
    even: bool,
    tables: NDArray[np.float32],
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    mean: NDArray[np.float32],
    comoment: NDArray[np.float32],
    closed_moment: NDArray[np.float32],
    closed_shot: NDArray[np.float32],
    begin: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Fold the rows `start` to `stop` of a read into segments between jumps with a common slope, in place.

    A read that `stands_out` begins a new segment: its own intercept, the same slope. A count of 0 is left out alone
    and ends a segment too; saturation latches and ends the ramp.

    Parameters
    ----------
    read, threshold, terms, column_offset, row_offset
        As in `fold_rows`.
    gain, read_noise : float32 (rows, columns)
        Electrons per DN; DN of one read.
    limit_sigma : float32
        Of the jump test.
    least_moment : float32
        T (s^2) of the fewest reads whose slope the test trusts.
    interval : float32
        Since the read before, s.
    even : bool
        Whether all intervals are this one.
    tables : float32 (4, k + 1)
        From `segments.factors`, for read k (from 0), by the read that a segment began with: gain of the running mean,
        lever of the co-moment; of the reads of the segment before this one T = sum (t - tbar)^2 and the Poisson sum.
    first, last, mean, comoment : float32 (rows, columns)
        Linearised first read; the read before, and the mean of the segment's reads, above it, DN; co-moment of all
        segments, DN s.
    closed_moment, closed_shot : float32 (rows, columns)
        T and Poisson sum of the segments that have ended.
    begin : uint16 (rows, columns)
        Read that the open segment began with.
    flags : uint8 (rows, columns)
        SATURATED (latched: all segments have ended), AD_FLOOR, JUMP_DET.
    """
    a1, a2, a3, a4, a5 = terms
    columns = read.shape[1]
    latest = tables.shape[1] - 1
    half_interval, twelfth = interval / np.float32(2), interval * interval / np.float32(12)
    blocks = np.zeros((columns + 7) // 8, np.uint64)  # eight pixels at a time: most rows have few events
    event = blocks.view(np.uint8)
    row = np.zeros((3, columns + _APART), np.float32)
    line, stripe_columns = np.empty(columns, np.float32), columns // row_offset.shape[1]
    limits = interval, least_moment, limit_sigma
    for y in range(start, stop):
        fill_line(row_offset[y], stripe_columns, line)
        if not even:  # arithmetic otherwise; looking factors up is no vector instruction, and goes ahead
            for x in range(columns):
                for i in range(3):
                    row[i, x] = tables[i, begin[y, x]]
        for x in range(columns):
            if even:
                factors = even_factors(np.float32(latest) - np.float32(begin[y, x]), half_interval, twelfth)
            else:
                factors = row[0, x], row[1, x], row[2, x]
            last[y, x], mean[y, x], comoment[y, x], event[x] = fold_segment_pixel(
                read[y, x],
                threshold[y, x],
                column_offset[x],
                line[x],
                gain[y, x],
                read_noise[y, x],
                limits,
                factors,
                first[y, x],
                last[y, x],
                mean[y, x],
                comoment[y, x],
                closed_moment[y, x],
                flags[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )
        for block in range(len(blocks)):
            if blocks[block] == 0:
                continue
            for x in range(8 * block, min(8 * block + 8, columns)):
                if event[x] != 0:
                    if flags[y, x] & _SATURATED == 0:
                        closed_moment[y, x] += tables[2, begin[y, x]]
                        closed_shot[y, x] += tables[3, begin[y, x]]
                    begin[y, x], flags[y, x] = after_event(
                        read[y, x], threshold[y, x], latest, begin[y, x], flags[y, x]
                    )


@kernel
def fold_sum_rows(
    read: NDArray[np.uint16],
    threshold: NDArray[np.uint16],
    terms: Terms,
    column_offset: NDArray[np.float32],
    row_offset: NDArray[np.float32],
    weights: NDArray[np.float32],
    first: NDArray[np.float32],
    sums: NDArray[np.float32],
    number: NDArray[np.uint16],
    flags: NDArray[np.uint8],
    start: int,
    stop: int,
) -> None:
    """Add the rows `start` to `stop` of a read to several weighted sums, in place.

    A pixel that saturates, or reads 0, is left out from that read on (it latches): how sums are combined depends on
    which reads are in them, and is looked up by their number.

    Parameters
    ----------
    weights : float32 (sums,)
        Of this read.
    first : float32 (rows, columns)
        From `first_rows`.
    sums : float32 (sums, rows, columns)
        Weighted sums of the good reads above the first.
    number : uint16 (rows, columns)
        Good reads so far.
    read, threshold, terms, column_offset, row_offset, flags
        As in `fold_rows`.
    """
    a1, a2, a3, a4, a5 = terms
    columns = read.shape[1]
    above = np.zeros(columns, np.float32)
    line, stripe_columns = np.empty(columns, np.float32), columns // row_offset.shape[1]
    for y in range(start, stop):
        fill_line(row_offset[y], stripe_columns, line)
        for x in range(columns):
            above[x], number[y, x], flags[y, x] = fold_sum_pixel(
                read[y, x],
                threshold[y, x],
                column_offset[x],
                line[x],
                first[y, x],
                number[y, x],
                flags[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )
        for j in range(len(weights)):
            weight = weights[j]
            for x in range(columns):
                sums[j, y, x] += weight * above[x]
