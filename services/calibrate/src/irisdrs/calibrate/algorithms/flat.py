"""Pixel response: divide by the flat."""

from typing import NamedTuple

import numpy as np

from irisdrs.calibrate.algorithms.arrays import Flags, Image
from irisdrs.calibrate.algorithms.dq_init import combine_flags, flag
from irisdrs.shared.quality import Quality


class FlatFielded(NamedTuple):
    """A frame of even response. `var_flat` is the part of the variance that comes from the flat's own error."""

    signal: Image
    var_poisson: Image
    var_rnoise: Image
    var_flat: Image | None
    dq: Flags


def divide_flat(
    signal: Image,
    var_poisson: Image,
    var_rnoise: Image,
    dq: Flags,
    flat: Image,
    flat_error: Image | None,
    flat_dq: Flags,
) -> FlatFielded:
    """Divide by a relative response: ``S' = S / F``, ``V' = (V + S'**2 V_F) / F**2``.

    Parameters
    ----------
    signal : ndarray of float32, (ny, nx)
        Any unit.
    var_poisson, var_rnoise : ndarray of float32, (ny, nx)
        Square of that unit.
    dq, flat_dq : ndarray of uint32, (ny, nx)
        The flat's flags are passed on.
    flat : ndarray of float32, (ny, nx)
        Relative response, about 1. Where it is not finite or not above zero, 1 is used and the pixel is flagged
        NO_FLAT_FIELD and DO_NOT_USE.
    flat_error : ndarray of float32, (ny, nx), optional
        One standard deviation of the flat; without it there is no `var_flat`.

    Returns
    -------
    FlatFielded

    Notes
    -----
    Formula: first-order propagation for a quotient of independent quantities, as in the calibration design page
    (`flat_field`) and in JWST's flat-field step, which keeps the flat's part as VAR_FLAT too.
    """
    usable = np.isfinite(flat) & (flat > 0)
    response: Image = np.where(usable, flat, np.float32(1))
    flags = combine_flags(dq, flat_dq)
    if not usable.all():
        flags = flag(flags, ~usable, Quality.NO_FLAT_FIELD | Quality.DO_NOT_USE)
    flattened: Image = signal / response
    var_flat = None
    if flat_error is not None:
        # An unusable response has no error either: the pixel is flagged, and must not spread NaN.
        relative = np.where(usable & np.isfinite(flat_error), flat_error, np.float32(0))
        relative /= response
        relative *= flattened
        var_flat = np.square(relative, out=relative)
    squared: Image = np.square(response, out=response)
    return FlatFielded(flattened, var_poisson / squared, var_rnoise / squared, var_flat, flags)
