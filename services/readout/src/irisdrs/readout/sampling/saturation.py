"""Saturation thresholds in the form that the fold compares with."""

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.quality import Quality

#: Largest count of the converter, DN: always saturated.
ADC_MAX = 65535


def saturation_threshold(
    threshold: NDArray[np.float32], dq: NDArray[np.uint32]
) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """Smallest saturated count of every pixel.

    Parameters
    ----------
    threshold : float32 (rows, columns)
        Raw DN from which a pixel counts as saturated.
    dq : uint32 (rows, columns)
        Flags of the reference; NO_SAT_CHECK marks a threshold that must not be used.

    Returns
    -------
    smallest : uint16 (rows, columns)
        65535 where there is no threshold.
    flags : uint32 (rows, columns)
        NO_SAT_CHECK there.
    """
    unknown = ~np.isfinite(threshold) | ((dq & Quality.NO_SAT_CHECK) != 0)
    known = np.where(unknown, np.float32(ADC_MAX), threshold)
    smallest = np.clip(np.ceil(known), 0, ADC_MAX).astype(np.uint16)
    return smallest, np.where(unknown, np.uint32(Quality.NO_SAT_CHECK), np.uint32(0))
