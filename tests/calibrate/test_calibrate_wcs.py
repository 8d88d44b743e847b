"""World coordinates against astropy.wcs and against the sign convention of the sky."""

import math

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from irisdrs.calibrate.algorithms.wcs import TangentPlane, tangent_plane
from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector
from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, detector_axis_offset_arcsec

ARCSEC = 1 / 3600


def astropy_wcs(plane: TangentPlane) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = [plane.crval1, plane.crval2]
    wcs.wcs.crpix = [plane.crpix1, plane.crpix2]
    wcs.wcs.cd = [[plane.cd1_1, plane.cd1_2], [plane.cd2_1, plane.cd2_2]]
    return wcs


def offsets(plane: TangentPlane, x: float, y: float) -> tuple[float, float]:
    """East and North of a 1-based pixel from the tangent point, arcsec."""
    ra, dec = astropy_wcs(plane).all_pix2world(x, y, 1)
    centre = SkyCoord(plane.crval1, plane.crval2, unit="deg")
    east, north = centre.spherical_offsets_to(SkyCoord(float(ra), float(dec), unit="deg"))
    return east.arcsec, north.arcsec


def test_axis_in_the_middle_of_a_4_by_4_detector() -> None:
    plane = tangent_plane(10.0, 20.0, 0.0, 0.004, (0.0, 0.0), (4, 4))
    assert (plane.crpix1, plane.crpix2) == (2.5, 2.5)
    assert plane.cd1_1 == pytest.approx(-0.004 * ARCSEC)
    assert plane.cd2_2 == pytest.approx(0.004 * ARCSEC)
    assert (plane.cd1_2, plane.cd2_1) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("angle", "x_direction", "y_direction"),
    [
        (0.0, (-1, 0), (0, 1)),  # +x West, +y North
        (90.0, (0, 1), (1, 0)),  # +y East, +x North
        (180.0, (1, 0), (0, -1)),
        (-90.0, (0, -1), (-1, 0)),
    ],
)
def test_directions_on_the_sky(angle: float, x_direction: tuple[int, int], y_direction: tuple[int, int]) -> None:
    """(East, North) of a step of 100 pixels along +x and +y."""
    plane = tangent_plane(150.0, 30.0, angle, 0.004, (0.0, 0.0), (201, 201))
    assert offsets(plane, 101 + 100, 101) == pytest.approx([0.4 * c for c in x_direction], abs=1e-6)
    assert offsets(plane, 101, 101 + 100) == pytest.approx([0.4 * c for c in y_direction], abs=1e-6)


@pytest.mark.parametrize("detector", IMAGER_DETECTORS)
def test_centre_of_each_detector_is_where_the_geometry_says(detector: Detector) -> None:
    shape = (4096, 4096)
    offset = detector_axis_offset_arcsec(detector, shape)
    plane = tangent_plane(200.0, -45.0, 0.0, IMAGER_SCALE_ARCSEC, offset, shape)
    east, north = offsets(plane, 2048.5, 2048.5)
    # 0.6 arcsec to the inner edge and half of 4096 x 4 mas; +x is West.
    assert abs(east) == pytest.approx(0.6 + 8.192, abs=1e-5)
    assert abs(north) == pytest.approx(0.6 + 8.192, abs=1e-5)
    left = detector in (Detector.IMG1, Detector.IMG3)
    lower = detector in (Detector.IMG1, Detector.IMG2)
    assert (east > 0) == left
    assert (north < 0) == lower


def test_detectors_share_one_tangent_plane() -> None:
    """Gap between neighbours, edge to edge: twice 0.6 arcsec, also on a rotated field near the pole."""
    shape = (64, 128)
    planes = {
        detector: tangent_plane(12.0, 85.0, 33.0, 0.004, detector_axis_offset_arcsec(detector, shape), shape)
        for detector in IMAGER_DETECTORS
    }
    right_edge_of_left = offsets(planes[Detector.IMG1], 128.5, 32.5)
    left_edge_of_right = offsets(planes[Detector.IMG2], 0.5, 32.5)
    gap = math.dist(right_edge_of_left, left_edge_of_right)
    assert gap == pytest.approx(1.2, abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(0, 359.9),
    st.floats(-89, 89),
    st.floats(-180, 180),
    st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
)
def test_round_trip_through_astropy(ra: float, dec: float, angle: float, offset: tuple[float, float]) -> None:
    wcs = astropy_wcs(tangent_plane(ra, dec, angle, 0.004, offset, (4096, 4096)))
    pixels = np.array([[1.0, 1.0], [4096.0, 1.0], [2048.5, 2048.5], [1.0, 4096.0]])
    back = wcs.all_world2pix(wcs.all_pix2world(pixels, 1), 1)
    assert np.abs(back - pixels).max() < 1e-3
