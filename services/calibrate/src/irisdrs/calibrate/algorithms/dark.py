"""Dark current: subtract the master dark."""

from typing import NamedTuple

import numpy as np

from irisdrs.calibrate.algorithms.arrays import Flags, Image
from irisdrs.calibrate.algorithms.dq_init import combine_flags, flag
from irisdrs.shared.quality import Quality


class DarkSubtracted(NamedTuple):
    """A frame without dark current."""

    signal: Image
    variance: Image
    dq: Flags


def subtract_dark(
    signal: Image, variance: Image, dq: Flags, dark: Image, dark_variance: Image, dark_dq: Flags
) -> DarkSubtracted:
    """Subtract a dark rate: ``S' = S - D``, ``V' = V + V_D``.

    Parameters
    ----------
    signal, dark : ndarray of float32, (ny, nx)
        Frame and master dark of the same detector, sampling and integration time, DN/s.
    variance, dark_variance : ndarray of float32, (ny, nx)
        Of the frame (its readout part: the noise of a dark does not depend on the source) and of the dark, (DN/s)**2.
    dq, dark_dq : ndarray of uint32, (ny, nx)
        The dark's flags are passed on.

    Returns
    -------
    DarkSubtracted
        Where the dark is not finite, nothing is subtracted and the pixel is flagged UNRELIABLE_DARK.

    Notes
    -----
    Formula: the calibration design page, `dark_sub`; the same as ccdproc's `subtract_dark` without scaling.
    """
    unknown = ~np.isfinite(dark)
    flags = combine_flags(dq, dark_dq)
    if not unknown.any():
        return DarkSubtracted(signal - dark, variance + dark_variance, flags)
    return DarkSubtracted(
        signal - np.where(unknown, np.float32(0), dark),
        variance + np.where(unknown, np.float32(0), dark_variance),
        flag(flags, unknown, Quality.UNRELIABLE_DARK),
    )
