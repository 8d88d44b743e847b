"""Jumps: the likelihood test against deletion in dense algebra, the two-point test against stcal, both on ramps."""

import numpy as np
import pytest
from numpy.typing import NDArray
from stcal.jump.twopoint_difference import find_crs
from stcal.jump.twopoint_difference_class import TwoPointParams
from tests.readout.ramps import cadence, dense_fit, detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.readout.sampling.jumps import JumpLimits, drop_outliers, sort, steepest_fall
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
LIMITS = JumpLimits(np.float32(20.25), np.float32(3.0), np.float32(4.0), np.float32(5.0), 10)


def test_the_fall_of_chi2_is_that_of_leaving_a_difference_out() -> None:
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.2, 2.0, 12))
    noise = rng.uniform(16, 36, 12)
    values = 1000 + 30 * times + rng.normal(0, 6, 12) + 50.0 * (np.arange(12) >= 7)
    good = np.ones(11, np.bool_)
    good[3] = False
    whole = dense_fit(values, times, noise, good, 30.0, GAIN)
    falls = np.zeros(12)
    for j in np.flatnonzero(good):
        others = good & (np.arange(11) != j)
        falls[j + 1] = whole.chi2 - dense_fit(values, times, noise, others, 30.0, GAIN).chi2
    difference, interval, used = (np.zeros(12, np.float32) for _ in range(3))
    difference[1:], interval[1:], used[1:] = np.diff(values) * good, np.diff(times), good
    found, fall, rate = steepest_fall(
        difference,
        interval,
        noise.astype(np.float32),
        used,
        np.float32(30),
        np.float32(1 / GAIN),
        *np.zeros((3, 12), np.float32),
    )
    assert found == np.argmax(falls) == 7
    assert fall == pytest.approx(falls[7], rel=1e-4)
    assert rate == pytest.approx(whole.rate, rel=1e-5)


def two_point_parameters(limits: JumpLimits) -> TwoPointParams:
    """stcal's, for single reads at a uniform cadence and without anything around jumps."""
    found = TwoPointParams()
    found.normal_rej_thresh, found.three_diff_rej_thresh, found.two_diff_rej_thresh = map(float, limits[1:4])
    found.nframes, found.flag_4_neighbors = 1, False
    found.max_jump_to_flag_neighbors = found.min_jump_to_flag_neighbors = 0
    found.fl_good, found.fl_dnu, found.fl_sat, found.fl_jump, found.fl_ngv, found.fl_ref = 0, 1, 2, 4, 8, 16
    found.after_jump_flag_e1 = found.after_jump_flag_e2 = 0.0
    found.after_jump_flag_n1 = found.after_jump_flag_n2 = 0
    found.minimum_groups, found.minimum_sigclip_groups, found.only_use_ints = 3, 1000, True
    found.min_diffs_single_pass = limits.single_pass
    found.dt_group = np.array([1.0])
    found.n_reads_groupdiff = np.array([2.0])
    return found


@pytest.mark.parametrize("reads", [3, 4, 5, 8, 20])
def test_the_two_point_test_flags_what_stcal_flags(processor: Processor, reads: int) -> None:
    rng = np.random.default_rng(reads)
    pixels = 300
    ramp = noisy_ramp(rng, cadence(reads), (1, pixels), 20.0, gain=1.0).astype(np.float32)
    for _ in range(2):
        struck = rng.integers(1, reads, pixels)
        ramp += 40 * (np.arange(reads)[:, None, None] >= struck)
    saturated = np.arange(reads)[:, None, None] >= rng.integers(2, 6 * reads, pixels)
    flags = np.where(saturated, 2, 0).astype(np.uint8)
    found = find_crs(
        ramp[None].copy(), flags[None].copy(), np.full((1, pixels), np.sqrt(2) * NOISE), two_point_parameters(LIMITS)
    )[0]
    expected = (found[0, :, 0] & 4) != 0
    interval, noise = np.full(reads, 0.72, np.float32), np.full(reads, NOISE**2, np.float32)
    flagged = np.zeros((reads, pixels), np.bool_)
    for x in range(pixels):
        good, difference = np.zeros(reads, np.float32), np.zeros(reads, np.float32)
        good[1:] = ~saturated[1:, 0, x]
        difference[1:] = np.diff(ramp[:, 0, x]) * good[1:]
        before = good.copy()
        scratch = np.zeros((2, reads), np.float32)
        number = drop_outliers(
            difference, interval, noise, good, np.float32(1), LIMITS, reads - 1, scratch[0], scratch[1]
        )
        flagged[:, x] = before != good
        assert number == flagged[:, x].sum()
    np.testing.assert_array_equal(flagged, expected)
    assert expected.any()
    assert not expected.all(axis=1).any()
    counts = np.where(saturated, 65535, ramp).astype(np.uint16)
    settings = FitSettings(
        jump_test=JumpTest.TWO_POINT, jump_sigma=3.0, jump_sigma_three=4.0, jump_sigma_two=5.0, jump_single_pass=10
    )
    fit = processor.fit(counts, detector((1, pixels), gain=1.0), cadence(reads), settings)
    np.testing.assert_array_equal((fit.dq[0] & Quality.JUMP_DET) != 0, expected.any(axis=0))
    left = (~saturated[1:, 0] & ~expected[1:]).sum(axis=0)
    np.testing.assert_array_equal(fit.differences[0], left)


def test_sorting() -> None:
    rng = np.random.default_rng(1)
    for number in (0, 1, 2, 3, 10, 99, 1000):
        values = rng.integers(0, 300, number + 2).astype(np.float32)
        expected = values.copy()
        expected[:number].sort()
        sort(values, number)
        np.testing.assert_array_equal(values, expected)


def completeness(processor: Processor, reads: int, test: JumpTest) -> tuple[float, float]:
    """Fraction of jumps of 4.1 standard deviations of a difference that are found, and of pixels without that are."""
    rng = np.random.default_rng(77)
    shape = (1, 4096)
    ramp = noisy_ramp(rng, cadence(reads), shape, 20.0, gain=1.0, noise=10.0)
    struck = rng.integers(1, reads, shape)
    jumps = ramp + (60 * (np.arange(reads)[:, None, None] >= struck)).astype(np.uint16)
    settings = FitSettings(jump_test=test, jump_sigma=4.5)
    calibration = detector(shape, gain=1.0, noise=10.0)
    found, false = (
        float(np.mean((processor.fit(r, calibration, cadence(reads), settings).dq & Quality.JUMP_DET) != 0))
        for r in (jumps, ramp)
    )
    return found, false


@pytest.mark.parametrize(("reads", "least"), [(10, 0.48), (30, 0.9), (100, 0.95)])
def test_the_likelihood_finds_small_jumps_that_the_two_point_test_cannot(
    processor: Processor, reads: int, least: float
) -> None:
    found, false = completeness(processor, reads, JumpTest.LIKELIHOOD)
    assert found >= least
    # 4.5 standard deviations: 7e-6 for each of 99 differences, 3 pixels of 4096.
    assert false < 2.5e-3
    assert completeness(processor, reads, JumpTest.TWO_POINT)[0] < 0.5


@pytest.mark.parametrize("test", [JumpTest.LIKELIHOOD, JumpTest.TWO_POINT])
@pytest.mark.parametrize("estimator", list(Estimator))
def test_a_ramp_with_jumps_is_fitted_without_them(processor: Processor, estimator: Estimator, test: JumpTest) -> None:
    times = np.cumsum(np.random.default_rng(4).uniform(0.3, 1.0, 20))
    ramp = noisy_ramp(np.random.default_rng(2), times, (1, 4), 40.0)
    struck = ramp.copy()
    struck[1:, 0, 0] += 700  # the first difference
    struck[7:, 0, 1] += 5000
    struck[8:, 0, 1] += 400
    struck[19:, 0, 1] += 400  # the last
    struck[12:, 0, 2] -= 900  # a fall is one too
    use = np.ones((19, 4), np.bool_)
    use[0, 0] = use[6, 1] = use[7, 1] = use[18, 1] = use[11, 2] = False
    settings = FitSettings(estimator=estimator, jump_test=test, jump_sigma=6.0)
    fit = processor.fit(struck, detector(), times, settings)
    assert ((fit.dq & Quality.JUMP_DET) != 0).tolist() == [[True, True, True, False]]
    for x in range(4):
        masked = processor.fit(
            ramp, detector(), times, FitSettings(estimator=estimator, jump_test=JumpTest.NONE), use_difference=use[:, x]
        )
        assert fit.differences[0, x] == use[:, x].sum()
        # The first guess does not know them, nor a first fit to the rest.
        sigma = float(np.sqrt(masked.var_rnoise[0, x] + masked.var_poisson[0, x]))
        assert fit.rate[0, x] == pytest.approx(masked.rate[0, x], abs=2e-3 * sigma)
        assert fit.var_rnoise[0, x] == pytest.approx(masked.var_rnoise[0, x], rel=2e-3)
        assert fit.time_s[0, x] == pytest.approx(masked.time_s[0, x], rel=1e-5)


def test_three_differences_are_searched_once_and_two_never(processor: Processor) -> None:
    ramp = np.array([1000, 1030, 1060, 9000], np.uint16)[:, None, None] * np.ones((1, 1, 4), np.uint16)
    four = processor.fit(ramp, detector(), cadence(4))
    assert (four.dq == Quality.JUMP_DET).all()
    assert (four.differences == 2).all()
    np.testing.assert_allclose(four.rate, 30 / 0.72, rtol=1e-5)
    three = processor.fit(ramp[1:], detector(), cadence(3))
    assert not (three.dq & Quality.JUMP_DET).any()
    assert (three.dq & Quality.UNRELIABLE_SLOPE).all()


def test_a_ramp_of_nothing_but_jumps_ends(processor: Processor) -> None:
    rng = np.random.default_rng(1)
    ramp = rng.integers(1000, 50000, (30, 2, 256), dtype=np.uint16)
    for test in JumpTest:
        fit = processor.fit(ramp, detector((2, 256)), cadence(30), FitSettings(jump_test=test))
        assert np.isfinite(fit.rate).all()
        assert (fit.differences[(fit.dq & Quality.DO_NOT_USE) == 0] > 0).all()


@pytest.mark.parametrize("test", [JumpTest.LIKELIHOOD, JumpTest.TWO_POINT])
def test_pixels_that_nobody_uses_are_not_searched(processor: Processor, test: JumpTest) -> None:
    ramp = noisy_ramp(np.random.default_rng(2), cadence(20), (1, 4), 40.0)
    ramp[9:] += 500
    mask = np.array([[0, Quality.DO_NOT_USE | Quality.DEAD, Quality.HOT, 0]], np.uint32)
    fit = processor.fit(ramp, detector(mask=mask), cadence(20), FitSettings(jump_test=test))
    assert ((fit.dq & Quality.JUMP_DET) != 0).tolist() == [[True, False, True, True]]
    assert fit.differences[0, 1] == 19


def test_equal_reads_have_no_jump(processor: Processor) -> None:
    ramp: NDArray[np.uint16] = np.full((20, 1, 4), 777, np.uint16)
    for test in JumpTest:
        for reads in (6, 20):
            fit = processor.fit(ramp[:reads], detector(), cadence(reads), FitSettings(jump_test=test))
            assert not fit.dq.any()
            np.testing.assert_array_equal(fit.rate, 0)
