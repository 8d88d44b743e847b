"""The known bad pixels of a detector, and the total error of a frame."""

import numpy as np

from irisdrs.calibrate.algorithms.arrays import Flags, Image, Selection
from irisdrs.shared.quality import Quality


def combine_flags(dq: Flags, mask: Flags) -> Flags:
    """Flags of a frame and of a reference together: a flag that either has.

    Parameters
    ----------
    dq, mask : ndarray of uint32, (ny, nx)

    Returns
    -------
    ndarray of uint32, (ny, nx)
    """
    return np.bitwise_or(dq, mask)


def flag(dq: Flags, where: Selection, flags: Quality) -> Flags:
    """Raise flags on the selected pixels, in a new array.

    Parameters
    ----------
    dq : ndarray of uint32, (ny, nx)
    where : ndarray of bool, (ny, nx)
    flags : Quality
    """
    return np.bitwise_or(dq, np.uint32(flags), out=dq.copy(), where=where)


def total_error(*variances: Image) -> Image:
    """One standard deviation of all independent variances together.

    Parameters
    ----------
    *variances : ndarray of float32, (ny, nx)
        In the square of the signal's unit; a variance below zero (a noisy estimate) counts as none.

    Returns
    -------
    ndarray of float32, (ny, nx)
        In the signal's unit.
    """
    total = np.maximum(variances[0], np.float32(0))
    for variance in variances[1:]:
        total += np.maximum(variance, np.float32(0))
    return np.sqrt(total, out=total)


def bad_fraction(dq: Flags) -> float:
    """Fraction of the science pixels (all but reference pixels) that are flagged DO_NOT_USE."""
    science = (dq & np.uint32(Quality.REFERENCE_PIXEL)) == 0
    bad = science & ((dq & np.uint32(Quality.DO_NOT_USE)) != 0)
    pixels = int(np.count_nonzero(science))
    return int(np.count_nonzero(bad)) / pixels if pixels else 0.0
