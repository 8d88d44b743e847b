"""The sky of a night: stars around a target, blank sky away from it, and its glow through a filter."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from irisdrs.shared.instrument import FILTERS, IMAGER_SCALE_ARCSEC, TELESCOPE_AREA_M2, THROUGHPUT
from irisdrs.simulator.projection import Pointing, from_tangent_plane
from irisdrs.simulator.variates import generator

#: Stars in a square arcsecond of the field before those too close to another are left out: some 28 on a megapixel stay.
FIELD_DENSITY = 1.9
#: Least distance between two stars, arcsec: a star's annulus is free of others (crowding is not this field's subject).
LEAST_DISTANCE_ARCSEC = 0.2
#: Radius of the field, arcsec: the four detectors and their dithers lie inside (24 arcsec from the axis to a corner).
FIELD_RADIUS_ARCSEC = 30.0
#: Beyond the field a blank sky: stars in a square arcsecond, out to `BLANK_RADIUS_ARCSEC`.
BLANK_DENSITY = 0.01
BLANK_RADIUS_ARCSEC = 180.0
#: AB magnitudes of the brightest (they saturate) and of the faintest stars, and the slope d log10(N) / dm.
BRIGHTEST_AB, FAINTEST_AB, LUMINOSITY_SLOPE = 16.8, 22.0, 0.12


@dataclass(frozen=True, slots=True)
class StarField:
    """True stars: every array has one entry per star.

    Attributes
    ----------
    star : int64
        Identifier in this field.
    ra_deg, dec_deg : float64
        ICRS, degrees.
    magnitude : float64
        AB magnitude, the same through every filter.
    """

    star: NDArray[np.int64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    magnitude: NDArray[np.float64]


def star_field(seed: int, target: Pointing, density: float = FIELD_DENSITY) -> StarField:
    """Stars around a target, the same for the same seed and target.

    Places are uniform in the field and, far fewer, around it; the luminosity function is exponential in magnitude.
    """
    random = generator(seed, "star field", f"{target.ra_deg:.9f}", f"{target.dec_deg:.9f}")
    crowded = random.poisson(density * np.pi * FIELD_RADIUS_ARCSEC**2)
    blank = random.poisson(BLANK_DENSITY * np.pi * (BLANK_RADIUS_ARCSEC**2 - FIELD_RADIUS_ARCSEC**2))
    squared = np.concatenate(
        [
            random.uniform(0.0, FIELD_RADIUS_ARCSEC**2, crowded),
            random.uniform(FIELD_RADIUS_ARCSEC**2, BLANK_RADIUS_ARCSEC**2, blank),
        ]
    )
    radius, angle = np.sqrt(squared), random.uniform(0.0, 2.0 * np.pi, crowded + blank)
    places = np.column_stack([radius * np.sin(angle), radius * np.cos(angle)])
    places = np.delete(places, cKDTree(places).query_pairs(LEAST_DISTANCE_ARCSEC, output_type="ndarray")[:, 1], axis=0)
    ra, dec = from_tangent_plane(target, places[:, 0], places[:, 1])
    ends = 10.0 ** (LUMINOSITY_SLOPE * np.array([BRIGHTEST_AB, FAINTEST_AB]))
    magnitude = np.log10(random.uniform(ends[0], ends[1], len(places))) / LUMINOSITY_SLOPE
    return StarField(np.arange(len(places)), ra, dec, magnitude)


def star_electrons(magnitude: NDArray[np.float64], filter_name: str) -> NDArray[np.float64]:
    """Electrons per second, over the whole image of a star, from its AB magnitude."""
    zero = FILTERS[filter_name].ab_photons * TELESCOPE_AREA_M2 * THROUGHPUT
    return np.asarray(zero * 10.0 ** (-0.4 * magnitude))


def sky_electrons(filter_name: str) -> float:
    """Electrons per second in one pixel of the imager from the night sky."""
    return FILTERS[filter_name].sky_photons * TELESCOPE_AREA_M2 * THROUGHPUT * IMAGER_SCALE_ARCSEC**2
