"""Close the sums of an exposure into a frame; a ramp that is the only one at once, row by row.

A row of sums stays in the cache. Sums of more rows at a time would not, and what they are made of would be fetched from
memory twice.
"""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.coadd import (
    LinearFold,
    Plane,
    SegmentFold,
    SumFold,
    SumPlanes,
    add_combination_rows,
    add_rows,
    add_segment_rows,
)
from irisdrs.readout.sampling.pixel_sums import close_pixel
from irisdrs.shared.quality import Quality

_DO_NOT_USE = np.uint32(Quality.DO_NOT_USE)

#: Electrons per DN (positive), DN of one read, and flags that are known before: all (rows, columns).
Known = tuple[Plane, Plane, NDArray[np.uint32]]
#: What becomes the frame: rate, its error, Poisson and read-noise variance, and flags: those known, those of the ramps,
#: and DO_NOT_USE where no ramp gave a slope that is a number; all planes are 0 there.
FramePlanes = tuple[Plane, Plane, Plane, Plane, NDArray[np.uint32]]


@kernel
def close_rows(sums: SumPlanes, known: Known, flags: np.uint32, frame: FramePlanes, start: int, stop: int) -> None:
    """Turn the rows `start` to `stop` of sums into those of a frame.

    Parameters
    ----------
    sums : SumPlanes
    known : Known
    flags : uint32
        Flags for all pixels.
    frame : FramePlanes
        Its planes may be those of the sums.
    """
    for y in range(start, stop):
        _close_row(sums, y, known, flags, frame, y)


@kernel
def close_linear_rows(
    ramp: LinearFold, known: Known, flags: np.uint32, frame: FramePlanes, start: int, stop: int
) -> None:
    """Close rows of the only ramp; every bit is that of `close_rows` of the sums to which `add_rows` adds it.

    Parameters
    ----------
    ramp : LinearFold
    known, flags
        As in `close_rows`.
    frame : FramePlanes
        Its planes may be those of the ramp.
    """
    sums = _sums_of_a_row(known)
    for y in range(start, stop):
        _clear(sums)
        add_rows(ramp, sums, y, y + 1)
        _close_row(sums, 0, known, flags, frame, y)


@kernel
def close_segment_rows(
    ramp: SegmentFold, known: Known, flags: np.uint32, frame: FramePlanes, start: int, stop: int
) -> None:
    """As `close_linear_rows`, of what `add_segment_rows` adds."""
    sums = _sums_of_a_row(known)
    for y in range(start, stop):
        _clear(sums)
        add_segment_rows(ramp, sums, y, y + 1)
        _close_row(sums, 0, known, flags, frame, y)


@kernel
def close_combination_rows(
    ramp: SumFold, known: Known, flags: np.uint32, frame: FramePlanes, start: int, stop: int
) -> None:
    """As `close_linear_rows`, of what `add_combination_rows` adds."""
    sums = _sums_of_a_row(known)
    for y in range(start, stop):
        _clear(sums)
        add_combination_rows(ramp, sums, y, y + 1)
        _close_row(sums, 0, known, flags, frame, y)


@kernel
def _sums_of_a_row(known: Known) -> SumPlanes:
    columns = known[0].shape[1]
    lines = np.empty((4, 1, columns), np.float32)
    return lines[0], lines[1], lines[2], lines[3], np.empty((1, columns), np.uint8)


@kernel
def _clear(sums: SumPlanes) -> None:
    signal, weight, poisson, rnoise, seen = sums
    for plane in (signal, weight, poisson, rnoise):
        plane[:] = np.float32(0)
    seen[:] = np.uint8(0)


@kernel
def _close_row(sums: SumPlanes, row: int, known: Known, flags: np.uint32, frame: FramePlanes, y: int) -> None:
    """Close a row of sums into row `y` of a frame."""
    signal, weight, poisson, rnoise, seen = sums
    gain, read_noise, known_dq = known
    rate, error, var_poisson, var_rnoise, dq = frame
    columns = gain.shape[1]
    # The planes of the frame may be the sums: only between lines of its own can a loop take several pixels at a time.
    closed = np.empty((4, columns), np.float32)
    of_rate, of_error, of_poisson, of_rnoise = closed[0], closed[1], closed[2], closed[3]
    for x in range(columns):
        of_rate[x], of_error[x], of_poisson[x], of_rnoise[x], usable = close_pixel(
            gain[y, x], read_noise[y, x], signal[row, x], weight[row, x], poisson[row, x], rnoise[row, x]
        )
        unusable = np.uint32(0) if usable else _DO_NOT_USE
        dq[y, x] = known_dq[y, x] | flags | np.uint32(seen[row, x]) | unusable
    for x in range(columns):
        rate[y, x], error[y, x] = of_rate[x], of_error[x]
        var_poisson[y, x], var_rnoise[y, x] = of_poisson[x], of_rnoise[x]
