"""The per-pixel kernels: fold one raw read into the state of a ramp.

Order per read: saturation and converter floor on the raw counts, offsets of the reference pixels, linearity, and then
one of three ways to accumulate:

- `fold_rows`: running mean and co-moment; all modes that are one sum over the reads, whose weights the latest read
  fixes (CDS, MCDS, least squares). 15 bytes a pixel.
- `fold_segment_rows`: the same, with a jump test between reads and a new segment after each jump. 27 bytes a pixel.
- `fold_sum_rows`: several sums with weights that are planned before the ramp begins (Fixsen, optimum).

All state is float32, of the reads above the first: what is subtracted first costs no precision later. Every pixel is
computed on its own, without reordering: the result does not depend on how rows are shared among threads.

Loops compile to vector instructions. They select factors (0 for a read that is left out) and always store: a choice
between a new value and the old one becomes a masked store, which costs more than all the rest on some processors. What
is rare is done after a row.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from irisdrs.readout.sampling.linearity import Terms
from irisdrs.shared.quality import Quality

_SATURATED = np.uint8(Quality.SATURATED)
_JUMP = np.uint8(Quality.JUMP_DET)
_AD_FLOOR = np.uint8(Quality.AD_FLOOR)

#: Elements between rows that are read together: rows that begin at the same place of a memory page contend for the
#: same few places of the processor's cache. 48 of float32 are three cache lines.
_APART = 48


@njit(nogil=True, cache=True, error_model="numpy")
def linearised(
    count: np.uint16,
    column_offset: np.float32,
    row_offset: np.float32,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> np.float32:
    """Signal of a raw count, DN: less the offsets of its column and row, through the linearity polynomial."""
    x = np.float32(count) - column_offset - row_offset
    return x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * a5))))


@njit(nogil=True, cache=True, error_model="numpy")
def above_first(
    count: np.uint16,
    column_offset: np.float32,
    row_offset: np.float32,
    first: np.float32,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> np.float32:
    """Signal of a raw count above the linearised first read, DN.

    The first read is subtracted before the polynomial adds its few per cent: a difference of two linearised counts of
    30 000 DN has their rounding, 2e-3 DN.
    """
    x = np.float32(count) - column_offset - row_offset
    return (x - first) + x * ((a1 - np.float32(1)) + x * (a2 + x * (a3 + x * (a4 + x * a5))))


@njit(nogil=True, cache=True, error_model="numpy")
def latch(flags: np.uint8, count: np.uint16, threshold: np.uint16) -> np.uint8:
    """Flags of a ramp after a raw count: what was set stays, SATURATED and AD_FLOOR come."""
    saturated = _SATURATED if count >= threshold else np.uint8(0)
    floor = _AD_FLOOR if count == 0 else np.uint8(0)
    return np.uint8(flags | saturated | floor)


@njit(nogil=True, cache=True, error_model="numpy")
def update(
    value: np.float32, mean: np.float32, comoment: np.float32, gain: np.float32, lever: np.float32
) -> tuple[np.float32, np.float32]:
    """Running mean and co-moment with one more value; gain and lever 0 leave it out, 1 and 0 begin anew."""
    new_mean = mean + gain * (value - mean)
    return new_mean, comoment + lever * (value - new_mean)


@njit(nogil=True, cache=True, error_model="numpy")
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
    column_offset, row_offset : float32 (columns,), (rows,)
        Of the reference pixels, DN; both are subtracted.
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
    for y in range(start, stop):
        for x in range(read.shape[1]):
            count = read[y, x]
            latched = latch(flags[y, x], count, threshold[y, x])
            good = ((latched & _SATURATED) == 0) & (count != 0) & (number[y, x] >= needed)
            above = above_first(
                count,
                column_offset[x],
                row_offset[y],
                first[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )
            used_gain = gain if good else np.float32(0)
            used_lever = lever if good else np.float32(0)
            mean[y, x], comoment[y, x] = update(above, mean[y, x], comoment[y, x], used_gain, used_lever)
            number[y, x] += np.uint16(latest - number[y, x]) if good else np.uint16(0)
            flags[y, x] = latched


@njit(nogil=True, cache=True, error_model="numpy")
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
    for y in range(start, stop):
        for x in range(read.shape[1]):
            first[y, x] = linearised(
                read[y, x], column_offset[x], row_offset[y], a1[y, x], a2[y, x], a3[y, x], a4[y, x], a5[y, x]
            )


@njit(nogil=True, cache=True, error_model="numpy")
def stands_out(
    difference: np.float32,
    comoment: np.float32,
    moment: np.float32,
    read_noise: np.float32,
    gain: np.float32,
    interval: np.float32,
    least_moment: np.float32,
    limit_sigma: np.float32,
) -> np.bool_:
    """Two-point jump test: whether a read is further from the one before than slope and noise explain.

    With the slope f = C / T (DN/s) and the interval h (s), |d - f h| > limit sqrt(2 sr^2 + max(f h, 0) / g); squared,
    and without a division. A slope of too few reads explains nothing.
    """
    expected = comoment * interval
    excess = difference * moment - expected
    noise = moment * np.float32(2) * read_noise * read_noise * gain + max(expected, np.float32(0))
    is_far = excess * excess * gain > limit_sigma * limit_sigma * moment * noise
    return is_far & (moment >= least_moment)


@njit(nogil=True, cache=True, error_model="numpy")
def even_factors(
    reads: np.float32, half_interval: np.float32, twelfth: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """Gain of the mean, lever of the co-moment, and T of a segment of evenly spaced reads before the latest.

    Parameters
    ----------
    reads : float32
        -1 for a segment that begins after the latest.
    half_interval, twelfth : float32
        Half of the interval (s), and a twelfth of its square.
    """
    number = reads + np.float32(1)
    lever = number * half_interval if reads > np.float32(0) else np.float32(0)
    return np.float32(1) / number, lever, (reads * reads - np.float32(1)) * reads * twelfth


@njit(nogil=True, cache=True, error_model="numpy")
def fold_into_segment(
    count: np.uint16,
    threshold: np.uint16,
    flags: np.uint8,
    value: np.float32,
    mean: np.float32,
    comoment: np.float32,
    factors: tuple[np.float32, np.float32],
    jumps: np.bool_,
) -> tuple[np.float32, np.float32, np.uint8]:
    """Mean and co-moment with one more read; and 1 if a segment ends with it or before it, or it is 0, else 0.

    A jump begins a segment. A read that is saturated, or 0, is left out, and so is what follows saturation.

    Parameters
    ----------
    count, threshold : uint16
        Raw count, and the smallest saturated one.
    flags : uint8
        Of the ramp, before the read.
    value, mean, comoment : float32
        Linearised read above the first, DN; mean of the segment, DN; co-moment, DN s.
    factors : (float32, float32)
        Gain of the mean and lever of the co-moment.
    jumps : bool
        Whether the read stands out.
    """
    is_open = (flags & _SATURATED) == 0
    bad = (count >= threshold) | (count == 0)
    good = is_open & (not bad)
    gain = np.float32(1) if jumps else factors[0]
    gain = gain if good else np.float32(0)
    lever = factors[1] if good & (not jumps) else np.float32(0)
    new_mean, new_comoment = update(value, mean, comoment, gain, lever)
    return new_mean, new_comoment, np.uint8(1) if (is_open & (bad | jumps)) | (count == 0) else np.uint8(0)


@njit(nogil=True, cache=True, error_model="numpy")
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
    limits = interval, least_moment, limit_sigma
    for y in range(start, stop):
        if not even:  # arithmetic otherwise; looking factors up is no vector instruction, and goes ahead
            for x in range(columns):
                for i in range(3):
                    row[i, x] = tables[i, begin[y, x]]
        for x in range(columns):
            if even:
                step, lever, moment = even_factors(np.float32(latest) - np.float32(begin[y, x]), half_interval, twelfth)
            else:
                step, lever, moment = row[0, x], row[1, x], row[2, x]
            v = above_first(
                read[y, x],
                column_offset[x],
                row_offset[y],
                first[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )
            jumps = (lever > np.float32(0)) & stands_out(
                v - last[y, x], comoment[y, x], closed_moment[y, x] + moment, read_noise[y, x], gain[y, x], *limits
            )
            last[y, x] = v
            mean[y, x], comoment[y, x], event[x] = fold_into_segment(
                read[y, x], threshold[y, x], flags[y, x], v, mean[y, x], comoment[y, x], (step, lever), jumps
            )
        for block in range(len(blocks)):
            if blocks[block] == 0:
                continue
            for x in range(8 * block, min(8 * block + 8, columns)):
                if event[x] != 0:
                    if read[y, x] == 0:
                        flags[y, x] |= _AD_FLOOR
                    if flags[y, x] & _SATURATED != 0:
                        continue
                    closed_moment[y, x] += tables[2, begin[y, x]]
                    closed_shot[y, x] += tables[3, begin[y, x]]
                    begin[y, x] = latest
                    if read[y, x] >= threshold[y, x]:
                        flags[y, x] |= _SATURATED
                    elif read[y, x] == 0:
                        begin[y, x] = latest + 1
                    else:
                        flags[y, x] |= _JUMP


@njit(nogil=True, cache=True, error_model="numpy")
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
    for y in range(start, stop):
        for x in range(columns):
            count = read[y, x]
            latched = latch(flags[y, x], count, threshold[y, x])
            good = latched == 0
            v = above_first(
                count,
                column_offset[x],
                row_offset[y],
                first[y, x],
                a1[y, x],
                a2[y, x],
                a3[y, x],
                a4[y, x],
                a5[y, x],
            )
            above[x] = v if good else np.float32(0)
            number[y, x] += np.uint16(1) if good else np.uint16(0)
            flags[y, x] = latched
        for j in range(len(weights)):
            weight = weights[j]
            for x in range(columns):
                sums[j, y, x] += weight * above[x]
