"""Add up the ramps of an exposure, each pixel weighted by its good time; `close` makes a frame of the sums.

A ramp's weight is the time between its first and last good read, in units of the full time: 1 for a ramp that is
whole, so that a single whole ramp passes unchanged. A ramp with jumps has lost their intervals: its weight is the
inverse of its photon variance for f / g = 1, (sum T)^2 / sum P, in the same units. No weight depends on a ramp's own
rate, and the photon variance is that of the common rate of all ramps: the sum does not lean to ramps that look faint.
Ramps are added in index order.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.linearity import Terms
from irisdrs.readout.sampling.pixel_sums import (
    R_LIMITS,
    combination_entry,
    combination_share,
    entry_before,
    noise_growth,
    segment_share,
)
from irisdrs.shared.quality import Quality

_SATURATED = np.uint8(Quality.SATURATED)

Plane = NDArray[np.float32]
#: Sums over ramps: signal, weight, Poisson and read-noise variance, and flags of all ramps; (rows, columns).
SumPlanes = tuple[Plane, Plane, Plane, Plane, NDArray[np.uint8]]


#: Sums that are weighted at once, from coefficients that are fetched one by one for each pixel.
_AT_ONCE = 4


class LinearFold(NamedTuple):
    """What `fold_rows` leaves of a ramp, and what makes a rate of it.

    Attributes
    ----------
    slope : float32 (rows, columns)
        What the sampling mode accumulates: the co-moment or the last difference.
    first : float32 (rows, columns)
        Linearised first read, DN.
    number : uint16 (rows, columns)
        Good reads.
    flags : uint8 (rows, columns)
        Latched flags of the ramp.
    table : float32 (5, reads + 1)
        By number of good reads: weight w, w * scale, w^2 * Poisson factor, w^2 * read-noise factor, and what makes
        of `slope` half of the ramp's signal; all 0 below two reads, which make no slope.
    terms : five of float32 (rows, columns)
        Linearity, with whose slope half-way up the ramp the read noise grows; of no rows, when it shall not.
    """

    slope: Plane
    first: Plane
    number: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    table: Plane
    terms: Terms


class SegmentFold(NamedTuple):
    """What `fold_segment_rows` leaves of a ramp, and what makes a rate of it.

    Attributes
    ----------
    first, mean, comoment, closed_moment, closed_shot, begin, flags
        Planes of the ramp.
    moments : float32 (2, reads + 1)
        T and P of the reads from each one to the last.
    full_time_s : float32
        Of a whole ramp, s.
    terms
        As in `LinearFold`.
    """

    first: Plane
    mean: Plane
    comoment: Plane
    closed_moment: Plane
    closed_shot: Plane
    begin: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    moments: Plane
    full_time_s: np.float32
    terms: Terms


class SumFold(NamedTuple):
    """What `fold_sum_rows` leaves of a ramp, and what makes a rate of it.

    Attributes
    ----------
    first, sums, number, flags
        Planes of the ramp.
    guess, table
        From `combination.Combinations`.
    times : float32 (reads,)
        Above that of the first read, s.
    full_time_s : float32
        Of a whole ramp, s.
    by_ratio : bool
        Whether entries are Fixsen's classes of signal to noise; else they are those of r.
    gain, read_noise : float32 (rows, columns)
        Electrons per DN; DN of one read.
    terms
        As in `LinearFold`.
    """

    first: Plane
    sums: NDArray[np.float32]
    number: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    guess: NDArray[np.float32]
    table: NDArray[np.float32]
    times: NDArray[np.float32]
    full_time_s: np.float32
    by_ratio: bool
    gain: Plane
    read_noise: Plane
    terms: Terms


@kernel
def add_rows(ramp: LinearFold, sums: SumPlanes, start: int, stop: int) -> None:
    """Add the rows `start` to `stop` of a ramp to sums of its exposure, which have these rows alone, in place."""
    slope, first, number, flags, table, terms = ramp
    signal, weight, poisson, rnoise, seen = sums
    a1, a2, a3, a4, a5 = terms
    scaled = a1.shape[0] > 0
    for y in range(start, stop):
        for x in range(slope.shape[1]):
            n = number[y, x]
            noise = table[3, n]
            if scaled:
                noise *= noise_growth(
                    first[y, x],
                    slope[y, x],
                    table[4, n],
                    a1[y, x],
                    a2[y, x],
                    a3[y, x],
                    a4[y, x],
                    a5[y, x],
                )
            weight[y - start, x] += table[0, n]
            signal[y - start, x] += slope[y, x] * table[1, n]
            poisson[y - start, x] += table[2, n]
            rnoise[y - start, x] += noise
            seen[y - start, x] |= flags[y, x]


@kernel
def add_segment_rows(ramp: SegmentFold, sums: SumPlanes, start: int, stop: int) -> None:
    """Add rows of a ramp as `add_rows` does."""
    first, mean, comoment, closed_moment, closed_shot, begin, flags, moments, full_time_s, terms = ramp
    signal, weight, poisson, rnoise, seen = sums
    a1, a2, a3, a4, a5 = terms
    scaled = a1.shape[0] > 0
    columns = comoment.shape[1]
    row = np.zeros((3, columns), np.float32)
    open_moment, open_shot, growth = row[0], row[1], row[2]
    for y in range(start, stop):
        for x in range(columns):
            is_open = (flags[y, x] & _SATURATED) == 0
            open_moment[x] = moments[0, begin[y, x]] if is_open else np.float32(0)
            open_shot[x] = moments[1, begin[y, x]] if is_open else np.float32(0)
            growth[x] = np.float32(1)
        if scaled:
            for x in range(columns):
                growth[x] = noise_growth(
                    first[y, x],
                    mean[y, x],
                    np.float32(1),
                    a1[y, x],
                    a2[y, x],
                    a3[y, x],
                    a4[y, x],
                    a5[y, x],
                )
        for x in range(columns):
            moment = closed_moment[y, x] + open_moment[x]
            shot = closed_shot[y, x] + open_shot[x]
            w, share, photons, noise = segment_share(comoment[y, x], moment, shot, growth[x], full_time_s)
            weight[y - start, x] += w
            signal[y - start, x] += share
            poisson[y - start, x] += photons
            rnoise[y - start, x] += noise
            seen[y - start, x] |= flags[y, x]


@kernel
def add_combination_rows(ramp: SumFold, sums: SumPlanes, start: int, stop: int) -> None:
    """Add rows of a ramp as `add_rows` does."""
    first, kept, number, flags, guess, table, times, full_time_s, by_ratio, gain, read_noise, terms = ramp
    signal, weight, poisson, rnoise, seen = sums
    columns, whole = number.shape[1], len(times)
    duration, shares, entries = times[whole - 1], np.empty((5, columns), np.float32), np.empty(columns, np.uint8)
    w, share, photons, noise, growth = shares[0], shares[1], shares[2], shares[3], shares[4]
    for y in range(start, stop):
        _guess_row(first, kept, guess[whole], duration, terms, share, growth, y)
        find_entries(by_ratio, duration, whole, gain[y], read_noise[y], share, entries)
        _combine_row(kept, table[whole], entries, duration, full_time_s, shares, y)
        shortest = number[y].min()
        for x in range(columns if shortest < max(whole, 2) else 0):
            n = number[y, x]
            if n < 2:
                w[x] = share[x] = photons[x] = noise[x] = np.float32(0)
            elif n < whole:
                rate, grown = _guess_pixel(first, kept, guess[n], times[n - 1], terms, y, x)
                entry = combination_entry(by_ratio, rate, times[n - 1], n, gain[y, x], read_noise[y, x])
                best, factors = np.float32(0), table[n, entry]
                for i in range(kept.shape[0]):
                    best += factors[i] * kept[i, y, x]
                w[x], share[x], photons[x], noise[x] = combination_share(
                    best, times[n - 1], full_time_s, factors[-2], factors[-1], grown
                )
        for x in range(columns):
            weight[y - start, x] += w[x]
            signal[y - start, x] += share[x]
            poisson[y - start, x] += photons[x]
            rnoise[y - start, x] += noise[x]
            seen[y - start, x] |= flags[y, x]


@kernel
def _combine_row(
    sums: NDArray[np.float32],
    table: NDArray[np.float32],
    entry: NDArray[np.uint8],
    duration: np.float32,
    full_time_s: np.float32,
    shares: NDArray[np.float32],
    y: int,
) -> None:
    """What the pixels of a row add if all their reads are good: fill the first four of `shares`; the last is growth."""
    w, share, photons, noise, growth = shares[0], shares[1], shares[2], shares[3], shares[4]
    count = sums.shape[0]
    if count >= _AT_ONCE:
        for x in range(len(entry)):
            of, rate = entry[x], np.float32(0)
            rate += table[of, 0] * sums[0, y, x]
            rate += table[of, 1] * sums[1, y, x]
            rate += table[of, 2] * sums[2, y, x]
            rate += table[of, 3] * sums[3, y, x]
            share[x], photons[x], noise[x] = rate, table[of, count], table[of, count + 1]
    else:
        for x in range(len(entry)):
            share[x], photons[x], noise[x] = np.float32(0), table[entry[x], count], table[entry[x], count + 1]
    for i in range(_AT_ONCE if count >= _AT_ONCE else 0, count):
        for x in range(len(entry)):
            share[x] += table[entry[x], i] * sums[i, y, x]
    for x in range(len(entry)):
        w[x], share[x], photons[x], noise[x] = combination_share(
            share[x], duration, full_time_s, photons[x], noise[x], growth[x]
        )


@kernel
def _guess_row(
    first: NDArray[np.float32],
    sums: NDArray[np.float32],
    guess: NDArray[np.float32],
    duration: np.float32,
    terms: Terms,
    rate: NDArray[np.float32],
    growth: NDArray[np.float32],
    y: int,
) -> None:
    """Fill the guessed rates (DN/s) and `noise_growth` of the pixels of a row whose reads are all good."""
    a1, a2, a3, a4, a5 = terms
    for x in range(len(rate)):
        rate[x], growth[x] = np.float32(0), np.float32(1)
    for i in range(sums.shape[0]):
        factor = guess[i]
        for x in range(len(rate)):
            rate[x] += factor * sums[i, y, x]
    if a1.shape[0] > 0:
        half = np.float32(0.5)
        for x in range(len(rate)):
            growth[x] = noise_growth(
                first[y, x], rate[x] * duration, half, a1[y, x], a2[y, x], a3[y, x], a4[y, x], a5[y, x]
            )


@kernel
def find_entries(
    by_ratio: bool,
    duration: np.float32,
    number: int,
    gain: NDArray[np.float32],
    read_noise: NDArray[np.float32],
    rate: NDArray[np.float32],
    entry: NDArray[np.uint8],
) -> None:
    """Fill the entries of a row of pixels as `combination_entry` does; `rate` is overwritten."""
    if by_ratio:
        for x in range(len(rate)):
            entry[x] = combination_entry(by_ratio, rate[x], duration, number, gain[x], read_noise[x])
        return
    cadence = duration / np.float32(number - 1)
    for x in range(len(rate)):
        r = rate[x] * cadence / (gain[x] * read_noise[x] * read_noise[x])
        # The sign of what is no number, 0 / 0, differs between processors.
        rate[x] = r if r > np.float32(0) else np.float32(0)
    bits = rate.view(np.int32)
    for x in range(len(rate)):
        entry[x] = np.uint8(entry_before(bits[x]))
    for x in range(len(rate)):
        entry[x] += np.uint8(rate[x] >= R_LIMITS[entry[x]])


@kernel
def _guess_pixel(
    first: NDArray[np.float32],
    sums: NDArray[np.float32],
    guess: NDArray[np.float32],
    duration: np.float32,
    terms: Terms,
    y: int,
    x: int,
) -> tuple[np.float32, np.float32]:
    """Guessed rate (DN/s) of a pixel, and its `noise_growth`."""
    a1, a2, a3, a4, a5 = terms
    rate = np.float32(0)
    for i in range(sums.shape[0]):
        rate += guess[i] * sums[i, y, x]
    if a1.shape[0] == 0:
        return rate, np.float32(1)
    half = np.float32(0.5)
    return rate, noise_growth(first[y, x], rate * duration, half, a1[y, x], a2[y, x], a3[y, x], a4[y, x], a5[y, x])
