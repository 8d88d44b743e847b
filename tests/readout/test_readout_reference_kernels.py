"""Kernels of the reference pixels: what they take off, what they are trained to, and what they leave alone."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.conftest import OTHER_LIBRARIES, on_host
from tests.readout.ramps import detector

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.estimation import estimation_of
from irisdrs.readout.fitting import FitSettings, JumpTest
from irisdrs.readout.ramp_reference import RampReference
from irisdrs.readout.ring import Room
from irisdrs.readout.sampling.kernel_training import CrossSpectra, stripe_signals
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.readout.sampling.reference_kernels import ReferenceKernels, side_signals
from irisdrs.readout.sampling.side_columns import side_counts
from irisdrs.shared.errors import WrongShape
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

#: Two channels of 64 columns.
SHAPE, WIDTH, BORDER = (48, 128), 64, 4


def kernels(*sides: float, samples: int = 1, columns: int = SHAPE[1], half_width: int = 5) -> ReferenceKernels:
    """The same for all stripes: what is given of the left and the right signal of the own row."""
    stripes = columns * samples // WIDTH
    taps = np.zeros((2, stripes, 2 * half_width + 1), np.float32)
    taps[:, :, half_width] = np.array(sides)[:, None]
    return ReferenceKernels(taps, WIDTH // samples)


def scene(seed: int) -> NDArray[np.uint16]:
    """Counts that no clipping touches: they spread less than two standard deviations."""
    return np.random.default_rng(seed).integers(2000, 2016, SHAPE).astype(np.uint16)


def frame(processor: Processor, reads: list[NDArray[np.uint16]], calibration: Calibration) -> RateFrame:
    state = processor.open(calibration, SamplingMode.UTR, 3.0, FoldOptions())
    for k, read in enumerate(reads):
        processor.fold(state, read, float(k + 1))
    return processor.close(state)


def fitted(processor: Processor, reads: list[NDArray[np.uint16]], calibration: Calibration) -> NDArray[np.float32]:
    settings = FitSettings(jump_test=JumpTest.NONE)
    return processor.fit(np.stack(reads), calibration, np.arange(1.0, len(reads) + 1), settings).rate


# What a correction is.


def test_a_filter_over_all_ticks_is_one_over_rows_for_every_tick(xp: ModuleType) -> None:
    """IRRC by its definition: series in time with overheads, side columns zero-filled in between."""
    rng = np.random.default_rng(1)
    rows, width, overhead, channels, reach = 40, 8, 3, 3, 2
    period = width + overhead
    mirrored = [False, True, True]  # so that both side columns are read first in their rows
    left, right = rng.normal(0, 5, (2, rows))
    lags = np.arange(-reach * period - width, reach * period + width + 1)
    responses = rng.normal(0, 1, (channels, 2, len(lags))) * (np.abs(lags) <= reach * period - width)

    expected = np.zeros((rows, channels * width))
    series = np.zeros((2, (rows + 4 * reach) * period))  # continued at both ends as they end
    for s, signal in enumerate((left, right)):
        longer = np.pad(signal, 2 * reach, mode="edge").reshape(-1, 1)
        series[s].reshape(-1, period)[:, :BORDER] = longer * period / BORDER
    for c in range(channels):
        total = sum(np.convolve(series[s], responses[c, s], mode="same") for s in (0, 1))
        in_time = np.asarray(total).reshape(-1, period)[2 * reach : -2 * reach, :width]
        expected[:, c * width : (c + 1) * width] = in_time[:, ::-1] if mirrored[c] else in_time

    taps = np.zeros((2, channels * width, 2 * reach + 1), np.float32)
    for column in range(channels * width):
        c, place = divmod(column, width)
        tick = width - 1 - place if mirrored[c] else place
        for d in range(-reach, reach + 1):
            ticks = d * period + tick - np.arange(BORDER)
            known = responses[c][:, np.searchsorted(lags, np.clip(ticks, lags[0], lags[-1]))]
            taps[:, column, d + reach] = known.sum(axis=1) * period / BORDER
    found = ReferenceKernels(taps, 1).filter_for(rows, xp=xp).correction(xp.asarray([left, right]), xp=xp)
    assert found.shape == (rows, channels * width)
    np.testing.assert_allclose(on_host(found), expected, atol=1e-4 * np.abs(expected).max())


def test_taps_are_those_of_a_convolution(xp: ModuleType) -> None:
    taps = np.zeros((2, 1, 7), np.float32)
    taps[0, 0, 3 + 2] = 1  # two rows later it is felt
    taps[1, 0, 3 - 1] = 10  # one row before
    signals = np.zeros((2, 20))
    signals[:, 8] = 1
    found = ReferenceKernels(taps, 64).filter_for(20, xp=xp).correction(xp.asarray(signals), xp=xp)
    expected = np.zeros(20)
    expected[10], expected[7] = 1, 10
    np.testing.assert_allclose(on_host(found)[:, 0], expected, atol=1e-6)


def test_bad_reference_pixels_are_bridged_and_one_side_stands_for_both(xp: ModuleType) -> None:
    sides = np.full((2, 12, BORDER), np.nan, np.float32)
    sides[0] = np.arange(12)[:, None]
    sides[1] = 100
    sides[0, 3, :2] = np.nan  # half a row
    sides[0, 5:8] = np.nan  # rows
    sides[0, 11] = np.nan  # the end
    found = on_host(side_signals(xp.asarray(sides), xp=xp))
    np.testing.assert_allclose(found[0], [*range(11), 10])
    np.testing.assert_allclose(found[1], 100)
    sides[1] = np.nan
    np.testing.assert_allclose(on_host(side_signals(xp.asarray(sides), xp=xp))[1], found[0])
    sides[0] = np.nan
    np.testing.assert_array_equal(on_host(side_signals(xp.asarray(sides), xp=xp)), np.zeros((2, 12)))


def test_a_pixel_that_departs_from_its_row_is_left_out_and_a_burst_of_all_stays(xp: ModuleType) -> None:
    rng = np.random.default_rng(18)
    sides = rng.normal(0, 10, (2, 48, BORDER)).astype(np.float32)
    sides[0, 9:11] += 900  # all columns of a side: the electronics
    sides[1, 5, 0] = np.nan
    clean = on_host(side_signals(xp.asarray(sides), xp=xp))
    np.testing.assert_allclose(clean[0], sides[0].mean(axis=1), atol=1e-4)
    np.testing.assert_allclose(clean[1], np.nanmean(sides[1], axis=1), atol=1e-4)
    struck = sides.copy()
    struck[0, 20, 1] += 2000  # a ray
    struck[1, 30, 0], struck[1, 30, 3] = 500, -500  # two pixels of a row
    struck[1, 5, 3] = 4000
    found = on_host(side_signals(xp.asarray(struck), xp=xp))
    expected = clean.copy()
    expected[0, 20] = sides[0, 20, [0, 2, 3]].mean()
    expected[1, 30], expected[1, 5] = sides[1, 30, 1:3].mean(), sides[1, 5, 1:3].mean()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    two = np.zeros((2, 12, 2), np.float32)
    two[0, 4, 1] = 800  # of two nobody knows which is right
    np.testing.assert_array_equal(on_host(side_signals(xp.asarray(two), xp=xp))[0, 3:6], [0, 400, 0])


def test_a_ray_in_the_side_columns_changes_no_correction() -> None:
    plain = scene(8)
    rows = np.arange(SHAPE[0], dtype=np.uint16) % 3
    reads = [plain, plain + rows[:, None], plain + 2 * rows[:, None]]
    reads[0][:, :BORDER] += np.arange(BORDER, dtype=np.uint16) * 30  # a pattern, which must stay out
    for read in reads[1:]:
        read[:, :BORDER] += np.arange(BORDER, dtype=np.uint16) * 30
    struck = [read.copy() for read in reads]
    for read in struck[1:]:
        read[20, 1] += 3000  # it stays until the reset
    calibration = detector(SHAPE, border=BORDER).with_kernels(kernels(0.5, 0.5))
    one, other = RampReference(calibration), RampReference(calibration)
    for read, hit in zip(reads, struck, strict=True):
        np.testing.assert_allclose(other.vectors(hit).row_offset, one.vectors(read).row_offset, atol=2**-9)


def test_the_first_read_of_a_ramp_is_what_others_are_compared_with() -> None:
    plain, pattern = scene(2), np.zeros(SHAPE, np.uint16)
    pattern[:, :BORDER] = np.random.default_rng(3).integers(0, 2, (SHAPE[0], BORDER))
    rows = np.arange(SHAPE[0], dtype=np.uint16) % 3
    reads = [plain + pattern, plain + pattern + rows[:, None]]
    reference = RampReference(detector(SHAPE, border=BORDER).with_kernels(kernels(0.25, 0.5)))
    first, second = (reference.vectors(read) for read in reads)
    assert first.row_offset.shape == (SHAPE[0], 2)
    np.testing.assert_array_equal(first.row_offset, 0)
    # What the columns have lost is that of the edges, whose rows have the values 0, 1, 2, 0 and 2, 0, 1, 2: 1 DN.
    np.testing.assert_allclose(second.column_offset - first.column_offset, 1, atol=2**-9)
    np.testing.assert_allclose(second.row_offset[:, 0], 0.75 * (rows.astype(float) - 1), atol=2**-9)


# What it does to a frame.


def test_what_the_reference_pixels_see_leaves_the_science_unchanged(processor: Processor) -> None:
    rng = np.random.default_rng(4)
    calibration = detector(SHAPE, border=BORDER).with_kernels(kernels(0.5, 0.5))
    plain = [scene(20 + k) + np.uint16(30 * k) for k in range(4)]
    moved = []
    for read in plain:
        outputs = rng.integers(0, 3000, (2, 2)).repeat(32, axis=0).reshape(SHAPE[1])
        moved.append(read + (outputs + rng.integers(0, 4, SHAPE[0])[:, None]).astype(np.uint16))
    # float32 holds counts of 8000 DN to 2**-11 DN, and weights of the reads add up to less than 1 per second
    np.testing.assert_allclose(
        frame(processor, moved, calibration).data, frame(processor, plain, calibration).data, atol=2**-9
    )
    np.testing.assert_allclose(fitted(processor, moved, calibration), fitted(processor, plain, calibration), atol=2**-9)


@pytest.mark.parametrize("samples", [1, 4, 64])
def test_kernels_of_nothing_leave_every_bit(processor: Processor, samples: int) -> None:
    calibration = detector(SHAPE, border=BORDER)
    reads = [scene(30 + k) + np.uint16(50 * k) for k in range(4)]
    nothing = calibration.with_kernels(kernels(0, 0, samples=samples))
    assert (calibration.stripes, nothing.stripes) == (1, 2 * samples)
    before, after = frame(processor, reads, calibration), frame(processor, reads, nothing)
    for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    np.testing.assert_array_equal(fitted(processor, reads, nothing), fitted(processor, reads, calibration))


@pytest.mark.parametrize(
    "options",
    [
        FoldOptions(),
        FoldOptions(jump_sigma=5.0),
        FoldOptions(weighting=Weighting.OPTIMAL, planned_times_s=(1.0, 2.0, 3.0, 4.0)),
    ],
    ids=["mean", "segments", "sums"],
)
@pytest.mark.parametrize("stripes", [1, 2, 8, 128])
def test_offsets_of_stripes_are_subtracted_from_their_pixels(
    processor: Processor, options: FoldOptions, stripes: int
) -> None:
    """Whole numbers: what is subtracted beforehand gives the same bits."""
    rng, calibration = np.random.default_rng(5), detector(SHAPE)
    columns = np.zeros(SHAPE[1], np.float32)
    offsets = rng.integers(0, 100, (4, SHAPE[0], stripes))
    true = [scene(40 + k) + np.uint16(60 * k) for k in range(4)]
    reads = [
        (read + offset.repeat(SHAPE[1] // stripes, axis=1)).astype(np.uint16)
        for read, offset in zip(true, offsets, strict=True)
    ]
    frames, fits = [], []
    for taken, rows in ((true, np.zeros((4, SHAPE[0], 1))), (reads, offsets)):
        state = processor.open(calibration, SamplingMode.UTR, 3.0, options)
        for k, read in enumerate(taken):
            processor.fold(state, read, float(k + 1), (columns, rows[k].astype(np.float32)))
        frames.append(processor.close(state))
        by_read = np.zeros((4, SHAPE[1]), np.float32)
        fit = processor.fit(
            np.stack(taken), calibration, np.arange(1.0, 5.0), column_offset=by_read, row_offset=rows.astype(np.float32)
        )
        fits.append(fit.rate)
    np.testing.assert_array_equal(frames[1].data, frames[0].data)
    np.testing.assert_array_equal(fits[1], fits[0])
    assert np.abs(frames[0].data - 60).max() < 20, "60 DN in a second, noise of 16 DN"


@pytest.mark.parametrize(
    ("mode", "group_reads", "exact_reads"),
    [(SamplingMode.UTR, 1, 0), (SamplingMode.UTR, 1, 10), (SamplingMode.MCDS, 2, 10)],
    ids=["stream", "fit", "groups"],
)
def test_all_ways_to_a_frame_and_the_picture_of_it_are_corrected(
    processor: Processor, tmp_path: Any, mode: SamplingMode, group_reads: int, exact_reads: int
) -> None:
    rng = np.random.default_rng(6)
    flat = [np.full(SHAPE, 2000 + 50 * k, np.uint16) for k in range(4)]
    noisy = [read + rng.integers(0, 40, SHAPE[0]).astype(np.uint16)[:, None] for read in flat]
    sampling = Sampling(mode=mode, reads=4, ramps=2, read_time_s=1.0, shape=SHAPE, group_reads=group_reads)
    calibration = detector(SHAPE, border=BORDER)
    spread = {}
    for name, one in (("plain", calibration), ("kernels", calibration.with_kernels(kernels(0.5, 0.5, samples=4)))):
        room = Room(10**8, tmp_path)
        builder = begin_frame(processor, room, one, sampling, estimation_of(sampling, exact_reads), live_step=2)
        for ramp in (1, 2):
            for k, read in enumerate(noisy):
                builder.fold(ramp, read, float(k + 1))
        live = builder.live()
        spread[name] = float(np.ptp(live.data[2:-2, 2:-2])), float(np.ptp(builder.close().data[4:-4, 4:-4]))
    assert min(spread["plain"]) > 5
    assert max(spread["kernels"]) < 0.01


def test_kernels_are_for_whole_frames_of_their_columns() -> None:
    calibration = detector(SHAPE, border=BORDER)
    with pytest.raises(WrongShape, match="for 64 columns"):
        calibration.with_kernels(kernels(1, 1, columns=64))
    with pytest.raises(WrongShape, match="of a detector of 48 x 128"):
        calibration.cut(Window(0, 20, 0, 128)).with_kernels(kernels(1, 1))
    whole = calibration.with_kernels(kernels(1, 1))
    assert whole.cut(Window(0, 20, 0, 128)).kernels is None
    assert not (whole.dq & Quality.UNRELIABLE_BIAS).any()
    mask = np.zeros(SHAPE, np.uint32)
    mask[:, :BORDER] = mask[:, -BORDER:] = Quality.BAD_REF_PIXEL
    blind = detector(SHAPE, border=BORDER, mask=mask).with_kernels(kernels(1, 1))
    assert (blind.dq & Quality.UNRELIABLE_BIAS).all()
    np.testing.assert_array_equal(RampReference(blind).vectors(scene(7)).row_offset, 0)
    with pytest.raises(ValueError, match="both correct"):
        RampReference(whole, ReferenceCorrection(side_columns=SideColumns.MEDIAN))


# What it is trained to.


def pink(rows: int, rms: float) -> NDArray[np.float64]:
    """Covariance of a 1/f signal of `rows` rows, cut from one 16 times as long."""
    power = np.zeros(8 * rows + 1)
    power[1:] = 1 / np.fft.rfftfreq(16 * rows)[1:]
    covariance = np.fft.irfft(power, 16 * rows)
    lag = np.abs(np.subtract.outer(np.arange(rows), np.arange(rows)))
    return np.asarray(covariance[lag] * rms**2 / covariance[0])


ROWS, NOISE_DN, SIGNAL_DN = 256, 10.0, 4.0
#: Of four stripes, how strongly they feel the common signal, and how much later (rows).
STRENGTH, DELAY = np.array([1.0, 0.5, 0.0, -1.0]), np.array([0, 0, 0, 3])


def series(rng: np.random.Generator, root: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Side signals, noisy stripes and what is true in them, of one read."""
    longer = root @ rng.normal(size=len(root))
    common = longer[3:]
    sides = common + rng.normal(0, NOISE_DN / 2, (2, ROWS))  # means of four pixels
    true = np.stack([a * longer[3 - d : 3 - d + ROWS] for a, d in zip(STRENGTH, DELAY, strict=True)])
    return sides, true + rng.normal(0, NOISE_DN / 8, true.shape), true  # means of 64


def trained(rng: np.random.Generator, root: NDArray[np.float64], ramps: int, reads: int) -> ReferenceKernels:
    spectra = CrossSpectra.of_nothing(ROWS, len(STRENGTH))
    for _ in range(ramps):
        taken = [series(rng, root) for _ in range(reads)]
        for sides, stripes, _ in taken[1:]:
            spectra.add(sides - taken[0][0], stripes - taken[0][1])
        spectra.end_ramp()
    assert spectra.reads == ramps * (reads - 1)
    return spectra.kernels(64, 48)


def best(covariance: NDArray[np.float64], own: NDArray[np.float64], cross: NDArray[np.float64]) -> float:
    """Residual variance of the best linear estimate of a signal from another one with noise, by dense algebra."""
    left = own - cross @ np.linalg.solve(covariance, cross.T)
    return float(np.trace(left) / len(left))


def test_trained_kernels_leave_what_any_linear_estimate_must_leave() -> None:
    covariance = pink(ROWS + 3, SIGNAL_DN)
    root = np.asarray(np.linalg.cholesky(covariance), np.float64)
    own, late = covariance[3:, 3:], covariance[:-3, 3:]
    observed = own + NOISE_DN**2 / 8 * np.eye(ROWS)  # the mean of both sides says all
    bounds = [best(observed, a**2 * own, a * (late if d else own)) for a, d in zip(STRENGTH, DELAY, strict=True)]
    found = trained(np.random.default_rng(11), root, ramps=8, reads=10).filter_for(ROWS)
    rng, left = np.random.default_rng(12), []
    for _ in range(200):
        sides, _, true = series(rng, root)
        left.append(np.mean((true - found.correction(sides).T) ** 2, axis=1))
    rms, bound = np.sqrt(np.mean(left, axis=0)), np.sqrt(bounds)
    assert (bound[[0, 1, 3]] <= rms[[0, 1, 3]]).all()
    assert (rms[[0, 1, 3]] <= 1.1 * bound[[0, 1, 3]]).all()
    assert rms[2] < 0.15, "where there is no signal the kernels' own noise, DN"


def test_sides_that_see_the_same_have_the_same_kernels() -> None:
    covariance = pink(ROWS + 3, SIGNAL_DN)
    taps = trained(
        np.random.default_rng(13), np.asarray(np.linalg.cholesky(covariance), np.float64), ramps=20, reads=20
    ).taps
    left, right = taps[0, 0], taps[1, 0]
    scale = float(np.abs(taps).max())
    np.testing.assert_allclose(left, right, atol=0.1 * scale)
    np.testing.assert_allclose(taps[:, 1], 0.5 * taps[:, 0], atol=0.05 * scale)
    np.testing.assert_allclose(taps[:, 2], 0, atol=0.05 * scale)
    assert int(taps[0, 3].argmin()) - 48 == 3, "three rows later"


def test_signals_without_power_have_no_kernels_and_identical_ones_share() -> None:
    rng = np.random.default_rng(14)
    nothing = CrossSpectra.of_nothing(64, 1)
    nothing.add(np.zeros((2, 64)), rng.normal(size=(1, 64)))
    nothing.end_ramp()
    np.testing.assert_array_equal(nothing.kernels(64, 8).taps, 0)
    same = CrossSpectra.of_nothing(64, 1)
    for _ in range(5):
        signal = rng.normal(size=64)
        same.add(np.stack([signal, signal]), signal[None])
    same.end_ramp()
    taps = same.kernels(64, 8).taps
    np.testing.assert_allclose(taps[0], taps[1], atol=1e-5)
    np.testing.assert_allclose(taps.sum(axis=0)[0, 8], 1, atol=1e-5)
    with pytest.raises(ValueError, match="in 64 rows"):
        same.kernels(64, 32)


@pytest.mark.parametrize("level", [0.1, 1234.5, 65535.0])
def test_side_columns_that_are_stuck_teach_no_kernels(level: float) -> None:
    """Constant signals less their mean are rounding errors, and no power to divide by."""
    rng, stuck = np.random.default_rng(19), CrossSpectra.of_nothing(250, 1)
    for k in range(12):
        stuck.add(np.full((2, 250), level * (k + 1)), rng.normal(0, 5, size=(1, 250)))
    stuck.end_ramp()
    np.testing.assert_allclose(stuck.kernels(64, 40).taps, 0, atol=1e-4)


def test_what_all_reads_of_a_ramp_share_is_no_noise() -> None:
    """Differences from the first read, as they come in a stream, give the sums of the reads less their means."""
    rng, one, other = np.random.default_rng(15), CrossSpectra.of_nothing(64, 1), CrossSpectra.of_nothing(64, 1)
    pattern = rng.normal(0, 100, (2, 64))
    reads = [(pattern + rng.normal(size=(2, 64)), rng.normal(size=(1, 64))) for _ in range(6)]
    for sides, stripes in reads[1:]:
        one.add(sides - reads[0][0], stripes - reads[0][1])
    one.end_ramp()
    # by definition: the reads less their means
    means = [np.mean([read[i] for read in reads], axis=0) for i in (0, 1)]
    fading = np.sin((np.arange(64) + 0.5) * np.pi / 64)
    for sides, stripes in reads:
        v, y = (
            np.fft.rfft(fading * (values - mean - (values - mean).mean(axis=1, keepdims=True)))
            for values, mean in ((sides, means[0]), (stripes, means[1]))
        )
        other.sides += v.conj()[:, None] * v
        other.stripes += v.conj()[:, None] * y
    np.testing.assert_allclose(one.sides, other.sides, atol=1e-9)
    np.testing.assert_allclose(one.stripes, other.stripes, atol=1e-9)


@pytest.mark.parametrize("xp", OTHER_LIBRARIES, indirect=True)
def test_training_has_the_same_answer_in_every_library(xp: ModuleType) -> None:
    rng = np.random.default_rng(17)
    here, there = CrossSpectra.of_nothing(64, 3), CrossSpectra.of_nothing(64, 3, xp=xp)
    for _ in range(2):
        for _ in range(4):
            sides, stripes = rng.normal(size=(2, 64)), rng.normal(size=(3, 64))
            here.add(sides, stripes)
            there.add(xp.asarray(sides), xp.asarray(stripes), xp=xp)
        here.end_ramp()
        there.end_ramp(xp=xp)
    found = there.kernels(8, 10, xp=xp)
    assert (there.reads, found.stripe_columns, found.half_width) == (8, 8, 10)
    np.testing.assert_allclose(on_host(found.taps), here.kernels(8, 10).taps, atol=1e-6)


def test_counts_of_the_sides_are_those_of_usable_pixels_less_their_columns(xp: ModuleType) -> None:
    read = np.arange(60, dtype=np.uint16).reshape(3, 20)
    usable = np.ones((2, 3, 2), np.bool_)
    usable[1, 2, 0] = False
    offset = np.arange(20, dtype=np.float32)
    found = on_host(side_counts(*(xp.asarray(one) for one in (read, usable, offset)), xp=xp))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[[0, 0], [20, 20], [40, 40]], [[0, 0], [20, 20], [np.nan, 40]]])


def test_rays_and_hot_pixels_of_darks_teach_nothing(xp: ModuleType) -> None:
    rng = np.random.default_rng(16)
    change = rng.normal(0, 10, SHAPE).astype(np.float32)
    usable = np.ones(SHAPE, np.bool_)
    usable[:, :BORDER] = usable[:, -BORDER:] = False
    clean = on_host(stripe_signals(xp.asarray(change), xp.asarray(usable), WIDTH, xp=xp))
    assert clean.shape == (2, SHAPE[0])
    np.testing.assert_allclose(clean[0], change[:, BORDER:64].mean(axis=1), atol=1e-5)
    struck = change.copy()
    struck[7, 20], struck[8, 100], struck[:, 1] = 5000, -300, 99
    found = on_host(stripe_signals(xp.asarray(struck), xp.asarray(usable), WIDTH, xp=xp))
    np.testing.assert_allclose(found[0, 7], np.delete(change[7, BORDER:64], 16).mean(), atol=1e-5)
    np.testing.assert_allclose(np.delete(found[0], 7), np.delete(clean[0], 7), atol=1e-5)
    fine = on_host(stripe_signals(xp.asarray(change), xp.asarray(usable), WIDTH, 16, xp=xp))
    assert fine.shape == (32, SHAPE[0])
    np.testing.assert_array_equal(fine[0], 0)  # side columns alone
    np.testing.assert_allclose(fine[1], change[:, 4:8].mean(axis=1), atol=1e-5)
