"""Linearity coefficients in the form that the fold evaluates."""

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.quality import Quality

#: Coefficients a_0 to a_5 of a reference.
COEFFICIENTS = 6


def linearity_terms(
    coefficients: NDArray[np.float32], dq: NDArray[np.uint32]
) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
    """Coefficients a_1 to a_5 of y = sum a_i x**i, x in DN after the reference-pixel correction.

    a_0 is 0 by definition; a constant would drop out of every slope and difference anyway.

    Parameters
    ----------
    coefficients : float32 (6, rows, columns)
    dq : uint32 (rows, columns)
        Flags of the reference; NO_LIN_CORR marks coefficients that must not be used.

    Returns
    -------
    terms : float32 (5, rows, columns)
        The identity where the coefficients cannot be used: one is not finite, or a_1 is 0.
    flags : uint32 (rows, columns)
        NO_LIN_CORR there.
    """
    bad = ~np.isfinite(coefficients).all(axis=0) | (coefficients[1] == 0) | ((dq & Quality.NO_LIN_CORR) != 0)
    terms = np.array(coefficients[1:], dtype=np.float32, order="C")
    terms[0][bad] = 1.0
    terms[1:, bad] = 0.0
    return terms, np.where(bad, np.uint32(Quality.NO_LIN_CORR), np.uint32(0))
