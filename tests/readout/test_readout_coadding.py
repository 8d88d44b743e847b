"""Ramps of an exposure in one frame."""

import numpy as np
import pytest
from tests.readout.ramps import cadence, detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.coadding import RampWeights, SummedFrame, coadd, frame_of
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
PLAIN = FitSettings(jump_test=JumpTest.NONE)
MEANS = pytest.mark.parametrize("weighting", [RampWeights.VARIANCE, RampWeights.TIME])


@MEANS
def test_one_ramp_passes_unchanged(processor: Processor, weighting: RampWeights) -> None:
    ramp = noisy_ramp(np.random.default_rng(1), cadence(6), (2, 4), 40.0)
    ramp[3:, 1, 2] = 65535
    ramp[:, 0, 1] = 65535
    fit = processor.fit(ramp, detector((2, 4)), cadence(6))
    frame, ramps = coadd([fit], detector((2, 4)), weighting)
    np.testing.assert_allclose(frame.data, fit.rate, rtol=1e-6)
    np.testing.assert_allclose(frame.var_rnoise, fit.var_rnoise, rtol=1e-6)
    np.testing.assert_allclose(frame.var_poisson, fit.var_poisson, rtol=1e-6)
    np.testing.assert_allclose(frame.err, np.sqrt(fit.var_rnoise + fit.var_poisson), rtol=1e-6)
    np.testing.assert_array_equal(frame.dq, fit.dq)
    assert ramps.tolist() == [[1, 0, 1, 1], [1, 1, 1, 1]]
    assert frame.saturated_fraction == 2 / 8
    # Whether one ramp was planned or is all that came of several: the service asks the plan, offline there is none.
    alone = frame_of(fit, detector((2, 4)), Quality.DROPOUT)
    for name in ("data", "err", "var_poisson", "var_rnoise"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(frame, name))
    np.testing.assert_array_equal(alone.dq, frame.dq | Quality.DROPOUT)
    assert alone.saturated_fraction == frame.saturated_fraction


def test_ramps_count_by_their_inverse_variance_at_one_rate(processor: Processor) -> None:
    rng = np.random.default_rng(2)
    fits = [processor.fit(noisy_ramp(rng, cadence(n), (1, 4), 40.0), detector(), cadence(n), PLAIN) for n in (4, 9)]
    frame, ramps = coadd(fits, detector())
    rates, poisson, rnoise = (
        np.array([getattr(fit, name)[0] for fit in fits], np.float64) for name in ("rate", "poisson", "var_rnoise")
    )
    time = np.array([[3], [8]])
    common = np.sum(rates * time, axis=0) / 11
    weights = 1 / (poisson * common + rnoise)
    weights /= weights.sum(axis=0)
    expected = np.sum(weights * rates, axis=0)
    np.testing.assert_allclose(frame.data[0], expected, rtol=1e-5)
    np.testing.assert_allclose(frame.var_rnoise[0], np.sum(weights**2 * rnoise, axis=0), rtol=1e-5)
    np.testing.assert_allclose(frame.var_poisson[0], expected * np.sum(weights**2 * poisson, axis=0), rtol=1e-5)
    assert (ramps == 2).all()
    by_time, _ = coadd(fits, detector(), RampWeights.TIME)
    np.testing.assert_allclose(by_time.data[0], common, rtol=1e-5)
    np.testing.assert_allclose(by_time.var_rnoise[0], np.sum(time**2 * rnoise, axis=0) / 121, rtol=1e-5)


@MEANS
def test_the_mean_of_faint_ramps_is_unbiased(processor: Processor, weighting: RampWeights) -> None:
    rng, shape, rate = np.random.default_rng(5), (4, 4096), 0.3
    calibration = detector(shape, gain=1.0, noise=9.0)
    fits = [
        processor.fit(noisy_ramp(rng, cadence(n), shape, rate, gain=1.0, noise=9.0), calibration, cadence(n), PLAIN)
        for n in (10, 20, 20)
    ]
    frame, _ = coadd(fits, calibration, weighting)
    error = frame.data.astype(np.float64) - rate
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(error.size)


@MEANS
def test_a_ramp_that_is_bad_everywhere_does_not_count(processor: Processor, weighting: RampWeights) -> None:
    good = processor.fit(noisy_ramp(np.random.default_rng(2), cadence(5), (1, 4), 40.0), detector(), cadence(5), PLAIN)
    bad = processor.fit(np.full((5, 1, 4), 65535, np.uint16), detector(), cadence(5), PLAIN)
    frame, ramps = coadd([bad, good], detector(), weighting, Quality.DROPOUT)
    np.testing.assert_allclose(frame.data, good.rate, rtol=1e-6)
    assert (frame.dq == Quality.SATURATED | Quality.DROPOUT).all()
    assert (ramps == 1).all()
    assert frame.saturated_fraction == 1.0
    none, _ = coadd([bad, bad], detector(), weighting)
    assert (none.dq == Quality.SATURATED | Quality.DO_NOT_USE).all()
    for plane in (none.data, none.err, none.var_poisson, none.var_rnoise):
        np.testing.assert_array_equal(plane, 0)


def test_a_sum_is_the_signal_of_all_ramps_by_hand(processor: Processor) -> None:
    """CDS of two ramps that rise by 30 and 50 DN a read; the second saturates in its third read, or never."""
    reads = np.arange(5)[:, None, None]
    times = np.array([0.5, 1.0, 1.5, 2.0, 2.5])
    one, other = (np.broadcast_to(1000 + step * reads, (5, 1, 4)).astype(np.uint16) for step in (30, 50))
    other[2:, 0, 3] = 65535
    settings = FitSettings(estimator=Estimator.CDS, jump_test=JumpTest.NONE)
    fits = [processor.fit(ramp, detector(gain=GAIN, noise=NOISE), times, settings) for ramp in (one, other)]
    frame, ramps = coadd(fits, detector(gain=GAIN, noise=NOISE), RampWeights.SUM, Quality.DROPOUT)
    assert isinstance(frame, SummedFrame)
    np.testing.assert_allclose(frame.data, [[320, 320, 320, 170]], rtol=1e-6)
    np.testing.assert_allclose(frame.time_s, [[4, 4, 4, 2.5]], rtol=1e-6)
    # Each ramp has the noise of two reads, and as many electrons as there are gain x DN.
    np.testing.assert_allclose(frame.var_rnoise, 4 * NOISE**2, rtol=1e-5)
    np.testing.assert_allclose(frame.var_poisson, [[160, 160, 160, 85]], rtol=1e-5)
    np.testing.assert_allclose(frame.err, np.sqrt([[260, 260, 260, 185]]), rtol=1e-5)
    assert frame.dq.tolist() == [[Quality.DROPOUT] * 3 + [Quality.DROPOUT | Quality.SATURATED]]
    assert (ramps == 2).all()
    alone, _ = coadd(fits[:1], detector(gain=GAIN, noise=NOISE), RampWeights.SUM)
    np.testing.assert_allclose(alone.data, 120, rtol=1e-6)


def test_a_sum_is_that_of_float64_whatever_its_ramps_have_lost(processor: Processor) -> None:
    """Ramps of three lengths with saturation and cosmic rays, in more rows than are added at a time."""
    rng, shape = np.random.default_rng(7), (300, 3)
    calibration = detector(shape, gain=GAIN, noise=NOISE)
    fits = []
    for number in (5, 9, 14):
        ramp = noisy_ramp(rng, cadence(number), shape, 60.0)
        ramp[number // 2 :][:, rng.random(shape) < 0.2] += 3000
        ramp[2:, rng.random(shape) < 0.2] = 65535
        ramp[:, rng.random(shape) < 0.4] = 65535
        fits.append(processor.fit(ramp, calibration, cadence(number)))
    frame, ramps = coadd(fits, calibration, RampWeights.SUM)
    assert isinstance(frame, SummedFrame)
    rate, poisson, rnoise, time = (
        np.array([getattr(fit, name) for fit in fits], np.float64)
        for name in ("rate", "poisson", "var_rnoise", "time_s")
    )
    total, signal = time.sum(axis=0), (rate * time).sum(axis=0)
    assert set(np.unique(ramps)) == {0, 1, 2, 3}
    np.testing.assert_array_equal(total > 0, ramps > 0)
    common = np.maximum(signal / np.where(total > 0, total, 1), 0)
    np.testing.assert_allclose(frame.data, signal, rtol=1e-6)
    np.testing.assert_allclose(frame.time_s, total, rtol=1e-6)
    np.testing.assert_allclose(frame.var_rnoise, (time**2 * rnoise).sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(frame.var_poisson, common * (time**2 * poisson).sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(frame.err, np.sqrt(frame.var_rnoise + frame.var_poisson), rtol=1e-6)
    mean, _ = coadd(fits, calibration, RampWeights.TIME)
    some = ramps > 0
    for of_sum, of_mean in ((frame.data, mean.data), (frame.err, mean.err)):
        np.testing.assert_allclose(of_sum[some] / total[some], of_mean[some], rtol=1e-5)
    np.testing.assert_array_equal(frame.dq, mean.dq)
    assert (frame.dq[~some] & Quality.DO_NOT_USE != 0).all()
