"""Linearity coefficients in the form that the fold evaluates.

The model is y = sum a_i x**i, i = 0 to 5, x in DN after the reference-pixel correction.
"""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.planes import Place, planes
from irisdrs.shared.quality import Quality

#: Linearity coefficients a_1 to a_5 as kernels take them: planes (rows, columns), float32.
Terms = tuple[NDArray[np.float32], ...]

#: Coefficients a_0 to a_5 of a reference.
COEFFICIENTS = 6

#: Planes c_0 to c_4 of a file of the C library `iris_readout`.
IRIS_READOUT_PLANES = 5


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
        The identity where the coefficients cannot be used: one is not finite, or a_1 is 0. Each plane is contiguous,
        and in a place of its own.
    flags : uint32 (rows, columns)
        NO_LIN_CORR there.
    """
    bad = ~np.isfinite(coefficients).all(axis=0) | (coefficients[1] == 0) | ((dq & Quality.NO_LIN_CORR) != 0)
    terms: NDArray[np.float32] = planes((bad.shape[0], bad.shape[1]), COEFFICIENTS - 1, Place.TERMS)
    terms[...] = coefficients[1:]
    terms[0][bad] = 1.0
    terms[1:, bad] = 0.0
    return terms, np.where(bad, np.uint32(Quality.NO_LIN_CORR), np.uint32(0))


def from_iris_readout(planes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Coefficients of the model from those of the C library `iris_readout`.

    Its correction is y = (1 + c_0 + c_1 x + c_2 x**2 + c_3 x**3 + c_4 x**4) x, so that a_0 = 0, a_1 = 1 + c_0 and
    a_{i+1} = c_i. Its x is the raw count, ours has lost the offset of its output channel: take files that were measured
    on counts without offsets.

    Parameters
    ----------
    planes : float32 (5, rows, columns)
        c_0 to c_4.

    Returns
    -------
    float32 (6, rows, columns)
        a_0 to a_5.
    """
    coefficients = np.concatenate([np.zeros_like(planes[:1]), planes]).astype(np.float32)
    coefficients[1] += np.float32(1)
    return coefficients


def linearity_slope(
    x: np.float32, a1: np.float32, a2: np.float32, a3: np.float32, a4: np.float32, a5: np.float32
) -> np.float32:
    """dy/dx = sum i a_i x**(i - 1): by this factor the noise of a count grows in the correction.

    A plain scalar function, to be compiled into kernels of any device; it takes arrays as well.

    Parameters
    ----------
    x : float32
        DN after the reference-pixel correction.
    a1, ..., a5 : float32
        From `linearity_terms`.
    """
    two, three, four, five = np.float32(2), np.float32(3), np.float32(4), np.float32(5)
    return a1 + x * (two * a2 + x * (three * a3 + x * (four * a4 + x * (five * a5))))
