"""The likelihood fit against dense linear algebra, stcal, the chi^2 distribution and its own noise."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from stcal.ramp_fitting.likely_algo_classes import Covar
from stcal.ramp_fitting.likely_fit import fit_ramps
from stcal.saturation.saturation import flag_saturated_pixels
from tests.readout.ramps import ROUNDING, cadence, dense_likelihood, detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest, RampFit
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
PLAIN = FitSettings(jump_test=JumpTest.NONE)
UNEVEN = np.array([0.3, 1.0, 1.1, 4.0, 4.5, 6.0, 9.0, 9.2])
EVEN = cadence(8)
ALL_READS, ALL_DIFFERENCES = np.ones(8, np.bool_), np.ones(7, np.bool_)


def without(flags: NDArray[np.bool_], *positions: int) -> NDArray[np.bool_]:
    found = flags.copy()
    found[list(positions)] = False
    return found


@pytest.mark.parametrize(
    ("times", "use_read", "use_difference"),
    [
        (EVEN, ALL_READS, ALL_DIFFERENCES),
        (UNEVEN, ALL_READS, ALL_DIFFERENCES),
        (UNEVEN, without(ALL_READS, 2, 3, 6), ALL_DIFFERENCES),
        (UNEVEN, without(ALL_READS, 0, 7), ALL_DIFFERENCES),
        (UNEVEN, ALL_READS, without(ALL_DIFFERENCES, 0, 3, 4)),
        (EVEN, ALL_READS, without(ALL_DIFFERENCES, 1, 3, 5)),  # no two differences share a read
        (UNEVEN, without(ALL_READS, 3), without(ALL_DIFFERENCES, 3)),  # the merged difference contains a bad interval
    ],
)
@pytest.mark.parametrize("rate", [0.3, 40.0, 2000.0])
def test_the_fit_is_generalised_least_squares_with_the_whole_covariance(
    processor: Processor,
    times: NDArray[np.float64],
    use_read: NDArray[np.bool_],
    use_difference: NDArray[np.bool_],
    rate: float,
) -> None:
    ramp = noisy_ramp(np.random.default_rng(4), times, (2, 6), rate)
    fit = processor.fit(ramp, detector((2, 6)), times, PLAIN, use_read=use_read, use_difference=use_difference)
    used = np.flatnonzero(use_read)
    good = np.array([use_difference[a:b].all() for a, b in pairwise(used)])
    for y, x in np.ndindex(2, 6):
        values = ramp[used, y, x].astype(np.float64)
        dense, guess = dense_likelihood(values, times[used], np.full(len(used), NOISE**2), good, GAIN)
        sigma = np.sqrt(dense.rnoise + dense.poisson * guess)
        assert fit.rate[y, x] == pytest.approx(dense.rate, abs=2e-5 * sigma, rel=1e-6)
        assert fit.var_rnoise[y, x] == pytest.approx(dense.rnoise, rel=2e-5)
        assert fit.var_poisson[y, x] == pytest.approx(dense.poisson * max(dense.rate, 0), rel=5e-5)
        assert fit.chi2[y, x] == pytest.approx(dense.chi2, rel=1e-4, abs=1e-4)
    assert (fit.differences == good.sum()).all()
    np.testing.assert_allclose(fit.time_s, np.diff(times[used])[good].sum(), rtol=1e-6)


def test_the_fit_is_that_of_stcal_with_the_same_covariance(processor: Processor) -> None:
    rng = np.random.default_rng(8)
    times = np.cumsum(rng.uniform(0.2, 2.0, 30))
    ramp = noisy_ramp(rng, times, (1, 40), 60.0)
    fit = processor.fit(ramp, detector((1, 40)), times, PLAIN)
    values = ramp[:, 0].astype(np.float64)
    good, noise = np.ones(29, np.bool_), np.full(30, NOISE**2)
    guesses = np.array([dense_likelihood(values[:, x], times, noise, good, GAIN)[1] for x in range(40)])
    covariance = Covar(list(times))
    peer = fit_ramps(
        np.diff(values, axis=0) / covariance.delta_t[:, None],
        covariance,
        np.full(40, GAIN),
        np.full(40, NOISE),  # of one read: the division by sqrt(2) is in its caller
        count_rate_guess=guesses,
    )
    np.testing.assert_allclose(fit.rate[0], peer.countrate, rtol=1e-4)
    np.testing.assert_allclose(fit.chi2[0], peer.chisq, rtol=1e-4)
    np.testing.assert_allclose(fit.var_rnoise[0], peer.var_rnoise, rtol=1e-4)
    np.testing.assert_allclose(fit.var_poisson[0], peer.var_poisson * fit.rate[0] / guesses, rtol=1e-4)


def test_read_noise_grows_with_the_slope_of_the_linearity_polynomial(processor: Processor) -> None:
    times = cadence(6)
    coefficients = np.zeros((6, 1, 4), np.float32)
    terms = np.array([1.02, 3e-6, 2e-11, 5e-16, 1e-21])
    coefficients[1:] = terms[:, None, None]
    ramp = noisy_ramp(np.random.default_rng(1), times, (1, 4), 12000.0)
    columns = np.array([[-20.25, 3.5, 700.0, 0.0]] * 6, np.float32)
    columns[:, 1] += np.arange(6)
    rows = np.linspace(0, 5, 6, dtype=np.float32)[:, None]
    fit = processor.fit(
        ramp, detector((1, 4), coefficients=coefficients), times, PLAIN, column_offset=columns, row_offset=rows
    )
    polynomial = np.polynomial.Polynomial([0, *coefficients[1:, 0, 0].astype(np.float64)])
    for x in range(4):
        raw = ramp[:, 0, x] - columns[:, x].astype(np.float64) - rows[:, 0]
        noise = (NOISE * polynomial.deriv()(raw)) ** 2
        dense, _ = dense_likelihood(polynomial(raw), times, noise, np.ones(5, np.bool_), GAIN)
        assert fit.rate[0, x] == pytest.approx(dense.rate, rel=1e-6)
        assert fit.var_rnoise[0, x] == pytest.approx(dense.rnoise, rel=2e-5)
        assert fit.chi2[0, x] == pytest.approx(dense.chi2, rel=2e-3)  # float32 coefficients on 30000 DN


@pytest.mark.parametrize("reads", [4, 10, 30])
def test_chi2_has_its_distribution(processor: Processor, reads: int) -> None:
    times = cadence(reads)
    ramp = noisy_ramp(np.random.default_rng(11), times, (1, 4096), 60.0)
    # Rounding adds its variance to that of the read.
    calibration = detector((1, 4096), noise=float(np.sqrt(NOISE**2 + ROUNDING)))
    fit = processor.fit(ramp, calibration, times, PLAIN)
    assert scipy.stats.kstest(fit.chi2.ravel(), scipy.stats.chi2(reads - 2).cdf).pvalue > 1e-3
    # 5 standard deviations: 3e-7 of 4096 pixels.
    assert not (fit.dq & Quality.UNRELIABLE_SLOPE).any()


@pytest.mark.parametrize(
    ("reads", "electrons_s"), [(4, 0.02), (4, 30), (10, 0.3), (10, 300), (30, 3), (100, 0.3), (100, 300)]
)
def test_rates_are_unbiased_and_scatter_as_they_say(processor: Processor, reads: int, electrons_s: float) -> None:
    times, shape, noise = cadence(reads), (4, 4096), 9.0
    ramp = noisy_ramp(np.random.default_rng(reads), times, shape, electrons_s, gain=1.0, noise=noise)
    calibration = detector(shape, gain=1.0, noise=float(np.sqrt(noise**2 + ROUNDING)))
    fit = processor.fit(ramp, calibration, times, PLAIN)
    error = fit.rate.astype(np.float64) - electrons_s
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)
    # With the true rate in the photon variance: a pixel's own adds its noise. 16384 pixels give it to 0.6 %.
    pulls = error / np.sqrt(fit.var_rnoise + fit.poisson * np.float64(electrons_s))
    assert 0.97 < pulls.std() < 1.03


def test_a_hundred_reads_on_a_high_pedestal_keep_their_precision(processor: Processor) -> None:
    times = cadence(100)
    ramp = noisy_ramp(np.random.default_rng(3), times, (1, 32), 1.0, pedestal=30000.3)
    offsets = np.full((100, 32), 5003.27, np.float32)  # no whole number
    fit = processor.fit(ramp, detector((1, 32)), times, PLAIN, column_offset=offsets)
    good, noise = np.ones(99, np.bool_), np.full(100, NOISE**2)
    exact = np.array(
        [dense_likelihood(ramp[:, 0, x].astype(np.float64), times, noise, good, GAIN)[0].rate for x in range(32)]
    )
    sigma = np.sqrt(fit.var_rnoise + fit.var_poisson)[0]
    assert np.sqrt(np.mean(((fit.rate[0] - exact) / sigma) ** 2)) < 1e-4


def same(one: RampFit, other: RampFit) -> None:
    for name in ("rate", "poisson", "var_rnoise", "chi2", "time_s", "differences", "dq"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize("estimator", list(Estimator))
@pytest.mark.parametrize("k", range(6))
def test_saturation_leaves_the_reads_before_it(processor: Processor, estimator: Estimator, k: int) -> None:
    settings = FitSettings(estimator=estimator, fowler_reads=1)
    times = cadence(6)
    ramp = noisy_ramp(np.random.default_rng(2), times, (1, 4), 40.0)
    saturated = ramp.copy()
    saturated[k] = 65535  # the reads after it are below the threshold again: it latches
    fit = processor.fit(saturated, detector(), times, settings)
    assert (fit.dq & Quality.SATURATED).all()
    assert (fit.differences == max(k - 1, 0)).all()
    if k < 2:
        assert (fit.dq == Quality.SATURATED | Quality.DO_NOT_USE).all()
        for plane in (fit.rate, fit.var_poisson, fit.var_rnoise, fit.chi2, fit.time_s):
            np.testing.assert_array_equal(plane, 0)
    else:
        short = processor.fit(ramp[:k], detector(), times[:k], settings)
        for name in ("rate", "var_poisson", "var_rnoise", "chi2", "time_s"):
            np.testing.assert_allclose(getattr(fit, name), getattr(short, name), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("grow", [False, True])
def test_saturation_is_stcals_with_and_without_its_neighbours(processor: Processor, grow: bool) -> None:
    shape, times = (19, 31), cadence(9)
    rng = np.random.default_rng(5)
    ramp = noisy_ramp(rng, times, shape, 40.0)
    ramp[rng.random(ramp.shape) < 0.005] = 65535
    threshold = rng.uniform(45000, 65000, shape).astype(np.float32)
    use = without(np.ones(9, np.bool_), 4)
    flags, _, _ = flag_saturated_pixels(
        ramp[None, use].astype(np.float32),
        np.zeros((1, 8, *shape), np.uint32),
        np.zeros(shape, np.uint32),
        threshold.copy(),
        np.zeros(shape, np.uint32),
        65535,
        {"DO_NOT_USE": 1, "SATURATED": 2, "AD_FLOOR": 64, "NO_SAT_CHECK": 1 << 21},
        n_pix_grow_sat=int(grow),
    )
    saturated = (np.asarray(flags)[0] & Quality.SATURATED) != 0
    given = ramp.copy()
    settings = FitSettings(jump_test=JumpTest.NONE, grow_saturation=grow)
    fit = processor.fit(ramp, detector(shape, saturation=threshold), times, settings, use_read=use)
    np.testing.assert_array_equal(ramp, given)
    np.testing.assert_array_equal((fit.dq & Quality.SATURATED) != 0, saturated.any(axis=0))
    np.testing.assert_array_equal(fit.differences, np.maximum((~saturated).sum(axis=0) - 1, 0))
    marked = ramp.copy()
    marked[use] = np.where(saturated, 65535, ramp[use])
    same(fit, processor.fit(marked, detector(shape, saturation=threshold), times, PLAIN, use_read=use))


def test_a_count_of_zero_costs_the_two_differences_around_it(processor: Processor) -> None:
    times = cadence(8)
    ramp = noisy_ramp(np.random.default_rng(2), times, (1, 4), 40.0)
    broken = ramp.copy()
    broken[3, 0, 1] = 0
    fit = processor.fit(broken, detector(), times, PLAIN)
    masked = processor.fit(ramp, detector(), times, PLAIN, use_difference=without(ALL_DIFFERENCES, 2, 3))
    assert fit.dq.tolist() == [[0, int(Quality.AD_FLOOR), 0, 0]]
    assert fit.rate[0, 1] == masked.rate[0, 1]
    assert fit.var_rnoise[0, 1] == masked.var_rnoise[0, 1]
    assert fit.differences[0, 1] == 5


def test_ramps_too_short_for_a_rate_have_none(processor: Processor) -> None:
    ramp = np.full((2, 1, 4), 100, np.uint16)
    for estimator in Estimator:
        settings = FitSettings(estimator=estimator, fowler_reads=1)
        nothing = [
            processor.fit(ramp[:1], detector(), cadence(1), settings),
            processor.fit(ramp[:0], detector(), cadence(0), settings),
            processor.fit(ramp, detector(), cadence(2), settings, use_read=np.zeros(2, np.bool_)),
            processor.fit(ramp, detector(), cadence(2), settings, use_difference=np.zeros(1, np.bool_)),
        ]
        for fit in nothing:
            assert (fit.dq == Quality.DO_NOT_USE).all()
            for plane in (fit.rate, fit.var_poisson, fit.var_rnoise, fit.chi2, fit.time_s, fit.differences):
                np.testing.assert_array_equal(plane, 0)


@pytest.mark.parametrize("estimator", list(Estimator))
def test_two_reads_make_their_difference(processor: Processor, estimator: Estimator) -> None:
    ramp = np.array([1000, 1036], np.uint16)[:, None, None] * np.ones((1, 1, 4), np.uint16)
    fit = processor.fit(ramp, detector(), cadence(2), FitSettings(estimator=estimator, fowler_reads=1))
    np.testing.assert_allclose(fit.rate, 50, rtol=1e-6)
    np.testing.assert_allclose(fit.var_rnoise, 2 * NOISE**2 / 0.72**2, rtol=1e-6)
    np.testing.assert_allclose(fit.var_poisson, 50 / GAIN / 0.72, rtol=1e-6)
    assert not fit.dq.any()


def test_a_falling_ramp_keeps_its_rate_and_has_no_photon_noise(processor: Processor) -> None:
    ramp = (3000 - 36 * np.arange(5, dtype=np.uint16))[:, None, None] * np.ones((1, 1, 4), np.uint16)
    fit = processor.fit(ramp, detector(), cadence(5))
    np.testing.assert_allclose(fit.rate, -50, rtol=1e-6)
    np.testing.assert_array_equal(fit.var_poisson, 0)
    assert not fit.dq.any()


def test_references_without_a_value_do_no_harm(processor: Processor) -> None:
    times = cadence(130)  # more reads than an index of 2^31 elements allows at full size
    ramp = noisy_ramp(np.random.default_rng(2), times, (1, 4), 40.0)
    ramp[:, 0, 3] = 100  # no light, no noise
    coefficients = np.zeros((6, 1, 4), np.float32)
    coefficients[1] = 1
    coefficients[4, 0, 0] = np.nan
    noise = np.array([[NOISE, np.nan, NOISE, 0]], np.float32)
    calibration = detector(coefficients=coefficients, read_noise=noise)
    fit = processor.fit(ramp, calibration, times)
    for plane in (fit.rate, fit.var_poisson, fit.var_rnoise, fit.chi2):
        assert np.isfinite(plane).all()
    np.testing.assert_allclose(fit.rate[0, :3], 40, atol=5)
    assert fit.rate[0, 3] == 0
    assert fit.var_rnoise[0, 3] > 0  # a read cannot be better than its rounding


def test_an_impossible_slope_is_flagged(processor: Processor) -> None:
    ramp = noisy_ramp(np.random.default_rng(5), cadence(10), (1, 4), 40.0)
    ramp[::2, 0, 2] += 100  # every other read is higher
    fit = processor.fit(ramp, detector(), cadence(10), PLAIN)
    assert (fit.dq != 0).tolist() == [[False, False, True, False]]
    assert fit.dq[0, 2] == Quality.UNRELIABLE_SLOPE


def test_the_number_of_threads_and_the_tile_change_no_bit(processor: Processor) -> None:
    rng = np.random.default_rng(7)
    ramp = rng.integers(0, 65536, (7, 100, 1300), dtype=np.uint16)
    one = Processor(1)
    few, many = (p.fit(ramp, detector((100, 1300)), cadence(7)) for p in (one, processor))
    one.shutdown()
    same(few, many)
    part = processor.fit(ramp[:, :, 30:].copy(), detector((100, 1270)), cadence(7))
    np.testing.assert_array_equal(part.rate, many.rate[:, 30:])
    np.testing.assert_array_equal(part.dq, many.dq[:, 30:])


@pytest.mark.parametrize("side_columns", [SideColumns.NONE, SideColumns.MEDIAN])
def test_what_the_reference_pixels_see_leaves_the_rates(processor: Processor, side_columns: SideColumns) -> None:
    rng, shape, times = np.random.default_rng(6), (32, 128), cadence(6)
    calibration = detector(shape, border=4)
    ramp = np.full((6, *shape), 3000, np.uint16)
    ramp[:, 4:-4, 4:-4] = noisy_ramp(rng, times, (24, 120), 40.0)
    channel, parity = np.arange(128) // calibration.channel_columns, np.arange(128) % 2
    drifting = ramp + rng.integers(0, 200, (6, 1, 128))[:, :, channel] + parity * rng.integers(0, 50, (6, 1, 1))
    if side_columns is SideColumns.MEDIAN:
        drifting[:, 4:-4] += rng.integers(0, 90, (6, 24, 1))
    correction = ReferenceCorrection(side_columns=side_columns, median_rows=1)
    fits = [processor.fit(r.astype(np.uint16), calibration, times, correction=correction) for r in (ramp, drifting)]
    science = calibration.science
    sigma = float(np.sqrt(fits[0].var_rnoise[science].mean()))
    np.testing.assert_allclose(fits[1].rate[science], fits[0].rate[science], atol=1e-4 * sigma)
    np.testing.assert_array_equal(fits[1].dq[science], fits[0].dq[science])


COUNTS = st.sampled_from([0, 1, 2, 1000, 1010, 30000, 59999, 60000, 65535])


@settings(max_examples=100, deadline=None)
@given(
    counts=st.lists(COUNTS, min_size=1, max_size=8),
    use_read=st.lists(st.booleans(), min_size=8, max_size=8),
    use_difference=st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_any_counts_and_any_rejection_give_the_flags_and_the_fit_of_the_definition(
    processor: Processor, counts: list[int], use_read: list[bool], use_difference: list[bool]
) -> None:
    reads = len(counts)
    ramp = np.array(counts, np.uint16)[:, None, None] * np.ones((1, 1, 4), np.uint16)
    kept, differences = np.array(use_read[:reads]), np.array(use_difference[: reads - 1], np.bool_)
    fit = processor.fit(ramp, detector(), UNEVEN[:reads], PLAIN, use_read=kept, use_difference=differences)
    used = np.flatnonzero(kept)
    values = np.array(counts)[used]
    live = ~np.logical_or.accumulate(values >= 60000) & (values > 0)
    good = np.array([differences[a:b].all() for a, b in pairwise(used)], np.bool_) & live[1:] & live[:-1]
    expected = Quality.GOOD
    expected |= Quality.SATURATED if (values >= 60000).any() else Quality.GOOD
    expected |= Quality.AD_FLOOR if (values == 0).any() else Quality.GOOD
    expected |= Quality.GOOD if good.any() else Quality.DO_NOT_USE
    assert (fit.dq & ~np.uint32(Quality.UNRELIABLE_SLOPE) == expected).all()
    assert (fit.differences == good.sum()).all()
    if good.any():
        noise = np.full(len(used), NOISE**2)
        dense, guess = dense_likelihood(values.astype(np.float64), UNEVEN[used], noise, good, GAIN)
        sigma = np.sqrt(dense.rnoise + dense.poisson * guess)
        np.testing.assert_allclose(fit.rate, dense.rate, rtol=1e-5, atol=1e-4 * sigma)
        np.testing.assert_allclose(fit.var_rnoise, dense.rnoise, rtol=1e-3)
        np.testing.assert_allclose(fit.poisson, dense.poisson, rtol=1e-4)


def test_reads_in_any_memory_are_fitted_alike(processor: Processor) -> None:
    ramp = noisy_ramp(np.random.default_rng(5), cadence(6), (2, 8), 40.0)
    frozen = ramp[:, :, ::2].astype(">u2")
    frozen.flags.writeable = False
    expected = processor.fit(ramp[:, :, ::2].copy(), detector((2, 4)), cadence(6))
    same(processor.fit(frozen, detector((2, 4)), cadence(6)), expected)
    same(processor.fit(ramp[:, :, ::2], detector((2, 4)), cadence(6)), expected)


def test_times_must_increase_and_arrays_must_fit(processor: Processor) -> None:
    ramp = np.full((3, 1, 4), 100, np.uint16)
    for times in ([1.0, 1.0, 2.0], [1.0, 0.5, 2.0], [1.0, np.nan, 2.0]):
        with pytest.raises(ValueError, match="must increase"):
            processor.fit(ramp, detector(), np.array(times))
    kept = processor.fit(ramp, detector(), np.array([1.0, 1.0, 2.0]), use_read=np.array([True, False, True]))
    assert (kept.differences == 1).all()
    with pytest.raises(ValueError, match="times"):
        processor.fit(ramp, detector(), cadence(4))
    with pytest.raises(ValueError, match="offsets"):
        processor.fit(ramp, detector(), cadence(3), column_offset=np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match="references"):
        processor.fit(ramp, detector((1, 5)), cadence(3))
    with pytest.raises(ValueError, match="flags"):
        processor.fit(ramp, detector(), cadence(3), use_difference=np.ones(3, np.bool_))
    for kind in (np.int32, np.uint32, np.int16, np.float32):
        with pytest.raises(ValueError, match="not uint16"):
            processor.fit(ramp.astype(kind), detector(), cadence(3))
    with pytest.raises(ValueError, match="two groups of 2"):
        processor.fit(ramp, detector(), cadence(3), FitSettings(estimator=Estimator.FOWLER, fowler_reads=2))
