"""Projection, star field and star images."""

import numpy as np
import pytest
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st
from photutils.aperture import CircularAnnulus, CircularAperture, aperture_photometry

from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector
from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, detector_axis_offset_arcsec
from irisdrs.simulator.aperture import aperture_for, isolated
from irisdrs.simulator.projection import Pointing, from_tangent_plane, to_pixels, to_tangent_plane
from irisdrs.simulator.psf import star_image
from irisdrs.simulator.sky import LEAST_DISTANCE_ARCSEC, sky_electrons, star_electrons, star_field


def _astropy_wcs(pointing: Pointing, detector: Detector, shape: tuple[int, int]) -> WCS:
    """An independent statement of the convention: +y is North and +x West at position angle 0."""
    angle = np.deg2rad(pointing.position_angle_deg)
    offset_x, offset_y = detector_axis_offset_arcsec(detector, shape)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = pointing.ra_deg, pointing.dec_deg
    wcs.wcs.crpix = (
        (shape[1] + 1) / 2 - offset_x / IMAGER_SCALE_ARCSEC,
        (shape[0] + 1) / 2 - offset_y / IMAGER_SCALE_ARCSEC,
    )
    scale = IMAGER_SCALE_ARCSEC / 3600.0
    wcs.wcs.cd = scale * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return wcs


@settings(max_examples=40, deadline=None)
@given(
    ra=st.floats(0.0, 359.99),
    dec=st.floats(-89.9, 89.9),
    angle=st.floats(-180.0, 180.0),
    detector=st.sampled_from(IMAGER_DETECTORS),
)
def test_pixels_agree_with_an_independent_tan_projection(
    ra: float, dec: float, angle: float, detector: Detector
) -> None:
    pointing, shape = Pointing(ra, dec, angle), (1024, 512)
    wcs = _astropy_wcs(pointing, detector, shape)
    x, y = np.array([0.0, 511.0, 100.25]), np.array([0.0, 1023.0, 700.5])
    sky = wcs.wcs_pix2world(x, y, 0)
    found_x, found_y = to_pixels(pointing, detector, shape, *sky)
    assert np.allclose(found_x, x, atol=1e-4)
    assert np.allclose(found_y, y, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(ra=st.floats(0.0, 359.99), dec=st.floats(-89.9, 89.9), east=st.floats(-60.0, 60.0), north=st.floats(-60.0, 60.0))
def test_the_tangent_plane_and_back(ra: float, dec: float, east: float, north: float) -> None:
    centre = Pointing(ra, dec)
    sky = from_tangent_plane(centre, np.array([east]), np.array([north]))
    found = to_tangent_plane(centre, *sky)
    assert np.allclose(np.concatenate(found), [east, north], atol=1e-6)


def test_north_is_up_and_west_to_the_right_at_position_angle_0() -> None:
    pointing, shape = Pointing(10.0, 20.0), (64, 64)
    centre = to_pixels(pointing, Detector.IMG4, shape, np.array([10.0]), np.array([20.0]))
    north = to_pixels(pointing, Detector.IMG4, shape, np.array([10.0]), np.array([20.0 + 1e-4]))
    east = to_pixels(pointing, Detector.IMG4, shape, np.array([10.0 + 1e-4]), np.array([20.0]))
    assert north[1] > centre[1]
    assert east[0] < centre[0]
    assert centre[0][0] == pytest.approx((64 - 1) / 2 - (0.6 + 32 * 0.004) / 0.004)  # the axis is lower left of IMG4


def test_a_field_repeats_with_its_seed_and_keeps_its_stars_apart() -> None:
    target = Pointing(150.0, 2.0)
    first, again, other = star_field(3, target), star_field(3, target), star_field(4, target)
    assert np.array_equal(first.ra_deg, again.ra_deg)
    assert not np.array_equal(first.ra_deg[:10], other.ra_deg[:10])
    east, north = to_tangent_plane(target, first.ra_deg, first.dec_deg)
    distance = np.hypot(east[:, np.newaxis] - east, north[:, np.newaxis] - north)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() > LEAST_DISTANCE_ARCSEC * 0.999
    blank = np.hypot(east - 80.0, north) < 30.0
    assert blank.sum() < 60 < (np.hypot(east, north) < 30.0).sum() / 50


def test_fluxes_fall_by_a_hundred_in_five_magnitudes_and_the_sky_does_not_fill_a_pixel() -> None:
    bright, faint = star_electrons(np.array([17.0, 22.0]), "H")
    assert bright / faint == pytest.approx(100.0)
    assert 30.0 < sky_electrons("H") < 60.0  # 8 reads of 0.72 s: some 270 of 60 000 electrons


def test_the_profile_holds_all_the_light_and_integrates_to_its_encircled_energy() -> None:
    psf = star_image("H")
    assert psf.encircled_energy(1000.0) == pytest.approx(1.0, abs=0.02)
    assert psf.encircled_energy(aperture_for(psf).radius) < psf.strehl + 0.05


@pytest.mark.parametrize(("x", "y"), [(200.0, 200.0), (200.5, 199.5), (199.87, 200.31)])
def test_a_drawn_star_keeps_its_flux_wherever_it_falls_within_a_pixel(x: float, y: float) -> None:
    psf, image = star_image("H"), np.zeros((401, 401), np.float32)
    psf.add_stars(image, np.array([x]), np.array([y]), np.array([1e6]))
    for radius in (4.0, aperture_for(psf).radius, 40.0, 150.0):
        found = aperture_photometry(image, CircularAperture((x, y), radius))["aperture_sum"][0]
        assert found / 1e6 == pytest.approx(psf.encircled_energy(radius), abs=1e-3)
    assert np.average(np.arange(401), weights=image.sum(axis=0)) == pytest.approx(x, abs=0.05)
    aperture = aperture_for(psf)
    annulus = CircularAnnulus((x, y), aperture.inner, aperture.outer)
    sums = [
        aperture_photometry(image, shape)["aperture_sum"][0]
        for shape in (CircularAperture((x, y), aperture.radius), annulus)
    ]
    assert (sums[0] - sums[1] * aperture.area_ratio) / 1e6 == pytest.approx(aperture.captured(psf), rel=5e-4)


def test_a_star_off_the_frame_leaves_its_light_outside() -> None:
    psf, image = star_image("H"), np.zeros((64, 64), np.float32)
    psf.add_stars(image, np.array([-30.0]), np.array([32.0]), np.array([1e6]))
    assert 0.0 < image.sum() < 0.1e6
    assert image[32, 0] > image[32, 63]


def test_a_neighbour_in_the_annulus_ends_isolation_of_the_fainter_star_only() -> None:
    x, y = np.array([100.0, 130.0, 900.0]), np.array([100.0, 100.0, 900.0])
    assert isolated(star_image("H"), x, y, np.array([1e5, 1e3, 1e5])).tolist() == [True, False, True]
