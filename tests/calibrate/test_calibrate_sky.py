"""The sky level: by hand, against known truth with stars, and what it must not look at."""

import numpy as np
import pytest

from irisdrs.calibrate.algorithms.sky import measure_sky, subtract_sky
from irisdrs.shared.quality import Quality


def test_median_of_good_pixels_by_hand() -> None:
    signal = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 99]], dtype=np.float32)
    dq = np.zeros((4, 4), dtype=np.uint32)
    dq[0, 0] = Quality.DO_NOT_USE
    # Median of 2 .. 15 and 99 is 9, the MAD 4: limits 9 +- 17.8 leave 2 .. 15, whose median is 8.5.
    sky = measure_sky(signal, dq)
    assert sky is not None
    assert sky.level == 8.5
    assert sky.pixels == 14
    assert subtract_sky(signal, sky)[0, 1] == -6.5


def test_without_a_good_pixel_there_is_no_sky() -> None:
    assert measure_sky(np.ones((4, 4), np.float32), np.full((4, 4), Quality.DO_NOT_USE, np.uint32)) is None
    assert measure_sky(np.full((4, 4), np.nan, np.float32), np.zeros((4, 4), np.uint32)) is None


def test_constant_frame_has_its_value_and_no_noise() -> None:
    sky = measure_sky(np.full((4, 4), 3.0, np.float32), np.zeros((4, 4), np.uint32))
    assert sky == (3.0, 0.0, 16)


@pytest.mark.parametrize("ignored", [Quality.REFERENCE_PIXEL, Quality.NON_SCIENCE, Quality.SATURATED, Quality.DEAD])
def test_flagged_pixels_do_not_count(ignored: Quality) -> None:
    signal = np.full((64, 64), 100.0, dtype=np.float32)
    signal[:, ::2] = 0.0
    dq = np.zeros((64, 64), dtype=np.uint32)
    dq[:, ::2] = ignored
    sky = measure_sky(signal, dq)
    assert sky is not None
    assert sky.level == 100.0


def test_level_and_noise_are_those_of_the_truth() -> None:
    rng = np.random.default_rng(1)
    signal = rng.normal(250.0, 8.0, (512, 512)).astype(np.float32)
    sky = measure_sky(signal, np.zeros(signal.shape, np.uint32))
    assert sky is not None
    assert sky.level == pytest.approx(250.0, abs=5 * 1.25 * 8.0 / 512)
    assert sky.noise == pytest.approx(8.0, rel=0.02)


def test_bias_by_stars_stays_inside_the_stated_bound() -> None:
    """Stars with wide wings raise the level by less than 1.25 f sigma, f the fraction of pixels above 0.1 sigma."""
    rng = np.random.default_rng(2)
    sigma, shape = 5.0, (512, 512)
    y, x = np.indices(shape)
    stars = np.zeros(shape)
    for x0, y0, flux in zip(rng.uniform(0, 512, 60), rng.uniform(0, 512, 60), rng.uniform(200, 4e4, 60), strict=True):
        stars += flux * (1 + ((x - x0) ** 2 + (y - y0) ** 2) / 4.0) ** -2.5
    touched = float(np.mean(stars > 0.1 * sigma))
    assert touched > 0.05, "else the test shows nothing"

    signal = (rng.normal(100.0, sigma, shape) + stars).astype(np.float32)
    sky = measure_sky(signal, np.zeros(shape, np.uint32))

    assert sky is not None
    sampling = 1.25 * sigma / 512
    assert sky.level - 100.0 < 1.25 * touched * sigma + 3 * sampling
    assert sky.level - 100.0 > -3 * sampling
    assert sky.level < float(np.mean(signal)) - 1.0, "a mean would be drawn up by the stars"


def test_an_offset_changes_the_level_by_itself() -> None:
    rng = np.random.default_rng(3)
    signal = rng.normal(10.0, 1.0, (128, 128)).astype(np.float32)
    dq = np.zeros(signal.shape, np.uint32)
    plain, raised = measure_sky(signal, dq), measure_sky(signal + np.float32(64.0), dq)
    assert plain is not None
    assert raised is not None
    assert raised.level - plain.level == pytest.approx(64.0, abs=1e-4)
