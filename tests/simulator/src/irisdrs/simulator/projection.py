"""Where a direction on the sky falls on a detector: the simulator's own tangent-plane (TAN) projection.

Source of the formulae: Calabretta & Greisen 2002 (A&A 395, 1077), zenithal gnomonic projection. Position angle counts
from North through East to detector +y; at position angle 0, +y is North and +x is West.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, detector_axis_offset_arcsec

ARCSEC_PER_RADIAN = 180.0 / np.pi * 3600.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Pointing:
    """Where the instrument axis points.

    Attributes
    ----------
    ra_deg, dec_deg : float
        ICRS, degrees.
    position_angle_deg : float
        From North through East to detector +y, degrees.
    """

    ra_deg: float
    dec_deg: float
    position_angle_deg: float = 0.0

    def offset(self, east_arcsec: float, north_arcsec: float) -> "Pointing":
        """The pointing moved in its tangent plane, arcsec to the East and to the North."""
        ra, dec = from_tangent_plane(self, np.array([east_arcsec]), np.array([north_arcsec]))
        return Pointing(float(ra[0]), float(dec[0]), self.position_angle_deg)


def to_tangent_plane(centre: Pointing, ra_deg: Floats, dec_deg: Floats) -> tuple[Floats, Floats]:
    """East and North in the plane that touches the sky at `centre`, arcsec; not a number beyond 90 degrees."""
    dec0, dec = np.deg2rad(centre.dec_deg), np.deg2rad(dec_deg)
    delta = np.deg2rad(ra_deg - centre.ra_deg)
    cos_distance = np.sin(dec0) * np.sin(dec) + np.cos(dec0) * np.cos(dec) * np.cos(delta)
    visible = np.where(cos_distance > 0.0, cos_distance, np.nan)
    east = np.cos(dec) * np.sin(delta) / visible
    north = (np.cos(dec0) * np.sin(dec) - np.sin(dec0) * np.cos(dec) * np.cos(delta)) / visible
    return east * ARCSEC_PER_RADIAN, north * ARCSEC_PER_RADIAN


def from_tangent_plane(centre: Pointing, east_arcsec: Floats, north_arcsec: Floats) -> tuple[Floats, Floats]:
    """Right ascension and declination, degrees, of points in the plane that touches the sky at `centre`."""
    east, north = east_arcsec / ARCSEC_PER_RADIAN, north_arcsec / ARCSEC_PER_RADIAN
    dec0 = np.deg2rad(centre.dec_deg)
    towards_pole = np.cos(dec0) - north * np.sin(dec0)
    delta = np.arctan2(east, towards_pole)
    dec = np.arctan2(np.sin(dec0) + north * np.cos(dec0), np.hypot(east, towards_pole))
    return (centre.ra_deg + np.rad2deg(delta)) % 360.0, np.rad2deg(dec)


def to_pixels(
    pointing: Pointing, detector: Detector, shape: tuple[int, int], ra_deg: Floats, dec_deg: Floats
) -> tuple[Floats, Floats]:
    """Pixel coordinates x, y (0-based, integers at pixel centres) of directions on the sky."""
    east, north = to_tangent_plane(pointing, ra_deg, dec_deg)
    angle = np.deg2rad(pointing.position_angle_deg)
    across = -east * np.cos(angle) + north * np.sin(angle)
    along = east * np.sin(angle) + north * np.cos(angle)
    centre_x, centre_y = detector_axis_offset_arcsec(detector, shape)
    rows, columns = shape
    x = (across - centre_x) / IMAGER_SCALE_ARCSEC + (columns - 1) / 2
    y = (along - centre_y) / IMAGER_SCALE_ARCSEC + (rows - 1) / 2
    return x, y
