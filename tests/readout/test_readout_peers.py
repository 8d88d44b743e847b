"""What is wrong in the C library `iris_readout` and in `liger_iris_pipeline`, right here; and two ways to one number.

The stream and the fit of a whole ramp share no arithmetic: where they estimate the same thing they must agree.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from stcal.ramp_fitting.ramp_fit import ramp_fit_data
from stcal.ramp_fitting.ramp_fit_class import RampData
from tests.readout.ramps import DT, cadence, detector, noisy_ramp

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import RampWeights, coadd
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
UNEVEN = np.cumsum(np.random.default_rng(12).uniform(0.3, 2.0, 24))


def fold(
    processor: Processor,
    calibration: Calibration,
    mode: Mode,
    options: FoldOptions,
    *ramps: tuple[NDArray[np.float64], NDArray[np.uint16]],
) -> RateFrame:
    state = processor.open(calibration, mode, float(np.ptp(ramps[0][0])), options)
    for times, reads in ramps:
        for time, read in zip(times, reads, strict=True):
            processor.fold(state, read, float(time))
        processor.end_ramp(state)
    return processor.close(state)


def folds(times: NDArray[np.float64], group: int) -> list[tuple[Mode, FoldOptions]]:
    planned = tuple(times)
    return [
        (Mode.CDS, FoldOptions()),
        (Mode.MCDS, FoldOptions(planned_times_s=planned, group_reads=group)),
        (Mode.UTR, FoldOptions()),
        (Mode.UTR, FoldOptions(jump_sigma=1e6)),
        (Mode.UTR, FoldOptions(Weighting.FIXSEN, planned)),
        (Mode.UTR, FoldOptions(Weighting.OPTIMAL, planned)),
    ]


@pytest.mark.parametrize("unit_s", [1.0, 1e-3, 1e3])
@pytest.mark.parametrize(("reads", "step"), [(60, 576), (65, 576), (66, 576), (100, 360), (5, 100), (2, 576)])
def test_a_ramp_has_its_rate_in_any_unit_of_time(processor: Processor, reads: int, step: int, unit_s: float) -> None:
    # In milliseconds the sums of iris_readout, 32-bit integers, overflow from the 65th read on; in seconds its times
    # are cut to whole numbers. Its UTR is DN of a whole ramp, its MCDS that of a part: 400 and 300 DN for five reads.
    times: NDArray[np.float64] = np.arange(1, reads + 1).astype(np.float64) * DT / unit_s
    ramp = np.broadcast_to((1000 + step * np.arange(reads))[:, None, None], (reads, 2, 3)).astype(np.uint16)
    rate = step / DT * unit_s
    for mode, options in folds(times, max(reads // 3, 1)):
        frame = fold(processor, detector((2, 3)), mode, options, (times, ramp))
        np.testing.assert_allclose(frame.data, rate, rtol=2e-6, err_msg=f"{mode} {options.weighting}")
        assert not frame.dq.any()
    for estimator in Estimator:
        settings = FitSettings(estimator, fowler_reads=max(reads // 3, 1))
        fit = processor.fit(ramp, detector((2, 3)), times, settings)
        np.testing.assert_allclose(fit.rate, rate, rtol=2e-6, err_msg=estimator)
        assert not fit.dq.any()


@pytest.mark.parametrize(("rows", "columns"), [(8, 16), (16, 8), (10, 10), (1, 2100), (257, 3)])
def test_frames_that_are_not_square_are_computed_to_their_last_pixel(
    processor: Processor, rows: int, columns: int
) -> None:
    # iris_readout fills 72 of the 128 pixels of an 8 x 16 frame, and leaves the others as malloc gave them.
    rng, times = np.random.default_rng(rows), cadence(4)
    ramp = rng.integers(1000, 50000, (4, rows, columns)).astype(np.uint16)
    weights = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    expected = np.tensordot(weights, ramp.astype(np.float64), 1)
    frame = fold(processor, detector((rows, columns)), Mode.UTR, FoldOptions(), (times, ramp))
    np.testing.assert_allclose(frame.data, expected, rtol=1e-5, atol=0.02)
    settings = FitSettings(Estimator.LEAST_SQUARES, jump_test=JumpTest.NONE)
    np.testing.assert_allclose(
        processor.fit(ramp, detector((rows, columns)), times, settings).rate, expected, rtol=1e-5, atol=0.02
    )


def test_ramps_are_averaged_and_their_flags_stay_bits(processor: Processor) -> None:
    # iris_pipeline adds the ramps of an exposure up, liger_iris_pipeline makes one truth value of all flags.
    times = cadence(5)
    ramps = [noisy_ramp(np.random.default_rng(seed), times, (1, 4), 100.0) for seed in (1, 2, 3)]
    ramps[1][:, 0, 2] = 65535
    ramps[2][2:, 0, 3] = 65535
    frame = fold(processor, detector(), Mode.UTR, FoldOptions(), *((times, ramp) for ramp in ramps))
    settings = FitSettings(Estimator.LEAST_SQUARES, jump_test=JumpTest.NONE)
    fits = [processor.fit(ramp, detector(), times, settings) for ramp in ramps]
    by_time, number = coadd(fits, detector(), RampWeights.TIME)
    assert number.tolist() == [[3, 3, 2, 3]]
    saturated = int(Quality.SATURATED)
    for found in (frame, by_time):
        assert found.dq.tolist() == [[0, 0, saturated, saturated]]
        np.testing.assert_allclose(found.data, 100, atol=5 * float(frame.err.max()))
    np.testing.assert_allclose(frame.data, by_time.data, rtol=1e-5)
    np.testing.assert_allclose(frame.var_rnoise, by_time.var_rnoise, rtol=1e-5)
    np.testing.assert_allclose(frame.var_poisson, by_time.var_poisson, rtol=1e-5)


PAIRS = [
    pytest.param(Mode.CDS, 0.0, Weighting.LEAST_SQUARES, Estimator.CDS, id="CDS"),
    pytest.param(Mode.MCDS, 0.0, Weighting.LEAST_SQUARES, Estimator.FOWLER, id="MCDS"),
    pytest.param(Mode.UTR, 0.0, Weighting.LEAST_SQUARES, Estimator.LEAST_SQUARES, id="UTR"),
    pytest.param(Mode.UTR, 1e6, Weighting.LEAST_SQUARES, Estimator.LEAST_SQUARES, id="segments"),
    pytest.param(Mode.UTR, 0.0, Weighting.FIXSEN, Estimator.FIXSEN, id="fixsen"),
]


@pytest.mark.parametrize(("mode", "sigma", "weighting", "estimator"), PAIRS)
@pytest.mark.parametrize("times", [cadence(24), UNEVEN], ids=["even", "uneven"])
@pytest.mark.parametrize("kept", [range(24), (0, 1, 2, 3, 4, 7, 9, 10, 15, 16, 19, 20, 21, 22, 23)])
def test_the_stream_and_the_fit_of_all_reads_agree(
    processor: Processor,
    mode: Mode,
    sigma: float,
    weighting: Weighting,
    estimator: Estimator,
    times: NDArray[np.float64],
    kept: tuple[int, ...],
) -> None:
    shape, rng = (23, 67), np.random.default_rng(4)
    used = np.array(list(kept))
    # so bright that every pixel takes Fixsen's highest power
    ramp = noisy_ramp(rng, times, shape, 700.0)
    ramp[rng.integers(3, 24, shape) < np.arange(24)[:, None, None]] = 65535
    ramp[:, ::2] = noisy_ramp(rng, times, (12, 67), 700.0)
    options = FoldOptions(weighting, tuple(times[used]), 5, sigma)
    frame = fold(processor, detector(shape), mode, options, (times[used], ramp[used]))
    settings = FitSettings(estimator, fowler_reads=5, jump_test=JumpTest.NONE)
    fit = processor.fit(ramp, detector(shape), times, settings, use_read=np.isin(np.arange(24), used))
    np.testing.assert_array_equal(frame.dq & Quality.SATURATED, fit.dq & Quality.SATURATED)
    # Saturated ramps have other Fowler groups in the two, and least squares instead of Fixsen's weights in a stream.
    alike = np.ones(shape, np.bool_) if estimator in {Estimator.CDS, Estimator.LEAST_SQUARES} else frame.dq == 0
    assert alike.sum() >= 12 * 67
    np.testing.assert_array_equal(frame.dq[alike], fit.dq[alike])
    sigma_of = np.sqrt(fit.var_rnoise + fit.var_poisson)[alike]
    np.testing.assert_allclose((frame.data - fit.rate)[alike], 0, atol=1e-3 * float(sigma_of.max()))
    np.testing.assert_allclose(frame.var_rnoise[alike], fit.var_rnoise[alike], rtol=1e-4)
    np.testing.assert_allclose(frame.var_poisson[alike], fit.var_poisson[alike], rtol=1e-4)


def test_the_optimum_in_a_stream_has_the_variance_of_the_likelihood(processor: Processor) -> None:
    times, shape = cadence(30), (20, 50)
    for rate in (0.3, 20.0, 800.0):
        ramp = noisy_ramp(np.random.default_rng(6), times, shape, rate)
        frame = fold(processor, detector(shape), Mode.UTR, FoldOptions(Weighting.OPTIMAL, tuple(times)), (times, ramp))
        fit = processor.fit(ramp, detector(shape), times, FitSettings(jump_test=JumpTest.NONE))
        stated, least = (np.mean(one.var_rnoise + one.var_poisson, dtype=np.float64) for one in (frame, fit))
        assert stated == pytest.approx(least, rel=0.01)
        apart = (frame.data - fit.rate).astype(np.float64) / frame.err
        assert np.abs(apart).mean() < 0.1  # of what is independent in them: one per cent of the variance


@pytest.mark.parametrize("electrons_s", [0.02, 0.5])
def test_the_folds_of_faint_ramps_are_those_of_stcal(processor: Processor, electrons_s: float) -> None:
    # Where read noise is all there is, stcal's optimal weights are those of least squares, and so is its variance.
    reads, pixels, noise = 12, 200, 30.0
    times = cadence(reads)
    ramp = noisy_ramp(np.random.default_rng(9), times, (1, pixels), electrons_s, gain=1.0, noise=noise)
    data = RampData()
    data.set_arrays(
        ramp[None].astype(np.float32),
        np.zeros((1, reads, 1, pixels), np.uint8),
        np.zeros((1, pixels), np.uint32),
        np.zeros((1, pixels), np.float32),
    )
    data.set_meta("IRIS", DT, DT, 0, 1, 0)
    data.set_dqflags({flag.name: int(flag) for flag in Quality} | {"CHARGELOSS": 128})
    readnoise, gain = (np.full((1, pixels), value, np.float32) for value in (np.sqrt(2) * noise, 1.0))
    peer = ramp_fit_data(data, False, readnoise, gain, "OLS_C", "optimal", "none")[0]
    calibration = detector((1, pixels), gain=1.0, noise=noise)
    for mode, options in folds(times, 4)[2:5]:
        frame = fold(processor, calibration, mode, options, (times, ramp))
        np.testing.assert_allclose(frame.data, peer["slope"], atol=1e-4 * noise)
        np.testing.assert_allclose(frame.var_rnoise, peer["var_rnoise"], rtol=1e-5)
