"""The kernels: each finds its pixel, calls the functions of `sampling` that the processor's loops call, and stores.

There is one for each loop of `sampling.fold` (of `sampling.coadd` in `sum_kernels`), with the same planes, which are
described there, and one for the fit. One thread has one pixel: no result depends on an order. `fresh` is True for the
read that a ramp begins with, and for the ramp that sums begin with: their planes are then taken for zeros.

A number that a function gives is float64 in the simulator: what goes on into the next function is made float32 anew.
"""

from typing import Any

import numpy as np

from irisdrs.readout.cuda.compilation import cuda, kernel
from irisdrs.readout.sampling.differences import Detector, Ramp, Tile
from irisdrs.readout.sampling.pixel import (
    after_event,
    even_factors,
    fold_pixel,
    fold_segment_pixel,
    fold_sum_pixel,
    linearised,
)
from irisdrs.readout.sampling.ramp_fit import Method, Planes, fit_columns
from irisdrs.shared.quality import Quality

_ADC_MAX = np.uint16(65535)
_SATURATED = np.uint8(Quality.SATURATED)


@kernel
def grow(read: Any, threshold: Any, grown: Any) -> None:
    """As `grow_rows`."""
    x, y = cuda.grid(2)
    rows, columns = read.shape
    if y < rows and x < columns:
        count = read[y, x]
        for near_y in range(max(y - 1, 0), min(y + 2, rows)):
            for near_x in range(max(x - 1, 0), min(x + 2, columns)):
                if read[near_y, near_x] >= threshold[near_y, near_x]:
                    count = _ADC_MAX
        grown[y, x] = count


@kernel
def fold_linear(
    read: Any,
    threshold: Any,
    terms: Any,
    column_offset: Any,
    row_offset: Any,
    gain: np.float32,
    lever: np.float32,
    latest: np.uint16,
    needed: np.uint16,
    fresh: bool,
    first: Any,
    mean: Any,
    comoment: Any,
    number: Any,
    flags: Any,
) -> None:
    """As `fold_rows`, and `first_rows` before it; `row_offset` is (rows, stripes of as many columns each)."""
    x, y = cuda.grid(2)
    if y < read.shape[0] and x < read.shape[1]:
        a1, a2, a3, a4, a5 = terms[0][y, x], terms[1][y, x], terms[2][y, x], terms[3][y, x], terms[4][y, x]
        of_row = row_offset[y, x // (read.shape[1] // row_offset.shape[1])]
        if fresh:
            first[y, x] = linearised(read[y, x], column_offset[x], of_row, a1, a2, a3, a4, a5)
        mean[y, x], comoment[y, x], number[y, x], flags[y, x] = fold_pixel(
            read[y, x],
            threshold[y, x],
            column_offset[x],
            of_row,
            gain,
            lever,
            latest,
            needed,
            first[y, x],
            np.float32(0) if fresh else mean[y, x],
            np.float32(0) if fresh else comoment[y, x],
            np.uint16(0) if fresh else number[y, x],
            np.uint8(0) if fresh else flags[y, x],
            a1,
            a2,
            a3,
            a4,
            a5,
        )


@kernel
def fold_segments(
    read: Any,
    threshold: Any,
    terms: Any,
    column_offset: Any,
    row_offset: Any,
    gain: Any,
    read_noise: Any,
    limits: Any,
    even: bool,
    half_interval: np.float32,
    twelfth: np.float32,
    latest: int,
    tables: Any,
    fresh: bool,
    first: Any,
    last: Any,
    mean: Any,
    comoment: Any,
    closed_moment: Any,
    closed_shot: Any,
    begin: Any,
    flags: Any,
) -> None:
    """As `fold_segment_rows`, and `first_rows` before it; `tables` are (reads, 4), and may have more than `latest`."""
    x, y = cuda.grid(2)
    if y < read.shape[0] and x < read.shape[1]:
        a1, a2, a3, a4, a5 = terms[0][y, x], terms[1][y, x], terms[2][y, x], terms[3][y, x], terms[4][y, x]
        of_row = row_offset[y, x // (read.shape[1] // row_offset.shape[1])]
        if fresh:
            first[y, x] = linearised(read[y, x], column_offset[x], of_row, a1, a2, a3, a4, a5)
            begin[y, x], flags[y, x] = np.uint16(0), np.uint8(0)
            closed_moment[y, x] = closed_shot[y, x] = np.float32(0)
        began = begin[y, x]
        step, lever, moment = tables[began, 0], tables[began, 1], tables[began, 2]
        if even:
            step, lever, moment = even_factors(np.float32(latest) - np.float32(began), half_interval, twelfth)
        value, new_mean, new_comoment, event = fold_segment_pixel(
            read[y, x],
            threshold[y, x],
            column_offset[x],
            of_row,
            gain[y, x],
            read_noise[y, x],
            limits,
            (np.float32(step), np.float32(lever), np.float32(moment)),
            first[y, x],
            np.float32(0) if fresh else last[y, x],
            np.float32(0) if fresh else mean[y, x],
            np.float32(0) if fresh else comoment[y, x],
            closed_moment[y, x],
            flags[y, x],
            a1,
            a2,
            a3,
            a4,
            a5,
        )
        last[y, x], mean[y, x], comoment[y, x] = value, new_mean, new_comoment
        if event != 0:
            if (flags[y, x] & _SATURATED) == 0:
                closed_moment[y, x] += tables[began, 2]
                closed_shot[y, x] += tables[began, 3]
            begin[y, x], flags[y, x] = after_event(read[y, x], threshold[y, x], latest, began, flags[y, x])


@kernel
def fold_sums(
    read: Any,
    threshold: Any,
    terms: Any,
    column_offset: Any,
    row_offset: Any,
    weights: Any,
    fresh: bool,
    first: Any,
    sums: Any,
    number: Any,
    flags: Any,
) -> None:
    """As `fold_sum_rows`, and `first_rows` before it."""
    x, y = cuda.grid(2)
    if y < read.shape[0] and x < read.shape[1]:
        a1, a2, a3, a4, a5 = terms[0][y, x], terms[1][y, x], terms[2][y, x], terms[3][y, x], terms[4][y, x]
        of_row = row_offset[y, x // (read.shape[1] // row_offset.shape[1])]
        if fresh:
            first[y, x] = linearised(read[y, x], column_offset[x], of_row, a1, a2, a3, a4, a5)
        above, number[y, x], flags[y, x] = fold_sum_pixel(
            read[y, x],
            threshold[y, x],
            column_offset[x],
            of_row,
            first[y, x],
            np.uint16(0) if fresh else number[y, x],
            np.uint8(0) if fresh else flags[y, x],
            a1,
            a2,
            a3,
            a4,
            a5,
        )
        for j in range(sums.shape[0]):
            before = np.float32(0) if fresh else sums[j, y, x]
            sums[j, y, x] = before + weights[j] * np.float32(above)


@kernel
def thin(plane: Any, step: int, thinned: Any) -> None:
    """Every so many rows and columns of a plane."""
    x, y = cuda.grid(2)
    if y < thinned.shape[0] and x < thinned.shape[1]:
        thinned[y, x] = plane[y * step, x * step]


@kernel
def fit(
    ramp: Ramp, detector: Detector, method: Method, planes: Planes, scratch: Any, first_row: int, last_row: int
) -> None:
    """As `fit_rows`, for the rows from `first_row` to before `last_row`.

    Parameters
    ----------
    scratch : tuple
        float32 (TILE_PLANES, used reads, threads), (SUMS, threads), uint8 (threads,), float32 (PIXEL_LINES, used
        reads, threads), int64 (used reads - 1,), float32 (powers, used reads): tile, sums, suspects, pixel, lines, and
        `common_weights`. A thread's own are apart from each other, and those of its neighbours beside them: so they
        are fetched together.
    """
    x, y = cuda.grid(2)
    columns, row = planes.rate.shape[1], first_row + y
    if row < last_row and x < columns:
        at = y * columns + x
        tiles, sums, suspects, pixels, lines, common = scratch
        tile = Tile(
            tiles[0][:, at : at + 1],
            tiles[1][:, at : at + 1],
            tiles[2][:, at : at + 1],
            tiles[3][:, at : at + 1],
            tiles[4][:, at : at + 1],
            lines,
        )
        planes.dq[row, x] = 0
        fit_columns(
            ramp,
            detector,
            method,
            planes,
            row,
            x,
            1,
            tile,
            sums[:, at : at + 1],
            suspects[at : at + 1],
            pixels[:, :, at],
            common[:, ::1],
        )
