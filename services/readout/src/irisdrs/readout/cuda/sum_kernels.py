"""The kernels that end ramps and exposures, one for each loop of `sampling.coadd` and `close`, as in `kernels`."""

from typing import Any

import numpy as np

from irisdrs.readout.cuda.compilation import cuda, kernel
from irisdrs.readout.sampling.pixel_sums import (
    close_pixel,
    combination_entry,
    combination_share,
    noise_growth,
    segment_share,
)
from irisdrs.shared.quality import Quality

_DO_NOT_USE = np.uint32(Quality.DO_NOT_USE)
_SATURATED = np.uint8(Quality.SATURATED)


@kernel
def add_linear(
    slope: Any,
    first: Any,
    number: Any,
    flags: Any,
    table: Any,
    terms: Any,
    scaled: bool,
    fresh: bool,
    signal: Any,
    weight: Any,
    poisson: Any,
    rnoise: Any,
    seen: Any,
) -> None:
    """As `add_rows`; `table` is (reads + 1, 5), `scaled` says whether read noise grows with the linearity."""
    x, y = cuda.grid(2)
    if y < slope.shape[0] and x < slope.shape[1]:
        if fresh:
            signal[y, x] = weight[y, x] = poisson[y, x] = rnoise[y, x] = np.float32(0)
            seen[y, x] = np.uint8(0)
        n = number[y, x]
        noise = table[n, 3]
        if scaled:
            growth = noise_growth(
                first[y, x],
                slope[y, x],
                table[n, 4],
                terms[0][y, x],
                terms[1][y, x],
                terms[2][y, x],
                terms[3][y, x],
                terms[4][y, x],
            )
            noise *= np.float32(growth)
        weight[y, x] += table[n, 0]
        signal[y, x] += slope[y, x] * table[n, 1]
        poisson[y, x] += table[n, 2]
        rnoise[y, x] += noise
        seen[y, x] |= flags[y, x]


@kernel
def add_segments(
    first: Any,
    mean: Any,
    comoment: Any,
    closed_moment: Any,
    closed_shot: Any,
    begin: Any,
    flags: Any,
    moments: Any,
    full_time_s: np.float32,
    terms: Any,
    scaled: bool,
    fresh: bool,
    signal: Any,
    weight: Any,
    poisson: Any,
    rnoise: Any,
    seen: Any,
) -> None:
    """As `add_segment_rows`; `moments` are (reads + 1, 2)."""
    x, y = cuda.grid(2)
    if y < comoment.shape[0] and x < comoment.shape[1]:
        if fresh:
            signal[y, x] = weight[y, x] = poisson[y, x] = rnoise[y, x] = np.float32(0)
            seen[y, x] = np.uint8(0)
        moment, shot = closed_moment[y, x], closed_shot[y, x]
        if (flags[y, x] & _SATURATED) == 0:
            moment += moments[begin[y, x], 0]
            shot += moments[begin[y, x], 1]
        growth = np.float32(1)
        if scaled:
            growth = np.float32(
                noise_growth(
                    first[y, x],
                    mean[y, x],
                    np.float32(1),
                    terms[0][y, x],
                    terms[1][y, x],
                    terms[2][y, x],
                    terms[3][y, x],
                    terms[4][y, x],
                )
            )
        w, share, photons, noise = segment_share(comoment[y, x], moment, shot, growth, full_time_s)
        weight[y, x] += np.float32(w)
        signal[y, x] += np.float32(share)
        poisson[y, x] += np.float32(photons)
        rnoise[y, x] += np.float32(noise)
        seen[y, x] |= flags[y, x]


@kernel
def add_combination(
    first: Any,
    sums: Any,
    number: Any,
    flags: Any,
    guess: Any,
    table: Any,
    times: Any,
    full_time_s: np.float32,
    by_ratio: bool,
    gain: Any,
    read_noise: Any,
    terms: Any,
    scaled: bool,
    fresh: bool,
    signal: Any,
    weight: Any,
    poisson: Any,
    rnoise: Any,
    seen: Any,
) -> None:
    """As `add_combination_rows`."""
    x, y = cuda.grid(2)
    if y < number.shape[0] and x < number.shape[1]:
        if fresh:
            signal[y, x] = weight[y, x] = poisson[y, x] = rnoise[y, x] = np.float32(0)
            seen[y, x] = np.uint8(0)
        seen[y, x] |= flags[y, x]
        n, count = number[y, x], sums.shape[0]
        if n >= 2:
            rate = np.float32(0)
            for i in range(count):
                rate += guess[n, i] * sums[i, y, x]
            duration = times[n - 1]
            entry = combination_entry(by_ratio, rate, duration, n, gain[y, x], read_noise[y, x])
            growth = np.float32(1)
            if scaled:
                growth = np.float32(
                    noise_growth(
                        first[y, x],
                        rate * duration,
                        np.float32(0.5),
                        terms[0][y, x],
                        terms[1][y, x],
                        terms[2][y, x],
                        terms[3][y, x],
                        terms[4][y, x],
                    )
                )
            rate = np.float32(0)
            for i in range(count):
                rate += table[n, entry, i] * sums[i, y, x]
            w, share, photons, noise = combination_share(
                rate, duration, full_time_s, table[n, entry, count], table[n, entry, count + 1], growth
            )
            weight[y, x] += np.float32(w)
            signal[y, x] += np.float32(share)
            poisson[y, x] += np.float32(photons)
            rnoise[y, x] += np.float32(noise)


@kernel
def close(
    gain: Any,
    read_noise: Any,
    known: Any,
    flags: np.uint32,
    science: Any,
    seen: Any,
    signal: Any,
    weight: Any,
    poisson: Any,
    rnoise: Any,
    dq: Any,
    saturated: Any,
) -> None:
    """As `close_rows`.

    Parameters
    ----------
    known : uint32 (rows, columns)
        Flags of the references.
    flags : uint32
        For all pixels.
    science : (first row, end, first column, end)
        Of the pixels among which saturated ones are counted.
    saturated : int32 (1,)
        How many of them are; whole numbers, which no order changes. 0 before.
    """
    x, y = cuda.grid(2)
    if y < signal.shape[0] and x < signal.shape[1]:
        signal[y, x], weight[y, x], poisson[y, x], rnoise[y, x], usable = close_pixel(
            gain[y, x], read_noise[y, x], signal[y, x], weight[y, x], poisson[y, x], rnoise[y, x]
        )
        dq[y, x] = known[y, x] | flags | np.uint32(seen[y, x]) | (np.uint32(0) if usable else _DO_NOT_USE)
        inside = science[0] <= y and y < science[1] and science[2] <= x and x < science[3]
        if inside and (seen[y, x] & _SATURATED) != 0:
            cuda.atomic.add(saturated, 0, 1)
