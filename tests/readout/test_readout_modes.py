"""Every sampling mode in a stream: exact on straight ramps; weights, found by impulses, that explain its errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling import cds, fixsen, optimal, utr
from irisdrs.readout.sampling.mcds import Fowler
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.variance import poisson_factor, read_noise_factor
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

GAIN, NOISE, DT = 2.0, 5.0, 0.72
SHAPE = (3, 5)
FOLDS = [
    (Mode.CDS, Weighting.LEAST_SQUARES, 0.0),
    (Mode.MCDS, Weighting.LEAST_SQUARES, 0.0),
    (Mode.UTR, Weighting.LEAST_SQUARES, 0.0),
    (Mode.UTR, Weighting.LEAST_SQUARES, 5.0),
    (Mode.UTR, Weighting.FIXSEN, 0.0),
    (Mode.UTR, Weighting.OPTIMAL, 0.0),
]


def clock(n: int, first: int = 1) -> NDArray[np.float64]:
    """Times of n reads, s."""
    return np.asarray(np.arange(first, first + n) * DT, np.float64)


def detector(gain: float = GAIN, noise: float = NOISE) -> Calibration:
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1] = 1
    flags = np.zeros(SHAPE, np.uint32)
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=np.full(SHAPE, 65000, np.float32),
        saturation_dq=flags,
        gain=np.full(SHAPE, gain, np.float32),
        read_noise=np.full(SHAPE, noise, np.float32),
        border=0,
    )


def fit(
    processor: Processor,
    times: NDArray[np.float64],
    values: NDArray[np.floating],
    mode: Mode,
    options: FoldOptions,
    calibration: Calibration | None = None,
) -> RateFrame:
    """Frame of one ramp, the same in all pixels."""
    state = processor.open(calibration or detector(), mode, float(np.ptp(times)) or 1.0, options)
    for time, value in zip(times, values, strict=True):
        processor.fold(state, np.full(SHAPE, value, np.uint16), float(time))
    return processor.close(state)


def options_of(planned: NDArray[np.float64], weighting: Weighting, jump_sigma: float, group: int = 1) -> FoldOptions:
    return FoldOptions(weighting, tuple(planned), group, jump_sigma)


@settings(max_examples=80, deadline=None)
@given(
    fold=st.sampled_from(FOLDS),
    pedestal=st.integers(1, 50000),
    step=st.integers(1, 600),
    dt=st.floats(0.01, 100.0),
    kept=st.sets(st.integers(1, 18)),
    group=st.integers(1, 10),
)
def test_a_straight_ramp_gives_its_slope_in_every_mode_with_any_reads_missing(
    processor: Processor,
    fold: tuple[Mode, Weighting, float],
    pedestal: int,
    step: int,
    dt: float,
    kept: set[int],
    group: int,
) -> None:
    mode, weighting, jump_sigma = fold
    planned = np.asarray(np.arange(1, 21) * dt, np.float64)
    used = np.array(sorted(kept | {0, 19}))
    options = options_of(planned, weighting, jump_sigma, group)
    frame = fit(processor, planned[used], pedestal + step * used.astype(np.float64), mode, options)
    np.testing.assert_allclose(frame.data, step / dt, rtol=2e-6)
    assert not frame.dq.any()


@pytest.mark.parametrize("group", [1, 3, 5])
@pytest.mark.parametrize("saturated_from", [6, 8, 10])
def test_mcds_keeps_what_came_of_the_last_group(processor: Processor, group: int, saturated_from: int) -> None:
    rng = np.random.default_rng(group)
    times, values = clock(10), np.round(1000 + rng.normal(0, 50, 10) + 40 * np.arange(10))
    values[saturated_from:] = 65535
    frame = fit(processor, times, values, Mode.MCDS, options_of(times, Weighting.LEAST_SQUARES, 0, group))
    last = np.arange(10 - group, saturated_from)
    if len(last) == 0:
        assert (frame.dq == Quality.SATURATED | Quality.DO_NOT_USE).all()
        return
    expected = (values[last].mean() - values[:group].mean()) / (times[last].mean() - times[:group].mean())
    np.testing.assert_allclose(frame.data, expected, rtol=1e-5)
    interval = times[last].mean() - times[:group].mean()
    np.testing.assert_allclose(frame.var_rnoise, NOISE**2 * (1 / len(last) + 1 / group) / interval**2, rtol=1e-5)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_mcds_has_the_variance_of_the_literature(processor: Processor, m: int) -> None:
    # Uniform cadence: 2 sr^2 / m + (f dt / g) (n - m - (m^2 - 1) / 3 m), by the square of the time between the groups
    n, step = 9, 70
    times = clock(n)
    frame = fit(processor, times, 1000.0 + step * np.arange(n), Mode.MCDS, options_of(times, Weighting.FIXSEN, 0, m))
    time = (n - m) * DT
    np.testing.assert_allclose(frame.var_rnoise, 2 * NOISE**2 / m / time**2, rtol=1e-5)
    np.testing.assert_allclose(frame.var_poisson, step / GAIN * (n - m - (m**2 - 1) / (3 * m)) / time**2, rtol=1e-5)


@pytest.mark.parametrize("m", [0, 5, 9])
def test_groups_that_do_not_fit_are_refused(processor: Processor, m: int) -> None:
    times = clock(9)
    with pytest.raises(Fatal, match=f"Two groups of {m} reads do not fit into a ramp of 9"):
        fit(processor, times, 1000 + times, Mode.MCDS, options_of(times, Weighting.LEAST_SQUARES, 0, m))


@pytest.mark.parametrize(
    ("mode", "options", "match"),
    [
        (Mode.MCDS, FoldOptions(), "MCDS needs the planned times"),
        (Mode.UTR, FoldOptions(Weighting.OPTIMAL), "optimal needs the planned times"),
        (Mode.UTR, FoldOptions(Weighting.FIXSEN, (1.0, 1.0)), "do not increase"),
        (Mode.CDS, FoldOptions(jump_sigma=5), "no jump test"),
        (Mode.UTR, FoldOptions(Weighting.OPTIMAL, (1.0, 2.0), jump_sigma=5), "no jump test"),
        (Mode.UTR, FoldOptions(jump_sigma=-1), "no jump test at -1 sigma"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    processor: Processor, mode: Mode, options: FoldOptions, match: str
) -> None:
    with pytest.raises(Fatal, match=match):
        processor.open(detector(), mode, 1.0, options)


def test_a_single_read_is_its_signal_by_its_time_and_says_so(processor: Processor) -> None:
    frame = fit(processor, np.array([4.0]), np.array([1000.0]), Mode.SINGLE, FoldOptions())
    np.testing.assert_allclose(frame.data, 250)
    np.testing.assert_allclose(frame.var_rnoise, NOISE**2 / 16)
    np.testing.assert_allclose(frame.var_poisson, 250 / GAIN / 4)
    assert (frame.dq == Quality.UNRELIABLE_SLOPE).all()
    saturated = fit(processor, np.array([4.0]), np.array([65535.0]), Mode.SINGLE, FoldOptions())
    assert (saturated.dq == Quality.UNRELIABLE_SLOPE | Quality.SATURATED | Quality.DO_NOT_USE).all()
    with pytest.raises(ValueError, match="SINGLE"):
        fit(processor, np.array([4.0, 5.0]), np.array([1000.0, 1100.0]), Mode.SINGLE, FoldOptions())


@pytest.mark.parametrize(("mode", "weighting", "jump_sigma"), FOLDS)
@pytest.mark.parametrize("ratio", [1e-6, 0.2, 3.0])
def test_impulses_recover_weights_that_carry_the_stated_variances(
    processor: Processor, mode: Mode, weighting: Weighting, jump_sigma: float, ratio: float
) -> None:
    # The impulse is small against the ramp, and r lies in the middle of its entry: all reads see the same weights.
    n, step, height = 12, 1500, 60.0
    times = clock(n)
    entries = optimal.entries()[1:]
    r = entries[np.abs(np.log(entries / ratio)).argmin()]
    calibration = detector(GAIN, float(np.sqrt(step / GAIN / r)))
    options = options_of(times, weighting, jump_sigma * 1e3, 3)
    base = 2000.0 + step * np.arange(n)
    straight = fit(processor, times, base, mode, options, calibration)
    weights = np.zeros(n)
    for k in range(n):
        bent = fit(processor, times, base + height * (np.arange(n) == k), mode, options, calibration)
        weights[k] = (float(bent.data[1, 2]) - float(straight.data[1, 2])) / height
    # The rate of 2000 DN/s is rounded to 1e-4 DN/s, and sums as much again; the straight ramp's is in all weights.
    assert np.sum(weights) == pytest.approx(0, abs=6e-5)
    assert np.sum(weights * times) == pytest.approx(1, rel=6e-5 * times.mean())
    noise = float(calibration.read_noise[0, 0])
    assert straight.var_rnoise[0, 0] == pytest.approx(noise**2 * read_noise_factor(weights), rel=1e-3)
    photons = step / DT / GAIN * poisson_factor(weights, times)
    assert straight.var_poisson[0, 0] == pytest.approx(photons, rel=1e-3)
    if weighting is Weighting.OPTIMAL:
        bound = optimal.weights(times, r)
        total = float(straight.var_rnoise[0, 0] + straight.var_poisson[0, 0])
        least = noise**2 * read_noise_factor(bound) + step / DT / GAIN * poisson_factor(bound, times)
        assert least * (1 - 1e-3) < total < 1.01 * least
    if weighting is Weighting.FIXSEN:
        signal = step * (n - 1) * GAIN
        power = fixsen.POWERS[np.searchsorted(fixsen.RATIOS, signal / np.sqrt((noise * GAIN) ** 2 + signal), "right")]
        np.testing.assert_allclose(weights, fixsen.weights(times, power), atol=3e-5)


@pytest.mark.parametrize("n", [4, 10, 30, 100])
def test_ratios_of_the_variances_of_the_modes(n: int) -> None:
    times = clock(n, 0)
    least_squares = utr.weights(times)
    ratio = read_noise_factor(cds.weights(times)) / read_noise_factor(least_squares)
    assert np.sqrt(ratio) == pytest.approx(np.sqrt(n * (n + 1) / (6 * (n - 1))))
    # With photon noise alone the last read minus the first is best; least squares tends to 6/5 of it (variance)
    photons = poisson_factor(least_squares, times) / poisson_factor(cds.weights(times), times)
    assert photons == pytest.approx(6 * (n**2 + 1) / (5 * n * (n + 1)))
    if n >= 30:
        fowler = read_noise_factor(Fowler.planned(times, n // 3).weights(times)) / read_noise_factor(least_squares)
        assert fowler == pytest.approx(9 / 8, rel=3 / n)
