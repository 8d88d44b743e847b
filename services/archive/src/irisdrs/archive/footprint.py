"""Where on the sky a product lies: a circle around its image, and that circle in the terms of the catalogue."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from astropy.wcs import WCS
from cdshealpix.nested import cone_search, lonlat_to_healpix
from numpy.typing import NDArray

from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import detector_axis_offset_arcsec

#: Depth of the catalogue's HEALPix index: the deepest, cells of 0.4 milliarcsec.
HEALPIX_ORDER = 29

#: Depth of the smallest cells that cover a cone: the library looks two levels deeper and panics beyond order 29.
_DEEPEST_COVER = HEALPIX_ORDER - 2

#: Side of a HEALPix cell of depth 0, degrees: square root of 4 pi / 12 steradians.
_CELL_DEG = 58.6

#: Beyond this radius, degrees, ranges of cells select too little to be worth their while.
_WIDE_DEG = 60.0

_WCS_KEYWORDS = ("WCSAXES", "CTYPE", "CUNIT", "CRVAL", "CRPIX", "CDELT", "PC1_", "PC2_", "CD1_", "CD2_", "RADESYS")


@dataclass(frozen=True, slots=True)
class Circle:
    """A circle on the sky: centre (ICRS) and radius, degrees."""

    ra_deg: float
    dec_deg: float
    radius_deg: float

    @property
    def unit(self) -> tuple[float, float, float]:
        """Unit vector of the centre."""
        ra, dec = math.radians(self.ra_deg), math.radians(self.dec_deg)
        return math.cos(dec) * math.cos(ra), math.cos(dec) * math.sin(ra), math.sin(dec)

    @property
    def half_radius(self) -> tuple[float, float]:
        """Sine and cosine of half of the radius."""
        half = math.radians(self.radius_deg) / 2
        return math.sin(half), math.cos(half)

    @property
    def healpix(self) -> int:
        """HEALPix cell (nested, order 29) of the centre."""
        lon, lat = Longitude([self.ra_deg], u.deg), Latitude([self.dec_deg], u.deg)
        return int(lonlat_to_healpix(lon, lat, HEALPIX_ORDER)[0])


def cell_ranges(ra_deg: float, dec_deg: float, radius_deg: float) -> list[tuple[int, int]] | None:
    """Ranges of HEALPix cells (nested, order 29, both ends included) that cover a cone; they may cover more.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : float
        Cone, degrees.

    Returns
    -------
    list of (first, last), or None when the cone is too wide for cells to help.

    Notes
    -----
    Source: Fernique et al., MOC 2.0 (IVOA 2022), with the cone coverage of `cdshealpix`.
    """
    if radius_deg > _WIDE_DEG:
        return None
    smallest = _CELL_DEG / 2**_DEEPEST_COVER
    depth = min(_DEEPEST_COVER, max(0, 1 + int(math.log2(_CELL_DEG / max(radius_deg, smallest)))))
    cells, depths, _ = cone_search(
        Longitude(ra_deg, u.deg), Latitude(dec_deg, u.deg), max(radius_deg, smallest) * u.deg, depth
    )
    shifts = [2 * (HEALPIX_ORDER - int(cell_depth)) for cell_depth in depths]
    starts = sorted((int(cell) << shift, (int(cell) + 1) << shift) for cell, shift in zip(cells, shifts, strict=True))
    merged: list[tuple[int, int]] = []
    for start, end in starts:
        if merged and merged[-1][1] >= start:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return [(start, end - 1) for start, end in merged]


def footprint(cards: Mapping[str, object], shape: tuple[int, int], detector: Detector) -> Circle | None:
    """Circle around an image, from its celestial coordinates or else from where the telescope pointed.

    Parameters
    ----------
    cards : mapping
        Header keywords of the image and of the primary HDU.
    shape : (int, int)
        Rows and columns, pixels.
    detector : Detector
        Its place in the focal plane is used when there are no celestial coordinates.

    Returns
    -------
    Circle, or None when the header tells no position.
    """
    if str(cards.get("CTYPE1", "")).startswith("RA---"):
        return _from_wcs(cards, shape)
    numbers = [cards.get(name) for name in ("RA", "DEC", "PA", "IFSSCALE")]
    ra, dec, angle, scale = (float(n) if isinstance(n, int | float) else math.nan for n in numbers)
    if not all(map(math.isfinite, (ra, dec, angle, scale))):
        return None
    return _from_pointing(ra, dec, angle, scale, shape, detector)


def _from_wcs(cards: Mapping[str, object], shape: tuple[int, int]) -> Circle:
    wcs = WCS({name: value for name, value in cards.items() if name.startswith(_WCS_KEYWORDS)}, naxis=2)
    rows, columns = shape
    x = np.array([(columns - 1) / 2, -0.5, columns - 0.5, -0.5, columns - 0.5])
    y = np.array([(rows - 1) / 2, -0.5, -0.5, rows - 0.5, rows - 0.5])
    ra, dec = wcs.all_pix2world(x, y, 0)
    vectors = _vectors(np.asarray(ra), np.asarray(dec))
    chords = np.linalg.norm(vectors[1:] - vectors[0], axis=1)
    radius = math.degrees(2 * math.asin(min(1.0, float(chords.max()) / 2)))
    return Circle(float(ra[0]) % 360.0, float(dec[0]), radius)


def _from_pointing(
    ra: float, dec: float, angle: float, scale: float, shape: tuple[int, int], detector: Detector
) -> Circle:
    """Offset the instrument axis by the detector's place: +y towards the position angle, +x 90 degrees West of it."""
    x, y = detector_axis_offset_arcsec(detector, shape)
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    east, north = y * sine - x * cosine, y * cosine + x * sine
    arcsec = math.radians(1 / 3600)
    a, d = math.radians(ra), math.radians(dec)
    axis = np.array([math.cos(d) * math.cos(a), math.cos(d) * math.sin(a), math.sin(d)])
    to_east = np.array([-math.sin(a), math.cos(a), 0.0])
    to_north = np.array([-math.sin(d) * math.cos(a), -math.sin(d) * math.sin(a), math.cos(d)])
    vector = axis + arcsec * (east * to_east + north * to_north)  # gnomonic: the tangent plane's point
    centre_ra = math.degrees(math.atan2(vector[1], vector[0])) % 360.0
    centre_dec = math.degrees(math.atan2(vector[2], math.hypot(vector[0], vector[1])))
    return Circle(centre_ra, centre_dec, scale * math.hypot(*shape) / 2 / 3600)


def _vectors(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    ra, dec = np.radians(ra_deg), np.radians(dec_deg)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
