"""What one read does to one pixel: functions of scalars, which every kernel that folds is compiled from.

The loops of `fold` call them for the processor, the kernels of `cuda` for graphics processors: they are the one source
of the arithmetic. All state is float32, of the reads above the first: what is subtracted first costs no precision
later. Nothing branches that need not: they choose factors (0 for a read that is left out), and loops over them compile
to vector instructions.
"""

import numpy as np

from irisdrs.readout.compilation import kernel
from irisdrs.shared.quality import Quality

_SATURATED = np.uint8(Quality.SATURATED)
_JUMP = np.uint8(Quality.JUMP_DET)
_AD_FLOOR = np.uint8(Quality.AD_FLOOR)


@kernel
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


@kernel
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


@kernel
def latch(flags: np.uint8, count: np.uint16, threshold: np.uint16) -> np.uint8:
    """Flags of a ramp after a raw count: what was set stays, SATURATED and AD_FLOOR come."""
    saturated = _SATURATED if count >= threshold else np.uint8(0)
    floor = _AD_FLOOR if count == 0 else np.uint8(0)
    return np.uint8(flags | saturated | floor)


@kernel
def update(
    value: np.float32, mean: np.float32, comoment: np.float32, gain: np.float32, lever: np.float32
) -> tuple[np.float32, np.float32]:
    """Running mean and co-moment with one more value; gain and lever 0 leave it out, 1 and 0 begin anew."""
    new_mean = mean + gain * (value - mean)
    return new_mean, comoment + lever * (value - new_mean)


@kernel
def fold_pixel(
    count: np.uint16,
    threshold: np.uint16,
    column_offset: np.float32,
    row_offset: np.float32,
    gain: np.float32,
    lever: np.float32,
    latest: np.uint16,
    needed: np.uint16,
    first: np.float32,
    mean: np.float32,
    comoment: np.float32,
    number: np.uint16,
    flags: np.uint8,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> tuple[np.float32, np.float32, np.uint16, np.uint8]:
    """Mean, co-moment, number of the latest used read and flags of a pixel with one more read; as in `fold_rows`."""
    latched = latch(flags, count, threshold)
    good = ((latched & _SATURATED) == 0) & (count != 0) & (number >= needed)
    above = above_first(count, column_offset, row_offset, first, a1, a2, a3, a4, a5)
    used_gain = gain if good else np.float32(0)
    used_lever = lever if good else np.float32(0)
    new_mean, new_comoment = update(above, mean, comoment, used_gain, used_lever)
    return new_mean, new_comoment, np.uint16(number + (np.uint16(latest - number) if good else np.uint16(0))), latched


@kernel
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


@kernel
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


@kernel
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


@kernel
def fold_segment_pixel(
    count: np.uint16,
    threshold: np.uint16,
    column_offset: np.float32,
    row_offset: np.float32,
    gain: np.float32,
    read_noise: np.float32,
    limits: tuple[np.float32, np.float32, np.float32],
    factors: tuple[np.float32, np.float32, np.float32],
    first: np.float32,
    last: np.float32,
    mean: np.float32,
    comoment: np.float32,
    closed_moment: np.float32,
    flags: np.uint8,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.uint8]:
    """A read above the first, mean and co-moment with it, and 1 if `after_event` is to be asked, else 0.

    Parameters
    ----------
    limits : (float32, float32, float32)
        Interval, least T and limit of `stands_out`.
    factors : (float32, float32, float32)
        Gain of the mean, lever of the co-moment, and T of the segment's reads before this one.
    others
        As in `fold_segment_rows`.
    """
    value = above_first(count, column_offset, row_offset, first, a1, a2, a3, a4, a5)
    step, lever, moment = factors
    jumps = (lever > np.float32(0)) & stands_out(
        value - last, comoment, closed_moment + moment, read_noise, gain, limits[0], limits[1], limits[2]
    )
    new_mean, new_comoment, event = fold_into_segment(
        count, threshold, flags, value, mean, comoment, (step, lever), jumps
    )
    return value, new_mean, new_comoment, event


@kernel
def after_event(
    count: np.uint16, threshold: np.uint16, latest: int, begin: np.uint16, flags: np.uint8
) -> tuple[np.uint16, np.uint8]:
    """Read that the open segment begins with, and flags, where one has ended with read `latest` or before it.

    After saturation no segment is open: there a read of 0 is flagged, and no more.
    """
    floor = _AD_FLOOR if count == 0 else np.uint8(0)
    if flags & _SATURATED != 0:
        return np.uint16(begin), np.uint8(flags | floor)
    if count >= threshold:
        return np.uint16(latest), np.uint8(flags | floor | _SATURATED)
    if count == 0:
        return np.uint16(latest + 1), np.uint8(flags | floor)
    return np.uint16(latest), np.uint8(flags | _JUMP)


@kernel
def fold_sum_pixel(
    count: np.uint16,
    threshold: np.uint16,
    column_offset: np.float32,
    row_offset: np.float32,
    first: np.float32,
    number: np.uint16,
    flags: np.uint8,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> tuple[np.float32, np.uint16, np.uint8]:
    """A read above the first, 0 when it is left out; number of good reads and flags with it; as in `fold_sum_rows`."""
    latched = latch(flags, count, threshold)
    good = latched == 0
    above = above_first(count, column_offset, row_offset, first, a1, a2, a3, a4, a5)
    return (
        above if good else np.float32(0),
        np.uint16(number + (np.uint16(1) if good else np.uint16(0))),
        latched,
    )
