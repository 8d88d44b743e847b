"""Slopes and variances against definitions: known ramps, impulse responses, Monte Carlo."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

CDS, UTR = SamplingMode.CDS, SamplingMode.UTR
GAIN, NOISE = 2.0, 5.0
DT = 0.72


def detector(shape: tuple[int, int] = (4, 4), border: int = 0, **planes: NDArray[np.generic]) -> Calibration:
    """A detector without faults, unless a plane says otherwise; by default it has no reference pixels."""
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    perfect = {
        "mask": np.zeros(shape, np.uint32),
        "coefficients": coefficients,
        "coefficients_dq": np.zeros(shape, np.uint32),
        "saturation": np.full(shape, 60000, np.float32),
        "saturation_dq": np.zeros(shape, np.uint32),
        "gain": np.full(shape, GAIN, np.float32),
        "read_noise": np.full(shape, NOISE, np.float32),
    }
    return calibrate_for(**(perfect | planes), border=border)  # type: ignore[arg-type]


def fit(
    processor: Processor,
    calibration: Calibration,
    mode: SamplingMode,
    *ramps: Sequence[tuple[float, NDArray[np.uint16]]],
) -> RateFrame:
    """Fold ramps of (time, read); a whole ramp is as long as the first of them."""
    full = max(ramps[0][-1][0] - ramps[0][0][0], DT) if ramps[0] else DT
    state = processor.open(calibration, mode, full)
    for ramp in ramps:
        for time, read in ramp:
            processor.fold(state, read, time)
        processor.end_ramp(state)
    return processor.close(state)


def constant(value: float, shape: tuple[int, int] = (4, 4)) -> NDArray[np.uint16]:
    return np.full(shape, value, np.uint16)


def reads(values: Sequence[float], dt: float = 1.0) -> list[tuple[float, NDArray[np.uint16]]]:
    return [((k + 1) * dt, constant(value)) for k, value in enumerate(values)]


def test_a_ramp_that_can_be_fitted_by_hand(processor: Processor) -> None:
    # reads 100, 110, 123, 127 at 1 2 3 4 s: (-1.5*100 - 0.5*110 + 0.5*123 + 1.5*127) / 5 = 9.4 DN/s
    ramp = reads([100, 110, 123, 127])
    frame = fit(processor, detector(), UTR, ramp)
    np.testing.assert_allclose(frame.data, 9.4, rtol=1e-6)
    np.testing.assert_allclose(frame.var_rnoise, NOISE**2 / 5, rtol=1e-6)
    # tails of the weights (-.3 -.1 .1 .3): .3 .4 .3, their squares .34
    np.testing.assert_allclose(frame.var_poisson, 9.4 / GAIN * 0.34, rtol=1e-6)
    np.testing.assert_allclose(frame.err, np.sqrt(frame.var_poisson + frame.var_rnoise), rtol=1e-6)
    assert not frame.dq.any()
    difference = fit(processor, detector(), CDS, ramp)
    np.testing.assert_allclose(difference.data, 9.0, rtol=1e-6)  # (127 - 100) / 3
    np.testing.assert_allclose(difference.var_rnoise, 2 * NOISE**2 / 9, rtol=1e-6)
    np.testing.assert_allclose(difference.var_poisson, 9.0 / GAIN / 3, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    mode=st.sampled_from([CDS, UTR]),
    pedestal=st.integers(1, 50000),
    step=st.integers(1, 60),
    dt=st.floats(0.01, 100.0),
    kept=st.sets(st.integers(0, 19), min_size=2),
)
def test_a_straight_ramp_gives_its_slope_for_any_pedestal_cadence_and_subset_of_reads(
    processor: Processor, mode: SamplingMode, pedestal: int, step: int, dt: float, kept: set[int]
) -> None:
    ramp = [((k + 1) * dt, constant(pedestal + step * k)) for k in sorted(kept)]
    frame = fit(processor, detector(), mode, ramp)
    np.testing.assert_allclose(frame.data, step / dt, rtol=1e-6)


@pytest.mark.parametrize("mode", [CDS, UTR])
@pytest.mark.parametrize("times", [np.arange(1, 3) * DT, np.arange(1, 9) * DT, np.array([0.3, 1.0, 1.1, 4.0, 4.5])])
def test_impulses_recover_weights_that_carry_the_stated_variances(
    processor: Processor, mode: SamplingMode, times: NDArray[np.float64]
) -> None:
    height = 1000.0
    weights = np.zeros(len(times))
    for k in range(len(times)):
        ramp = [(t, constant(2000 + (height if j == k else 0))) for j, t in enumerate(times)]
        weights[k] = fit(processor, detector(), mode, ramp).data[0, 0] / height
    assert np.sum(weights) == pytest.approx(0, abs=1e-6 * np.abs(weights).max())
    assert np.sum(weights * times) == pytest.approx(1, rel=1e-5)
    flux = 40.0
    exact = [(t, constant(round(1000 + flux * t))) for t in times]
    frame = fit(processor, detector(), mode, exact)
    assert frame.var_rnoise[0, 0] == pytest.approx(NOISE**2 * np.sum(weights**2), rel=1e-5)
    tails = np.array([weights[j:].sum() for j in range(1, len(times))])
    shot = frame.data[0, 0] / GAIN * np.sum(np.diff(times) * tails**2)
    assert frame.var_poisson[0, 0] == pytest.approx(shot, rel=1e-5)


@pytest.mark.parametrize("n", [4, 10, 30, 100])
def test_variances_are_those_of_the_literature_for_a_uniform_cadence(processor: Processor, n: int) -> None:
    # Rauscher et al. 2007 (PASP 119, 768), with single reads
    frame = fit(processor, detector(), UTR, reads([1000 + 7 * k for k in range(n)], DT))
    rate = 7 / DT
    assert frame.var_rnoise[0, 0] == pytest.approx(12 * NOISE**2 / (n * (n**2 - 1) * DT**2), rel=1e-5)
    photons = 6 * (n**2 + 1) / (5 * n * (n + 1)) * rate / (GAIN * (n - 1) * DT)
    assert frame.var_poisson[0, 0] == pytest.approx(photons, rel=1e-5)


@pytest.mark.parametrize("mode", [CDS, UTR])
@pytest.mark.parametrize("rate", [0.0, 200.0])
def test_stated_variance_is_the_scatter_of_noisy_ramps(processor: Processor, mode: SamplingMode, rate: float) -> None:
    shape, n = (200, 200), 8
    rng = np.random.default_rng(20340801)
    electrons = np.cumsum(rng.poisson(rate * GAIN * DT, (n, *shape)), axis=0)
    noisy = 5000 + electrons / GAIN + rng.normal(0, NOISE, (n, *shape))
    ramp = [((k + 1) * DT, np.round(noisy[k]).astype(np.uint16)) for k in range(n)]
    frame = fit(processor, detector(shape), mode, ramp)
    # quantisation adds 1/12 DN^2 to the 25 DN^2 of a read: 0.3 %; 40000 pixels give the variance to 0.7 %
    stated = float(np.mean(frame.var_rnoise, dtype=np.float64))
    if rate:  # without light, the photon variance of a pixel whose noise went up is its own noise: known to be 0 here
        stated += float(np.mean(frame.var_poisson, dtype=np.float64))
    assert np.var(frame.data, dtype=np.float64) == pytest.approx(stated, rel=0.03)
    assert abs(frame.data.mean(dtype=np.float64) - rate) < 4 * np.sqrt(stated / frame.data.size)


@pytest.mark.parametrize("mode", [CDS, UTR])
@pytest.mark.parametrize("k", range(5))
def test_saturation_at_a_read_leaves_the_reads_before_it(processor: Processor, mode: SamplingMode, k: int) -> None:
    values = [100.0, 113.0, 120.0, 140.0, 145.0]
    saturated = [*values[:k], 60000.0, *values[k + 1 :]]  # later reads are below the threshold again: it latches
    frame = fit(processor, detector(), mode, reads(saturated))
    assert (frame.dq & Quality.SATURATED).all()
    assert frame.saturated_fraction == 1.0
    if k < 2:
        for plane in (frame.data, frame.err, frame.var_poisson, frame.var_rnoise):
            np.testing.assert_array_equal(plane, 0)
        assert (frame.dq & Quality.DO_NOT_USE).all()
    else:
        short = fit(processor, detector(), mode, reads(values[:k]))
        np.testing.assert_allclose(frame.data, short.data, rtol=1e-6)
        np.testing.assert_allclose(frame.var_rnoise, short.var_rnoise, rtol=1e-6)
        np.testing.assert_allclose(frame.var_poisson, short.var_poisson, rtol=1e-6)
        assert not (frame.dq & Quality.DO_NOT_USE).any()


def test_saturation_is_judged_on_raw_counts_pixel_by_pixel(processor: Processor) -> None:
    threshold = np.full((4, 4), 60000, np.float32)
    threshold[1, 2] = 119.5  # 119 is not saturated, 120 is
    frame = fit(processor, detector(saturation=threshold), UTR, reads([100, 119, 120]))
    assert np.argwhere(frame.dq & Quality.SATURATED).tolist() == [[1, 2]]
    assert frame.data[1, 2] == pytest.approx(19)
    assert frame.data[0, 0] == pytest.approx(10)
    assert frame.saturated_fraction == 1 / 16


def test_a_count_of_zero_ends_the_ramp(processor: Processor) -> None:
    ramp = reads([100, 110, 120])
    ramp[2][1][3, 3] = 0
    frame = fit(processor, detector(), UTR, ramp)
    assert frame.data[3, 3] == pytest.approx(10)
    assert frame.dq[3, 3] == Quality.AD_FLOOR
    assert frame.dq[0, 0] == 0


def test_one_read_makes_no_slope(processor: Processor) -> None:
    for mode in (CDS, UTR):
        frame = fit(processor, detector(), mode, reads([100]))
        assert (frame.dq == Quality.DO_NOT_USE).all()
        for plane in (frame.data, frame.err, frame.var_poisson, frame.var_rnoise):
            np.testing.assert_array_equal(plane, 0)


def test_a_falling_ramp_keeps_its_slope_and_has_no_photon_noise(processor: Processor) -> None:
    frame = fit(processor, detector(), UTR, reads([130, 120, 110]))
    np.testing.assert_allclose(frame.data, -10, rtol=1e-6)
    np.testing.assert_array_equal(frame.var_poisson, 0)


def test_linearity_is_the_polynomial_of_each_read(processor: Processor) -> None:
    coefficients = np.zeros((6, 4, 4), np.float32)
    coefficients[1:] = np.array([1.02, 3e-6, -2e-11, 5e-16, 1e-21], np.float32)[:, None, None]
    values = [1000.0, 11000.0, 23000.0]
    expected = [sum(float(a) * x**i for i, a in enumerate(coefficients[:, 0, 0])) for x in values]
    frame = fit(processor, detector(coefficients=coefficients), CDS, reads(values))
    np.testing.assert_allclose(frame.data, (expected[2] - expected[0]) / 2, rtol=1e-6)


def test_references_without_a_value_are_flagged_and_do_no_harm(processor: Processor) -> None:
    coefficients = np.zeros((6, 4, 4), np.float32)
    coefficients[1] = 2
    coefficients[3, 0, 0] = np.nan
    coefficients[1, 0, 1] = 0
    coefficients_dq = np.zeros((4, 4), np.uint32)
    coefficients_dq[0, 2] = Quality.NO_LIN_CORR
    saturation = np.full((4, 4), 60000, np.float32)
    saturation[1, 0] = np.nan
    gain = np.full((4, 4), GAIN, np.float32)
    gain[2, 0], gain[2, 1] = np.nan, 0
    noise = np.full((4, 4), NOISE, np.float32)
    noise[3, 0] = np.nan
    calibration = detector(
        coefficients=coefficients, coefficients_dq=coefficients_dq, saturation=saturation, gain=gain, read_noise=noise
    )
    frame = fit(processor, calibration, UTR, reads([50000, 60100, 65000]))
    for plane in (frame.data, frame.err, frame.var_poisson, frame.var_rnoise):
        assert np.isfinite(plane).all()
    assert [frame.dq[0, x] & Quality.NO_LIN_CORR != 0 for x in range(4)] == [True, True, True, False]
    assert frame.dq[1, 0] == Quality.NO_SAT_CHECK
    assert frame.data[1, 0] == pytest.approx(15000)  # all three reads, twice the counts
    assert frame.dq[1, 1] == Quality.SATURATED | Quality.DO_NOT_USE
    for x in (0, 1):
        assert frame.dq[2, x] & Quality.NO_GAIN_VALUE
        assert frame.dq[2, x] & Quality.DO_NOT_USE
    assert frame.dq[3, 0] & Quality.DO_NOT_USE


def test_ramps_are_weighted_by_their_good_time(processor: Processor) -> None:
    whole, other = reads([100, 110, 120, 130]), reads([200, 216, 60000, 60000])
    frame = fit(processor, detector(), UTR, whole, other)
    # 3 s at 10 DN/s and 1 s at 16 DN/s
    np.testing.assert_allclose(frame.data, (3 * 10 + 1 * 16) / 4, rtol=1e-6)
    np.testing.assert_allclose(frame.var_rnoise, NOISE**2 * (9 / 5 + 1 * 2) / 16, rtol=1e-6)
    assert (frame.dq == Quality.SATURATED).all()
    bad = fit(processor, detector(), UTR, reads([60000, 60000]), whole)
    np.testing.assert_allclose(bad.data, 10, rtol=1e-6)
    assert not (bad.dq & Quality.DO_NOT_USE).any()
    twice = fit(processor, detector(), UTR, whole, whole)
    once = fit(processor, detector(), UTR, whole)
    np.testing.assert_allclose(twice.var_rnoise, once.var_rnoise / 2, rtol=1e-6)


def test_the_number_of_threads_changes_no_bit(processor: Processor) -> None:
    rng = np.random.default_rng(7)
    shape = (600, 130)
    ramp = [((k + 1) * DT, rng.integers(0, 65536, shape, dtype=np.uint16)) for k in range(5)]
    single = Processor(1)
    few, many = (fit(one, detector(shape, border=4), UTR, ramp) for one in (single, processor))
    single.shutdown()
    for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name))


def test_a_hundred_reads_on_a_high_pedestal_keep_their_precision(processor: Processor) -> None:
    rng = np.random.default_rng(3)
    shape, n = (64, 64), 100
    values = rng.integers(29900, 30100, (n, *shape)).astype(np.uint16)
    times = np.arange(1, n + 1) * DT
    frame = fit(processor, detector(shape), UTR, list(zip(times, values, strict=True)))
    exact = np.tensordot((times - times.mean()) / np.sum((times - times.mean()) ** 2), values.astype(np.float64), 1)
    sigma = np.sqrt(NOISE**2 / np.sum((times - times.mean()) ** 2))
    assert np.max(np.abs(frame.data - exact)) < 1e-3 * sigma
    assert np.sqrt(np.mean((frame.data - exact) ** 2)) < 1e-4 * sigma


def test_reads_of_a_ramp_must_come_in_the_order_of_time(processor: Processor) -> None:
    state = processor.open(detector(), UTR, 1.0)
    processor.fold(state, constant(100), 2.0)
    with pytest.raises(ValueError, match="a read at 2"):
        processor.fold(state, constant(100), 2.0)
