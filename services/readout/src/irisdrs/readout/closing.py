"""Close an exposure: its sums become a frame, and so does a ramp that is the only one, in its own planes.

Memory that nobody has touched yet costs more time than the arithmetic here, and somebody waits for the frame.
"""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Adder, Ramp, Rows, Sums
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling.close import Known, close_rows
from irisdrs.readout.sampling.coadd import Plane
from irisdrs.readout.sampling.planes import Place, planes
from irisdrs.shared.quality import Quality


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
        Rate, its error, and both variances, in the order of `FramePlanes`.
    dq : uint32 (rows, columns)
    saturated : int
        Science pixels with a saturated read.
    """
    dq, saturated = np.empty_like(calibration.dq), list[int]()
    known, frame = _known(calibration), (*sums.planes()[:4], dq)

    def close(start: int, stop: int) -> None:
        close_rows(sums.planes(), known, np.uint32(flags), frame, start, stop)
        saturated.append(_saturated(sums, calibration, start, stop))

    rows(len(dq), close)
    return sums, dq, sum(saturated)


def close_ramp(
    rows: Rows, ramp: Ramp, adder: Adder, calibration: Calibration, flags: Quality
) -> tuple[Sums, NDArray[np.uint32], int]:
    """Close an exposure of one ramp: every bit is what `close_sums` makes of the sums that it is added to.

    Parameters
    ----------
    ramp : Ramp
        Its planes become those of the frame.
    adder : Adder
        Of the ramp.
    rows, calibration, flags
        As in `close_sums`, and so is what is returned.
    """
    closed, dq = _planes_of(ramp)
    known, frame, saturated = _known(calibration), (*closed.planes()[:4], dq), list[int]()

    def close(start: int, stop: int) -> None:
        adder.close(known, flags, frame, start, stop)
        saturated.append(_saturated(closed, calibration, start, stop))

    rows(len(dq), close)
    return closed, dq, sum(saturated)


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


def _known(calibration: Calibration) -> Known:
    return calibration.gain, calibration.read_noise, calibration.dq


def _saturated(sums: Sums, calibration: Calibration, start: int, stop: int) -> int:
    """Science pixels of the rows `start` to `stop` with a saturated read."""
    rows, columns = calibration.science
    science = slice(max(rows.start, start), max(min(rows.stop, stop), rows.start))
    return int(np.count_nonzero(sums.seen[science, columns] & np.uint8(Quality.SATURATED)))
