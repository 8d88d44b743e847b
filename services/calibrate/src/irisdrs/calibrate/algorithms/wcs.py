"""World coordinates of an imager detector: a gnomonic (TAN) projection about the instrument axis."""

import math
from dataclasses import dataclass

ARCSEC_PER_DEGREE = 3600.0


@dataclass(frozen=True, slots=True)
class TangentPlane:
    """FITS WCS keywords of a TAN projection (Calabretta & Greisen 2002, A&A 395, 1077; paper II).

    Attributes
    ----------
    crval1, crval2 : float
        Right ascension and declination (ICRS) of the tangent point, degrees.
    crpix1, crpix2 : float
        Pixel of the tangent point, counted from 1 at the centre of the first pixel. It may lie off the detector.
    cd1_1, cd1_2, cd2_1, cd2_2 : float
        Degrees per pixel.
    """

    crval1: float
    crval2: float
    crpix1: float
    crpix2: float
    cd1_1: float
    cd1_2: float
    cd2_1: float
    cd2_2: float


def tangent_plane(
    ra_deg: float,
    dec_deg: float,
    position_angle_deg: float,
    scale_arcsec: float,
    offset_arcsec: tuple[float, float],
    shape: tuple[int, int],
) -> TangentPlane:
    """TAN keywords of one detector from the pointing of the instrument axis.

    All detectors share the tangent point, the instrument axis, so that one projection covers the whole field.

    Parameters
    ----------
    ra_deg, dec_deg : float
        Where the instrument axis points (ICRS), degrees.
    position_angle_deg : float
        Of the detector's +y axis, from North through East, degrees. At 0, +y is North and +x is West.
    scale_arcsec : float
        Plate scale, arcsec per pixel.
    offset_arcsec : (float, float)
        Centre of the detector seen from the axis, along the detector's +x and +y, arcsec.
    shape : (int, int)
        Rows and columns.
    """
    angle = math.radians(position_angle_deg)
    step = scale_arcsec / ARCSEC_PER_DEGREE
    rows, columns = shape
    return TangentPlane(
        crval1=ra_deg,
        crval2=dec_deg,
        crpix1=(columns + 1) / 2 - offset_arcsec[0] / scale_arcsec,
        crpix2=(rows + 1) / 2 - offset_arcsec[1] / scale_arcsec,
        # +x is at position angle PA - 90: its East component is sin(PA - 90) = -cos PA, its North one sin PA.
        cd1_1=-step * math.cos(angle),
        cd1_2=step * math.sin(angle),
        cd2_1=step * math.sin(angle),
        cd2_2=step * math.cos(angle),
    )
