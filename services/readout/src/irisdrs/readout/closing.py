"""Close an exposure: its sums become a frame, and so does a ramp that is the only one, in its own planes.

Memory that nobody has touched yet costs more time than the arithmetic here, and somebody waits for the frame.
"""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Adder, Plane, Ramp, Rows, Sums
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling.coadd import close_rows
from irisdrs.readout.sampling.planes import Place, planes
from irisdrs.shared.quality import Quality

#: Rows of a ramp whose sums are made at a time: of 4096 columns they stay in the cache.
_ROWS = 16


def close_sums(
    rows: Rows, sums: Sums, calibration: Calibration, flags: Quality
) -> tuple[Sums, NDArray[np.uint32], int]:
    """Close sums, which become the planes of the frame.

    Parameters
    ----------
    rows : callable
    sums : Sums
        Of all ramps.
    calibration : Calibration
    flags : Quality
        Flags for all pixels.

    Returns
    -------
    sums : Sums
        Rate, its error, and both variances, in the order of `close_rows`.
    dq : uint32 (rows, columns)
    saturated : int
        Science pixels with a saturated read.
    """
    dq, saturated = np.empty_like(calibration.dq), list[int]()

    def close(start: int, stop: int) -> None:
        saturated.append(_close(sums.rows(start, stop), dq[start:stop], calibration, flags, start))

    rows(len(dq), close)
    return sums, dq, sum(saturated)


def close_ramp(
    rows: Rows, ramp: Ramp, add: Adder, calibration: Calibration, flags: Quality
) -> tuple[Sums, NDArray[np.uint32], int]:
    """Close an exposure of one ramp: every bit is what `close_sums` makes of the sums that it is added to.

    Parameters
    ----------
    ramp : Ramp
        Its planes become those of the frame.
    add : callable
        From its `adder`.
    rows, calibration, flags
        As in `close_sums`, and so is what is returned.
    """
    frame, dq = _planes_of(ramp)
    saturated = list[int]()

    def close(start: int, stop: int) -> None:
        scratch = Sums.alloc((_ROWS, dq.shape[1]))
        for top in range(start, stop, _ROWS):
            bottom = min(top + _ROWS, stop)
            sums = scratch.rows(0, bottom - top)
            for plane in sums.planes():
                plane[...] = 0
            add(sums, top, bottom)
            saturated.append(_close(sums, dq[top:bottom], calibration, flags, top))
            for plane, closed in zip(frame.rows(top, bottom).planes()[:4], sums.planes()[:4], strict=True):
                plane[...] = closed

    rows(len(dq), close)
    return frame, dq, sum(saturated)


def _planes_of(ramp: Ramp) -> tuple[Sums, NDArray[np.uint32]]:
    """The planes of a frame in those of a ramp, and in further ones where it has too few."""
    shape = ramp.flags.shape[0], ramp.flags.shape[1]
    arrays = [getattr(ramp, spec.name) for spec in fields(ramp)]
    found: list[Plane] = [
        plane
        for array in arrays
        if isinstance(array, np.ndarray) and array.dtype == np.float32
        for plane in array.reshape(-1, *shape)
    ]
    found.extend(planes(shape, max(5 - len(found), 0), Place.SUMS))
    signal, weight, poisson, rnoise, dq = found[:5]
    return Sums(signal, weight, poisson, rnoise, ramp.flags), dq.view(np.uint32)


def _close(sums: Sums, dq: NDArray[np.uint32], calibration: Calibration, flags: Quality, start: int) -> int:
    """Close the sums of the rows from `start` on, and fill their flags; the number of saturated science pixels."""
    stop = start + len(dq)
    np.bitwise_or(calibration.dq[start:stop], np.uint32(flags), out=dq)
    close_rows(
        calibration.gain[start:stop],
        calibration.read_noise[start:stop],
        sums.seen,
        sums.signal,
        sums.weight,
        sums.poisson,
        sums.rnoise,
        dq,
    )
    rows, columns = calibration.science
    science = slice(max(rows.start - start, 0), max(min(stop, rows.stop) - start, 0))
    return int(np.count_nonzero(sums.seen[science, columns] & np.uint8(Quality.SATURATED)))
