"""The sampling modes that are linear in the reads, refitted from the reads: weights, variances, segments."""

import numpy as np
import pytest
from numpy.typing import NDArray
from stcal.ramp_fitting.ramp_fit import ramp_fit_data
from stcal.ramp_fitting.ramp_fit_class import RampData
from tests.readout.ramps import DT, cadence, detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
LINEAR = [estimator for estimator in Estimator if estimator is not Estimator.LIKELIHOOD]
UNEVEN = np.array([0.3, 1.0, 1.1, 4.0, 4.5, 6.0, 9.0, 9.2])


def settings_of(estimator: Estimator, fowler_reads: int = 3) -> FitSettings:
    return FitSettings(estimator=estimator, fowler_reads=fowler_reads, jump_test=JumpTest.NONE)


@pytest.mark.parametrize("estimator", list(Estimator))
@pytest.mark.parametrize("pedestal", [1, 50000])
@pytest.mark.parametrize("kept", [range(8), (0, 3, 4, 6), (2, 5, 7), (1, 6)])
def test_a_straight_ramp_gives_its_slope_for_any_subset_of_reads(
    processor: Processor, estimator: Estimator, pedestal: int, kept: tuple[int, ...]
) -> None:
    ramp = np.rint(pedestal + 1000 * UNEVEN[:, None, None] * np.ones((1, 3, 5))).astype(np.uint16)
    use = np.isin(np.arange(8), list(kept))
    fit = processor.fit(ramp, detector((3, 5)), UNEVEN, settings_of(estimator, 1), use_read=use)
    np.testing.assert_allclose(fit.rate, 1000, rtol=1e-6)


@pytest.mark.parametrize("estimator", LINEAR)
@pytest.mark.parametrize("times", [cadence(9), UNEVEN])
@pytest.mark.parametrize("masked", [(), (3,), (0, 4, 5)])
def test_impulses_recover_weights_that_carry_the_stated_variances(
    processor: Processor, estimator: Estimator, times: NDArray[np.float64], masked: tuple[int, ...]
) -> None:
    reads, flux = len(times), 400.0
    straight = np.rint(1000 + flux * times)
    # One pixel for each read with an impulse on top of the ramp; so small that no Fixsen power changes.
    height = 8.0
    ramp = (straight[:, None] + np.eye(reads, reads + 1) * height).astype(np.uint16)[:, None, :]
    use = ~np.isin(np.arange(reads - 1), masked)
    fit = processor.fit(ramp, detector((1, reads + 1)), times, settings_of(estimator), use_difference=use)
    rate = fit.rate[0].astype(np.float64)
    weights = (rate[:-1] - rate[-1]) / height
    # A float32 rate is known to half a unit in its last place, and so are the terms of its sum.
    rounding = 2 * rate[-1] * 2.0**-24 / height
    assert np.sum(weights) == pytest.approx(0, abs=reads * rounding)
    tails = np.array([weights[j:].sum() for j in range(1, reads)])
    np.testing.assert_allclose(tails[list(masked)], 0, atol=reads * rounding)
    assert np.sum(tails * np.diff(times)) == pytest.approx(1, abs=reads * rounding * times[-1])
    assert fit.var_rnoise[0, -1] == pytest.approx(NOISE**2 * np.sum(weights**2), rel=2e-4)
    shot = rate[-1] / GAIN * np.sum(np.diff(times) * tails**2)
    assert fit.var_poisson[0, -1] == pytest.approx(shot, rel=2e-4)


@pytest.mark.parametrize("n", [4, 10, 30, 100])
def test_variances_are_those_of_the_literature_for_a_uniform_cadence(processor: Processor, n: int) -> None:
    ramp = (1000 + 36 * np.arange(n, dtype=np.uint16))[:, None, None] * np.ones((1, 1, 4), np.uint16)
    rate = 36 / DT

    def variances(estimator: Estimator, fowler_reads: int = 1) -> tuple[float, float]:
        fit = processor.fit(ramp, detector(), cadence(n), settings_of(estimator, fowler_reads))
        return float(fit.var_rnoise[0, 0]), float(fit.var_poisson[0, 0])

    rnoise, poisson = variances(Estimator.LEAST_SQUARES)
    assert rnoise == pytest.approx(12 * NOISE**2 / (n * (n**2 - 1) * DT**2), rel=1e-5)
    assert poisson == pytest.approx(6 * (n**2 + 1) / (5 * n * (n + 1)) * rate / (GAIN * (n - 1) * DT), rel=1e-5)
    for m in {1, n // 3, n // 2}:
        fowler = variances(Estimator.FOWLER, m)
        baseline = ((n - m) * DT) ** 2
        assert fowler[0] == pytest.approx(2 * NOISE**2 / m / baseline, rel=1e-5)
        assert fowler[1] == pytest.approx(rate * DT / GAIN * (n - m - (m**2 - 1) / (3 * m)) / baseline, rel=1e-5)
    cds = variances(Estimator.CDS)
    assert cds == pytest.approx(variances(Estimator.FOWLER, 1), rel=1e-6)
    assert np.sqrt(cds[0] / rnoise) == pytest.approx(np.sqrt(n * (n + 1) / (6 * (n - 1))), rel=1e-5)
    # The likelihood is the best linear unbiased estimate: without photons it is least squares.
    assert variances(Estimator.LIKELIHOOD)[0] >= rnoise * (1 - 1e-6)


def test_segments_share_a_slope_and_have_their_own_pedestals(processor: Processor) -> None:
    times = np.concatenate([cadence(5), 4.1 + cadence(7)])
    ramp = noisy_ramp(np.random.default_rng(6), times, (1, 4), 40.0)
    use = np.arange(11) != 4
    fit = processor.fit(ramp, detector(), times, settings_of(Estimator.LEAST_SQUARES), use_difference=use)
    # One slope and two pedestals by ordinary least squares.
    design = np.stack([times, np.arange(12) < 5, np.arange(12) >= 5], axis=1).astype(np.float64)
    slope = np.linalg.lstsq(design, ramp[:, 0].astype(np.float64))[0][0]
    np.testing.assert_allclose(fit.rate[0], slope, rtol=1e-5)
    cds = processor.fit(ramp, detector(), times, settings_of(Estimator.CDS), use_difference=use)
    ends = ramp[:, 0].astype(np.float64)
    np.testing.assert_allclose(cds.rate[0], (ends[4] - ends[0] + ends[11] - ends[5]) / (4 * DT + 6 * DT), rtol=1e-5)
    np.testing.assert_allclose(cds.var_rnoise, 4 * NOISE**2 / (10 * DT) ** 2, rtol=1e-5)


@pytest.mark.parametrize("electrons_s", [0.1, 1.0, 8.0, 60.0, 200.0, 4000.0])
def test_fixsen_weights_are_those_of_stcal(processor: Processor, electrons_s: float) -> None:
    # Every power of the table comes up; one segment in some pixels, two in others.
    reads, pixels, noise = 12, 64, 9.0
    times = cadence(reads)
    ramp = noisy_ramp(np.random.default_rng(9), times, (1, pixels), electrons_s / GAIN, gain=GAIN, noise=noise)
    flags = np.zeros((1, reads, 1, pixels), np.uint8)
    flags[0, 7, 0, ::2] = Quality.JUMP_DET
    data = RampData()
    data.set_arrays(
        ramp[None].astype(np.float32), flags, np.zeros((1, pixels), np.uint32), np.zeros((1, pixels), np.float32)
    )
    data.set_meta("IRIS", DT, DT, 0, 1, 0)
    data.set_dqflags({flag.name: int(flag) for flag in Quality} | {"CHARGELOSS": 128})
    readnoise, gain = (np.full((1, pixels), value, np.float32) for value in (np.sqrt(2) * noise, GAIN))
    peer = ramp_fit_data(data, False, readnoise, gain, "OLS_C", "optimal", "none")[0]["slope"][0]
    calibration = detector((1, pixels), gain=GAIN, noise=noise)
    settings = settings_of(Estimator.FIXSEN)
    whole = processor.fit(ramp, calibration, times, settings).rate[0]
    parts = processor.fit(ramp, calibration, times, settings, use_difference=np.arange(11) != 6).rate[0]
    # stcal's weights and sums are float32 over reads with their pedestal.
    np.testing.assert_allclose(np.where(np.arange(pixels) % 2, whole, parts), peer, rtol=1e-4, atol=2e-3)
