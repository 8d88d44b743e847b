"""The aperture that stars are measured in, and what a star and its neighbours put into it and into its annulus."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.simulator.psf import StarImage

#: Radius of the aperture, and of its annulus, in lambda / D: the aperture ends in the dark between two Airy rings.
APERTURE_RADIUS, ANNULUS_INNER, ANNULUS_OUTER = 3.2, 8.0, 14.0
#: A star is isolated if its neighbours add less than this to its flux: in the aperture, and by the annulus' mean
#: (its clipped median, which is what is subtracted, sees several times less of them).
APERTURE_CONTAMINATION, ANNULUS_CONTAMINATION = 0.001, 0.003


@dataclass(frozen=True, slots=True)
class Aperture:
    """Radii of a circular aperture and of the annulus around it, pixels."""

    radius: float
    inner: float
    outer: float

    @property
    def area_ratio(self) -> float:
        """Area of the aperture over that of the annulus."""
        return self.radius**2 / (self.outer**2 - self.inner**2)

    def captured(self, psf: StarImage) -> float:
        """Share of a star's flux that is left in the aperture when the annulus' mean is subtracted."""
        in_annulus = psf.encircled_energy(self.outer) - psf.encircled_energy(self.inner)
        return psf.encircled_energy(self.radius) - in_annulus * self.area_ratio


def aperture_for(psf: StarImage) -> Aperture:
    """The aperture that goes with a point-spread function."""
    return Aperture(*(factor * psf.resolution_px for factor in (APERTURE_RADIUS, ANNULUS_INNER, ANNULUS_OUTER)))


def isolated(
    psf: StarImage, x: NDArray[np.float64], y: NDArray[np.float64], electrons_s: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which stars can be measured as if they were alone; all arrays have one entry per star."""
    aperture = aperture_for(psf)
    distance = np.hypot(x[:, np.newaxis] - x, y[:, np.newaxis] - y)
    np.fill_diagonal(distance, np.inf)
    ratio = electrons_s / electrons_s[:, np.newaxis]
    # A smooth wing is in the annulus too, and goes with the sky; a neighbour at the aperture counts as a whole.
    ring = 0.5 * (aperture.inner + aperture.outer)
    wing = _profile(psf, distance)
    around = _profile(psf, np.abs(distance - ring)) + _profile(psf, distance + ring)
    around = 0.25 * (around + 2.0 * _profile(psf, np.hypot(distance, ring)))
    excess = np.where(distance > aperture.outer + aperture.radius, np.abs(wing - around), wing)
    share = np.where(distance < 2.0 * aperture.radius, 1.0, excess * np.pi * aperture.radius**2)
    near = distance < aperture.outer + aperture.radius
    in_annulus = np.where(near, ratio, 0.0).sum(axis=1) * aperture.area_ratio
    return np.asarray(
        ((share * ratio).sum(axis=1) < APERTURE_CONTAMINATION) & (in_annulus < ANNULUS_CONTAMINATION), np.bool_
    )


def _profile(psf: StarImage, radius_px: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.interp(radius_px, psf.radii, psf.pixel_profile, right=0.0))
