"""Tracks of cosmic rays: muons that cross the detector's sensitive layer in straight lines."""

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER

#: Muons on a square centimetre and second: 1 per cm2 and minute at sea level (PDG), about twice that on a high summit.
RATE_PER_CM2_S = 0.03
#: Side of a pixel (H4RG-10) and thickness of the sensitive layer, micrometres; the thickness is assumed.
PIXEL_UM, THICKNESS_UM = 10.0, 8.0
#: Electrons freed in a micrometre of HgCdTe of 2.5 um cut-off: 1 keV / 1.5 eV per pair. Assumed.
ELECTRONS_PER_UM = 650.0
#: A grazing track is no longer than this, pixels.
_LONGEST_PX = 200.0
#: Spacing of the points that a track is drawn with, pixels.
_STEP_PX = 0.1


def tracks(
    shape: tuple[int, int], seconds: float, random: np.random.Generator, rate_per_cm2_s: float = RATE_PER_CM2_S
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Electrons of the cosmic rays of one interval.

    Zenith angles follow cos(z)**2 per solid angle (flux through a plane: cos(z)**3 sin(z)), azimuths are uniform, and
    the energy loss has an exponential tail above two thirds of its mean.

    Returns
    -------
    rows, columns : int64
        Pixels hit, light-sensitive ones only; each once per track.
    electrons : float32
        Whole numbers.
    """
    edge = REFERENCE_PIXEL_BORDER
    area_cm2 = shape[0] * shape[1] * (PIXEL_UM * 1e-4) ** 2
    found_rows, found_columns, found_electrons = [], [], []
    for _ in range(random.poisson(rate_per_cm2_s * area_cm2 * seconds)):
        row, column = random.uniform(-0.5, shape[0] - 0.5), random.uniform(-0.5, shape[1] - 0.5)
        tangent = np.sqrt(random.uniform(1e-9, 1.0) ** -0.5 - 1.0)
        length = min(THICKNESS_UM / PIXEL_UM * tangent, _LONGEST_PX)
        azimuth = random.uniform(0.0, 2.0 * np.pi)
        loss = ELECTRONS_PER_UM * (2.0 / 3.0 + random.exponential(1.0 / 3.0))
        total = loss * np.hypot(THICKNESS_UM, length * PIXEL_UM)
        along = (np.arange(int(length / _STEP_PX) + 1) + 0.5) * _STEP_PX
        path_rows = np.rint(row + along * np.sin(azimuth)).astype(np.int64)
        path_columns = np.rint(column + along * np.cos(azimuth)).astype(np.int64)
        pixels, points = np.unique(np.stack([path_rows, path_columns]), axis=1, return_counts=True)
        inside = (pixels >= edge).all(0) & (pixels[0] < shape[0] - edge) & (pixels[1] < shape[1] - edge)
        found_rows.append(pixels[0, inside])
        found_columns.append(pixels[1, inside])
        found_electrons.append(np.rint(total * points[inside] / along.size))
    if not found_rows:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)
    electrons = np.concatenate(found_electrons).astype(np.float32)
    return np.concatenate(found_rows), np.concatenate(found_columns), electrons
