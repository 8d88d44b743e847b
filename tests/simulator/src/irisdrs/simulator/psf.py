"""The image of a star: an Airy core of the obscured aperture and a Moffat halo of the seeing, as far as Strehl allows.

The profile is monochromatic (centre of the filter) and round. Its total flux, out to infinity, is 1. Sources: Born &
Wolf, Principles of Optics, 8.5 (annular aperture); Moffat 1969 (A&A 3, 455).
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy.special import j1

from irisdrs.shared.instrument import APERTURE_M, FILTERS, IMAGER_SCALE_ARCSEC
from irisdrs.simulator.projection import ARCSEC_PER_RADIAN

#: Diameter of the secondary mirror over that of the primary: 3.6 m of baffle in front of 30 m. Assumed.
OBSCURATION = 0.12
#: Share of the light in the core. Assumed: a good night of the adaptive optics in H.
STREHL = 0.7
#: Halo: full width at half maximum of the seeing, arcsec, and the exponent of its wings. Assumed.
HALO_FWHM_ARCSEC, HALO_BETA = 0.5, 2.5

_STEP = 0.02  # of the tabulated profile, pixels: linear interpolation errs by less than 1e-4 of the peak
_REACH = 1100.0  # radius to which the profile is tabulated, pixels
#: Stars are drawn out to where they add less than this, electrons/s in a pixel (sky: some 40), within these radii.
_FAINTEST_RATE, _NEAREST, _FARTHEST = 0.005, 64, 1024

_NODES = np.array([-np.sqrt(0.15), 0.0, np.sqrt(0.15)])  # Gauss-Legendre on a pixel from -1/2 to 1/2
_WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0


@dataclass(frozen=True)
class StarImage:
    """Point-spread function of the imager at one wavelength.

    Attributes
    ----------
    resolution_px : float
        lambda / D in pixels.
    strehl, obscuration : float
        Shares of light and of diameter, 0 to 1.
    halo_fwhm_px : float
        Of the seeing-like halo, pixels.
    """

    resolution_px: float
    strehl: float = STREHL
    obscuration: float = OBSCURATION
    halo_fwhm_px: float = HALO_FWHM_ARCSEC / IMAGER_SCALE_ARCSEC

    def intensity(self, radius_px: NDArray[np.float64]) -> NDArray[np.float64]:
        """Light per square pixel at a distance from the centre, of a star of flux 1."""
        v = np.maximum(np.pi * np.abs(radius_px) / self.resolution_px, 1e-9)
        hole = self.obscuration
        amplitude = 2.0 * j1(v) / v
        if hole > 0.0:
            amplitude = (amplitude - hole**2 * 2.0 * j1(hole * v) / (hole * v)) / (1.0 - hole**2)
        core = np.pi / 4.0 * (1.0 - hole**2) / self.resolution_px**2 * amplitude**2
        width = self.halo_fwhm_px / (2.0 * np.sqrt(2.0 ** (1.0 / HALO_BETA) - 1.0))
        halo = (HALO_BETA - 1.0) / (np.pi * width**2) * (1.0 + (radius_px / width) ** 2) ** -HALO_BETA
        return np.asarray(self.strehl * core + (1.0 - self.strehl) * halo)

    @cached_property
    def radii(self) -> NDArray[np.float64]:
        """Radii at which the profile is tabulated, pixels."""
        return np.arange(0.0, _REACH + _STEP, _STEP)

    @cached_property
    def pixel_profile(self) -> NDArray[np.float64]:
        """Light in a pixel whose centre lies at each of `radii`: the mean of pixels along an axis and a diagonal."""
        profile = np.zeros_like(self.radii)
        for cosine, sine in ((1.0, 0.0), (np.sqrt(0.5), np.sqrt(0.5))):
            for dx, weight_x in zip(_NODES, _WEIGHTS, strict=True):
                for dy, weight_y in zip(_NODES, _WEIGHTS, strict=True):
                    distance = np.hypot(self.radii * cosine + dx, self.radii * sine + dy)
                    profile += 0.5 * weight_x * weight_y * self.intensity(distance)
        return profile

    @cached_property
    def _encircled(self) -> NDArray[np.float64]:
        ring = 2.0 * np.pi * self.radii * self.pixel_profile
        return np.concatenate([[0.0], np.cumsum(0.5 * (ring[1:] + ring[:-1]) * _STEP)])

    def encircled_energy(self, radius_px: float) -> float:
        """Light within a circle around the star, as a sum over pixels with exact shares of cut pixels finds it.

        Cutting a pixel by its area takes its light as uniform, which spreads it once more over a pixel: to second
        order the integral of (1/24) Laplacian of the profile, 2 pi r P'(r) / 24.
        """
        slope = np.interp(radius_px, self.radii, np.gradient(self.pixel_profile, _STEP))
        return float(np.interp(radius_px, self.radii, self._encircled) + 2.0 * np.pi * radius_px * slope / 24.0)

    def reach(self, electrons_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Radius to which stars are drawn, pixels."""
        coarse = self.pixel_profile[:: round(1.0 / _STEP)]
        envelope = np.maximum.accumulate(coarse[::-1])
        needed = coarse.size - np.searchsorted(envelope, _FAINTEST_RATE / np.maximum(electrons_s, 1e-12))
        return np.clip(needed, _NEAREST, _FARTHEST).astype(np.int64)

    def add_stars(
        self,
        image: NDArray[np.float32],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        electrons_s: NDArray[np.float64],
    ) -> None:
        """Draw stars into an image (ny, nx), electrons/s, which is changed in place.

        `x`, `y` are 0-based pixel coordinates; stars may lie outside. Stars are added in their order in every pixel.
        """
        profile = self.pixel_profile.astype(np.float32)
        _add_stars(image, x, y, electrons_s, self.reach(electrons_s), profile, 1.0 / _STEP)


@lru_cache(maxsize=4)
def star_image(filter_name: str, strehl: float = STREHL) -> StarImage:
    """Point-spread function of the imager at the centre of a filter."""
    resolution = FILTERS[filter_name].centre_um * 1e-6 / APERTURE_M * ARCSEC_PER_RADIAN
    return StarImage(resolution / IMAGER_SCALE_ARCSEC, strehl)


@njit(parallel=True, nogil=True, cache=True)
def _add_stars(
    image: NDArray[np.float32],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    electrons_s: NDArray[np.float64],
    reach: NDArray[np.int64],
    profile: NDArray[np.float32],
    per_pixel: float,
) -> None:
    rows, columns = image.shape
    for row in prange(rows):
        for star in range(x.size):
            dy = row - y[star]
            chord_squared = float(reach[star]) ** 2 - dy * dy
            if chord_squared <= 0.0:
                continue
            chord = np.sqrt(chord_squared)
            first = max(0, int(np.ceil(x[star] - chord)))
            last = min(columns - 1, int(np.floor(x[star] + chord)))
            for column in range(first, last + 1):
                place = np.sqrt((column - x[star]) ** 2 + dy * dy) * per_pixel
                below = int(place)
                share = place - below
                value = (1.0 - share) * profile[below] + share * profile[below + 1]
                image[row, column] += electrons_s[star] * value
