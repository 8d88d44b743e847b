"""No pixel is taken for another: frames that are not square, 64 channels, strides, and more elements than 2^31."""

import mmap
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.ramps import ROUNDING, cadence, dense_likelihood, detector, first_guess, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.readout.sampling.differences import Detector, Ramp
from irisdrs.readout.sampling.intervals import intervals_of
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.ramp_fit import Planes, fit_rows
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.instrument import CHANNEL_COLUMNS, CHANNELS, DETECTOR_SIZE
from irisdrs.shared.quality import Quality

#: A few rows of all 64 channels.
SHAPE = (7, DETECTOR_SIZE)
#: Of every pixel, from 1.
NUMBER = np.arange(1, SHAPE[0] * SHAPE[1] + 1).reshape(SHAPE)
#: Times of three reads: by symmetry, every estimate is half the last read less half the first.
TIMES = np.array([1.0, 2.0, 3.0])

FOLDS = [
    (Mode.CDS, FoldOptions()),
    (Mode.MCDS, FoldOptions(planned_times_s=tuple(TIMES))),
    (Mode.UTR, FoldOptions()),
    (Mode.UTR, FoldOptions(jump_sigma=1e6)),
    (Mode.UTR, FoldOptions(Weighting.FIXSEN, tuple(TIMES))),
    (Mode.UTR, FoldOptions(Weighting.OPTIMAL, tuple(TIMES))),
]


def unique() -> tuple[Calibration, NDArray[np.uint16]]:
    """A detector of which no two pixels have the same gain, noise or linearity, and a ramp of which none has the same
    slope: its number of DN for each read."""
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1] = 1 + NUMBER * 2.0**-16
    threshold = np.full(SHAPE, 65000, np.float32)
    threshold[4, 1234] = 1000 + 2 * NUMBER[4, 1234]  # the count of its last read
    mask = np.zeros(SHAPE, np.uint32)
    mask[2, 3000] = Quality.HOT
    calibration = detector(
        SHAPE,
        coefficients=coefficients,
        gain=1 + NUMBER[::-1] * 2.0**-14,
        noise=5 + NUMBER[:, ::-1] * 2.0**-13,
        saturation=threshold,
        mask=mask,
    )
    return calibration, (1000 + NUMBER * np.arange(3)[:, None, None]).astype(np.uint16)


def check(
    calibration: Calibration,
    rate: NDArray[np.float32],
    rnoise: NDArray[np.float32],
    poisson: NDArray[np.float32],
    dq: NDArray[np.uint32],
    slope: NDArray[np.float64],
) -> None:
    """Compare a frame with what each pixel must have; `slope` is by how much read noise grows."""
    linear = NUMBER * (1 + NUMBER * 2.0**-16)
    saturated = (dq & Quality.SATURATED) != 0
    assert np.argwhere(saturated).tolist() == [[4, 1234]]
    assert np.argwhere(dq & Quality.HOT).tolist() == [[2, 3000]]
    # of two reads, and of three: one over the time between first and last
    time = np.where(saturated, 1.0, 2.0)
    usable = (dq & Quality.DO_NOT_USE) == 0
    assert usable[~saturated].all()
    # neighbours differ by at least one DN; a linearised count of 60 000 is rounded to 0.004
    np.testing.assert_allclose(rate, np.where(usable, linear, 0), rtol=1e-6, atol=0.02)
    expected = np.where(usable, 2 * (calibration.read_noise * slope) ** 2 / time**2, 0)
    np.testing.assert_allclose(rnoise, expected, rtol=1e-5)
    np.testing.assert_allclose(poisson, rate / calibration.gain / time, rtol=1e-5)


@pytest.mark.parametrize(("mode", "options"), FOLDS)
def test_every_pixel_is_folded_with_its_own_reads_and_references(
    processor: Processor, mode: Mode, options: FoldOptions
) -> None:
    calibration, ramp = unique()
    state = processor.open(calibration, mode, 2.0, options)
    for time, read in zip(TIMES, ramp, strict=True):
        processor.fold(state, read, float(time))
    frame = processor.close(state)
    check(calibration, frame.data, frame.var_rnoise, frame.var_poisson, frame.dq, np.ones(SHAPE))
    # its last group is the last read
    assert (frame.dq[4, 1234] & Quality.DO_NOT_USE != 0) == (mode is Mode.MCDS)


@pytest.mark.parametrize("estimator", list(Estimator))
def test_every_pixel_is_fitted_with_its_own_reads_and_references(processor: Processor, estimator: Estimator) -> None:
    calibration, ramp = unique()
    fit = processor.fit(ramp, calibration, TIMES, FitSettings(estimator, fowler_reads=1))
    check(
        calibration,
        fit.rate,
        fit.var_rnoise,
        fit.var_poisson,
        fit.dq | calibration.dq,
        np.asarray(calibration.terms[0], np.float64),
    )


def test_each_of_64_channels_loses_its_own_offsets(processor: Processor) -> None:
    shape = (20, DETECTOR_SIZE)
    x = np.arange(DETECTOR_SIZE)
    output = (x // CHANNEL_COLUMNS) * 2 + x % 2
    rng = np.random.default_rng(3)
    offsets = rng.permuted(np.tile(np.arange(2 * CHANNELS) * 100, (4, 1)), axis=1)
    reads = np.full((4, *shape), 1000, np.uint16)
    reads[:, 4:-4, 4:-4] += (np.arange(4)[:, None, None] * (x[4:-4] % 50)).astype(np.uint16)
    reads += offsets[:, output][:, None].astype(np.uint16)
    calibration = detector(shape, border=4)
    state = processor.open(calibration, Mode.UTR, 3.0)
    for k, read in enumerate(reads):
        processor.fold(state, read, float(k))
    science = np.broadcast_to(x[4:-4] % 50, (12, DETECTOR_SIZE - 8))
    np.testing.assert_allclose(processor.close(state).data[4:-4, 4:-4], science, rtol=1e-6, atol=1e-5)
    fit = processor.fit(reads, calibration, np.arange(4.0))
    np.testing.assert_allclose(fit.rate[4:-4, 4:-4], science, rtol=1e-6, atol=1e-5)


def jumps_of(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    good: NDArray[np.bool_],
    gain: float,
) -> tuple[NDArray[np.bool_], bool]:
    """Differences that the likelihood leaves out, by the inverse of the whole covariance; and whether that is certain.

    It is not where a fall of chi^2 lies so close to the limit, or to another one, that float32 may see it otherwise.
    """
    limit, left, certain = 20.25, good.copy(), True
    step = np.diff(np.eye(len(values)), axis=0)
    while left.sum() >= (3 if left.sum() == good.sum() else 4):
        guess = first_guess(values, times, left)
        covariance = step @ np.diag(noise) @ step.T + np.diag(guess / gain * np.diff(times))
        inverse, lengths = np.linalg.inv(covariance[left][:, left]), np.diff(times)[left]
        weights = inverse @ lengths
        rest = np.diff(values)[left] - (weights @ np.diff(values)[left]) / (weights @ lengths) * lengths
        falls = (inverse @ rest) ** 2 / (np.diag(inverse) - weights**2 / (weights @ lengths))
        next_largest, largest = np.sort(falls)[-2:]
        certain &= abs(largest - limit) > 0.01 * limit and (largest < limit or next_largest < 0.99 * largest)
        if largest < limit:
            break
        left[np.flatnonzero(left)[falls.argmax()]] = False
    return good & ~left, bool(certain)


def broken_pixels(
    shape: tuple[int, int], times: NDArray[np.float64], seed: int
) -> tuple[Calibration, NDArray[np.uint16]]:
    """Pixels that differ in everything, with counts and thresholds that no pixel should have."""
    rng, third = np.random.default_rng(seed), (shape[0], shape[1] // 3)
    ramp = np.concatenate([noisy_ramp(rng, times, third, rate) for rate in (0.5, 60.0, 3000.0)], axis=2)
    broken = rng.random(ramp.shape) < 0.1
    ramp[broken] = rng.choice([0, 1, 30000, 59999, 60000, 65534, 65535], broken.sum())
    coefficients = np.zeros((6, *shape), np.float32)
    for i, (mean, spread) in enumerate([(1, 0.02), (0, 1e-7), (0, 1e-12)], start=1):
        coefficients[i] = rng.normal(mean, spread, shape)
    thresholds = rng.choice([0, 1, 2100, 60000, 65535], shape, p=[0.02, 0.02, 0.06, 0.6, 0.3])
    calibration = detector(
        shape,
        coefficients=coefficients,
        saturation=thresholds.astype(np.float32),
        gain=rng.uniform(0.5, 8, shape),
        noise=rng.choice([0, 3, 30], shape),
    )
    return calibration, ramp


@pytest.mark.parametrize(
    ("without", "rejected"), [([], []), ([0, 4], [5, 6]), ([0, 1, 2, 4, 5, 6, 8], []), ([], range(8))]
)
@pytest.mark.parametrize(("stripes", "test"), [(1, JumpTest.NONE), (6, JumpTest.NONE), (1, JumpTest.LIKELIHOOD)])
def test_every_pixel_is_fitted_as_if_it_were_alone_whatever_is_wrong_with_it(
    processor: Processor, without: list[int], rejected: list[int], stripes: int, test: JumpTest
) -> None:
    shape, times = (2, 600), np.array([0.3, 1.0, 1.1, 4.0, 4.5, 6.0, 9.0, 9.2, 11.0])
    calibration, ramp = broken_pixels(shape, times, stripes)
    rng = np.random.default_rng(stripes)
    columns = rng.normal(500, 20, (9, shape[1])).astype(np.float32)
    rows = rng.normal(0, 9, (9, shape[0], stripes)).astype(np.float32)
    use_read, use_difference = np.ones(9, np.bool_), np.ones(8, np.bool_)
    use_read[without], use_difference[rejected] = False, False
    fit = processor.fit(
        ramp,
        calibration,
        times,
        FitSettings(jump_test=test),
        use_read=use_read,
        use_difference=use_difference,
        column_offset=columns,
        row_offset=rows,
    )
    used = np.flatnonzero(use_read)
    usable = np.array([use_difference[start:stop].all() for start, stop in pairwise(used)])
    uncertain = 0
    for y, x in np.ndindex(shape):
        counts, gain = ramp[used, y, x], float(calibration.gain[y, x])
        saturated = np.logical_or.accumulate(counts >= calibration.threshold[y, x])
        live = ~saturated & (counts > 0)
        good = usable & live[1:] & live[:-1]
        level = counts - columns[used, x].astype(np.float64) - rows[used, y, x * stripes // shape[1]]
        curve = np.polynomial.Polynomial([0, *calibration.terms[:, y, x].astype(np.float64)])
        noise = np.maximum((float(calibration.read_noise[y, x]) * curve.deriv()(level)) ** 2, ROUNDING)
        values, jumps, certain = curve(level), np.zeros(len(good), np.bool_), True
        if test is JumpTest.LIKELIHOOD:
            jumps, certain = jumps_of(values, times[used], noise, good, gain)
        if not certain:
            uncertain += 1
            continue
        good &= ~jumps
        expected = Quality.SATURATED if saturated.any() else Quality.GOOD
        expected |= Quality.AD_FLOOR if (counts == 0).any() else Quality.GOOD
        expected |= Quality.JUMP_DET if jumps.any() else Quality.GOOD
        expected |= Quality.GOOD if good.any() else Quality.DO_NOT_USE
        assert fit.dq[y, x] & ~np.uint32(Quality.UNRELIABLE_SLOPE) == expected
        assert fit.differences[y, x] == good.sum()
        assert fit.time_s[y, x] == pytest.approx(np.diff(times[used])[good].sum(), rel=1e-6)
        if good.any():
            dense, guess = dense_likelihood(values, times[used], noise, good, gain)
            sigma = np.sqrt(dense.rnoise + dense.poisson * guess)
            # Counts that fall by thousands are far from the guess, which is not negative.
            highest = np.abs(np.diff(values)[good]).max()
            assert fit.rate[y, x] == pytest.approx(dense.rate, abs=1e-4 * sigma + 2e-7 * highest, rel=1e-6)
            assert fit.var_rnoise[y, x] == pytest.approx(dense.rnoise, rel=1e-4)
            assert fit.poisson[y, x] == pytest.approx(dense.poisson, rel=1e-4)
            assert fit.chi2[y, x] == pytest.approx(dense.chi2, rel=1e-3, abs=1e-3 + 1e-6 * (dense.rate / sigma) ** 2)
        else:
            assert fit.rate[y, x] == fit.poisson[y, x] == fit.var_rnoise[y, x] == fit.chi2[y, x] == 0
    assert uncertain < 60


@pytest.mark.parametrize("estimator", list(Estimator))
def test_offsets_that_are_no_numbers_cost_the_rates_of_their_pixels_alone(
    processor: Processor, estimator: Estimator
) -> None:
    ramp = noisy_ramp(np.random.default_rng(1), cadence(8), (2, 6), 40.0)
    columns, rows = np.zeros((8, 6), np.float32), np.zeros((8, 2, 3), np.float32)
    columns[3, 1], columns[5, 2], rows[7, 1, 2] = np.nan, np.inf, np.nan
    settings = FitSettings(estimator, fowler_reads=2)
    fit = processor.fit(ramp, detector((2, 6)), cadence(8), settings, column_offset=columns, row_offset=rows)
    sound = processor.fit(ramp, detector((2, 6)), cadence(8), settings)
    lost = np.array([[False, True, True, False, False, False], [False, True, True, False, True, True]])
    np.testing.assert_array_equal((fit.dq & Quality.DO_NOT_USE) != 0, lost)
    for plane, of_sound in ((fit.rate, sound.rate), (fit.var_rnoise, sound.var_rnoise), (fit.chi2, sound.chi2)):
        np.testing.assert_array_equal(plane, np.where(lost, 0, of_sound))


def sparse(shape: tuple[int, ...], kind: Any) -> NDArray[Any]:
    """Zeros that take memory only where they are written."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    memory = mmap.mmap(-1, size, flags=private)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    return np.frombuffer(memory, kind).reshape(shape)


@pytest.mark.parametrize("estimator", [Estimator.LIKELIHOOD, Estimator.FIXSEN])
def test_the_last_row_of_a_ramp_of_more_than_two_thousand_million_counts_is_its_own(
    processor: Processor, estimator: Estimator
) -> None:
    # The C library's indices are 32 bits: 128 reads of a whole detector are one element more.
    reads, size, row = 130, DETECTOR_SIZE, DETECTOR_SIZE - 1
    times, settings = cadence(reads), FitSettings(estimator)
    few = noisy_ramp(np.random.default_rng(1), times, (1, size), 40.0)
    small = processor.fit(few, detector((1, size)), times, settings)
    ramp = sparse((reads, size, size), np.uint16)
    assert ramp.size > 2**31
    ramp[:, row] = few[:, 0]
    threshold, flags = sparse((size, size), np.uint16), sparse((size, size), np.uint32)
    gain, noise, terms = (sparse(shape, np.float32) for shape in ((size, size), (size, size), (5, size, size)))
    one = detector((1, size))
    threshold[row], gain[row], noise[row], terms[:, row] = one.threshold, one.gain, one.read_noise, one.terms[:, 0]
    rate, poisson, rnoise, chi2, time = (sparse((size, size), np.float32) for _ in range(5))
    number, dq = sparse((size, size), np.uint16), sparse((size, size), np.uint32)
    intervals = intervals_of(times)
    offsets = np.zeros((reads, size), np.float32)
    fit_rows(
        Ramp(ramp, offsets, offsets, offsets[..., None], intervals.reads, intervals.length_s, intervals.usable),
        Detector(threshold, tuple(terms), gain, noise, flags),
        settings.method(reads),
        Planes(rate, poisson, rnoise, chi2, time, number, dq),
        row,
        size,
    )
    for plane, of_one in (
        (rate, small.rate),
        (poisson, small.poisson),
        (rnoise, small.var_rnoise),
        (chi2, small.chi2),
        (time, small.time_s),
        (number, small.differences),
        (dq, small.dq),
    ):
        np.testing.assert_array_equal(plane[row], of_one[0])
    assert rate[row].mean() == pytest.approx(40, rel=0.01)
