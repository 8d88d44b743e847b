"""Units: data numbers to electrons."""

from typing import NamedTuple

import numpy as np

from irisdrs.calibrate.algorithms.arrays import Flags, Image
from irisdrs.calibrate.algorithms.dq_init import combine_flags, flag
from irisdrs.shared.quality import Quality


class Scaled(NamedTuple):
    """A frame in electron/s."""

    signal: Image
    var_poisson: Image
    var_rnoise: Image
    var_flat: Image | None
    dq: Flags


def to_electrons(
    signal: Image,
    var_poisson: Image,
    var_rnoise: Image,
    var_flat: Image | None,
    dq: Flags,
    gain: Image,
    gain_dq: Flags,
) -> Scaled:
    """Multiply by the gain: ``S' = g S``, ``V' = g**2 V``.

    Parameters
    ----------
    signal : ndarray of float32, (ny, nx)
        DN/s.
    var_poisson, var_rnoise, var_flat : ndarray of float32, (ny, nx)
        (DN/s)**2; `var_flat` may be None.
    dq, gain_dq : ndarray of uint32, (ny, nx)
        The flags of the gain are passed on.
    gain : ndarray of float32, (ny, nx)
        Electrons per DN. Where it is not finite or not above zero, 1 is used and the pixel is flagged
        NO_GAIN_VALUE and DO_NOT_USE.

    Returns
    -------
    Scaled
        electron/s and (electron/s)**2.
    """
    usable = np.isfinite(gain) & (gain > 0)
    factor = np.where(usable, gain, np.float32(1))
    flags = combine_flags(dq, gain_dq)
    if not usable.all():
        flags = flag(flags, ~usable, Quality.NO_GAIN_VALUE | Quality.DO_NOT_USE)
    scaled = signal * factor
    squared = np.square(factor, out=factor)
    return Scaled(
        scaled,
        var_poisson * squared,
        var_rnoise * squared,
        None if var_flat is None else var_flat * squared,
        flags,
    )
