"""What the reference pixels take off a read: constants of outputs and signals of rows go, the science stays."""

import numpy as np
import pytest
from numpy.typing import NDArray

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.readout.sampling.reference_correction import (
    ReferenceCorrection,
    ReferenceVectors,
    SideColumns,
    reference_vectors,
)
from irisdrs.readout.sampling.side_columns import (
    mean_variance,
    row_means,
    row_power,
    running_median,
    side_counts,
    wiener,
    wiener_gain,
)
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

SHAPE, WIDTH, BORDER = (48, 128), 64, 4
MEDIAN = SideColumns.MEDIAN
WIENER = SideColumns.WIENER
#: Noise of a read of 10 DN, 1/f signal of the rows of 4 DN.
NOISE_DN, SIGNAL_DN = 10.0, 4.0


def vectors(
    read: NDArray[np.uint16],
    correction: ReferenceCorrection,
    usable: NDArray[np.bool_] | None = None,
    usable_sides: NDArray[np.bool_] | None = None,
) -> ReferenceVectors:
    rows, columns = read.shape
    edges = np.ones((2, BORDER, columns), np.bool_) if usable is None else usable
    sides = np.ones((2, rows, BORDER), np.bool_) if usable_sides is None else usable_sides
    return reference_vectors(read, edges, sides, WIDTH, correction)


def corrected(read: NDArray[np.uint16], correction: ReferenceCorrection) -> NDArray[np.float32]:
    found = vectors(read, correction)
    return read.astype(np.float32) - found.column_offset - found.row_offset[:, None]


def scene(seed: int) -> NDArray[np.uint16]:
    """Counts that no clipping touches: they spread less than two standard deviations."""
    return np.random.default_rng(seed).integers(2000, 2016, SHAPE).astype(np.uint16)


@pytest.mark.parametrize(
    "correction",
    [
        ReferenceCorrection(side_columns=MEDIAN, median_rows=1),
        ReferenceCorrection(side_columns=WIENER, gain=np.ones(SHAPE[0] + 1)),
        ReferenceCorrection(side_columns=WIENER, gain=np.ones(SHAPE[0] + 1), interpolated=True),
    ],
    ids=["median", "wiener", "wiener and drift"],
)
def test_what_the_reference_pixels_see_leaves_the_science_unchanged(correction: ReferenceCorrection) -> None:
    rng, plain = np.random.default_rng(2), scene(1)
    # A row's signal beyond a few DN would change what is clipped in the edges; outputs may differ by anything.
    outputs = rng.integers(0, 3000, (2, 2)).repeat(32, axis=0).reshape(SHAPE[1])
    rows = rng.integers(0, 4, SHAPE[0])
    moved = plain + (outputs + rows[:, None]).astype(np.uint16)
    # float32 holds the counts of up to 8000 DN, and their differences, to 2**-11 DN
    np.testing.assert_allclose(corrected(moved, correction), corrected(plain, correction), atol=2**-9)


def test_constants_and_steps_pass_a_running_median_whole() -> None:
    plain = scene(3)
    for border in (plain[:BORDER], plain[-BORDER:], plain[:, :BORDER], plain[:, -BORDER:]):
        border[...] = 2000
    step = np.where(np.arange(SHAPE[0]) < 20, 0, 40)
    moved = plain + step.astype(np.uint16)[:, None]
    before, after = (vectors(read, ReferenceCorrection(side_columns=MEDIAN)) for read in (plain, moved))
    # The columns lose the mean of both edges (20), the rows all the rest.
    np.testing.assert_allclose(after.column_offset - before.column_offset, 20, atol=2**-9)
    np.testing.assert_allclose(after.row_offset - before.row_offset, step - 20, atol=2**-9)
    half = vectors(moved, ReferenceCorrection(side_columns=MEDIAN, alpha=0.5))
    np.testing.assert_allclose(half.row_offset, after.row_offset / 2, rtol=1e-6)


def test_the_running_median_is_the_one_of_jwst() -> None:
    rng = np.random.default_rng(5)
    for rows, length in ((40, 11), (40, 3), (7, 11), (1, 3)):
        sides = rng.normal(0, 10, (2, rows, BORDER)).astype(np.float32)
        sides[rng.random(sides.shape) < 0.1] = np.nan
        expected = np.zeros(rows)
        for y in range(rows):
            places = np.arange(y - length // 2, y + length // 2 + 1)
            while rows > 1 and (places.min() < 0 or places.max() >= rows):
                places = np.where(places < 0, -places, places)
                places = np.where(places >= rows, 2 * (rows - 1) - places, places)
            places = places if rows > 1 else np.zeros(length, int)
            expected[y] = np.mean([np.nanmedian(side[places].astype(np.float64)) for side in sides])
        np.testing.assert_allclose(running_median(sides, length), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="no middle row"):
        running_median(sides, 4)


def test_bad_side_pixels_are_left_out_and_one_side_is_enough() -> None:
    read = np.full(SHAPE, 1000, np.uint16)
    read[:, :BORDER] += np.uint16(8)
    read[20:24, :BORDER] = 60000  # a bad stretch on the left
    usable = np.ones((2, SHAPE[0], BORDER), np.bool_)
    usable[0, 20:24] = False
    edges = np.ones((2, BORDER, SHAPE[1]), np.bool_)
    edges[:, :, :BORDER] = False  # the offset of the columns comes from the others: the left side is 8 DN above
    for correction in (
        ReferenceCorrection(side_columns=MEDIAN, median_rows=3),
        ReferenceCorrection(side_columns=WIENER, gain=np.ones(SHAPE[0] + 1)),
    ):
        found = vectors(read, correction, edges, usable)
        np.testing.assert_allclose(found.row_offset[:18], 4, atol=1e-3)
        np.testing.assert_allclose(found.row_offset[21:23], 0, atol=1e-3)
        assert not found.missing_rows.any()
        only_left = usable.copy()
        only_left[1] = False
        found = vectors(read, correction, edges, only_left)
        np.testing.assert_allclose(found.row_offset[:18], 8, atol=1e-3)
        nowhere = np.zeros_like(usable)
        found = vectors(read, correction, edges, nowhere)
        assert found.missing_rows.all()
        np.testing.assert_array_equal(found.row_offset, 0)
    # A median without a pixel on either side is none; the filter bridges the gap.
    found = vectors(read, ReferenceCorrection(side_columns=MEDIAN, median_rows=3), edges, only_left)
    assert np.flatnonzero(found.missing_rows).tolist() == [21, 22]
    np.testing.assert_array_equal(found.row_offset[21:23], 0)


def test_a_frame_without_reference_pixels_is_left_alone() -> None:
    read = scene(4)
    none = np.zeros((2, 0, SHAPE[1]), np.bool_), np.zeros((2, SHAPE[0], 0), np.bool_)
    for correction in (
        ReferenceCorrection(side_columns=MEDIAN),
        ReferenceCorrection(side_columns=WIENER, gain=np.ones(SHAPE[0] + 1)),
        ReferenceCorrection(interpolated=True),
    ):
        found = vectors(read, correction, *none)
        np.testing.assert_array_equal(found.column_offset, 0)
        np.testing.assert_array_equal(found.row_offset, 0)
        assert found.missing_columns.all()
        assert found.missing_rows.all() == (correction.side_columns is not SideColumns.NONE)


def test_a_drift_from_the_first_rows_to_the_last_is_a_straight_line() -> None:
    y = np.arange(SHAPE[0])
    drift = np.rint(2 * y)  # DN; 88 between the centres of the edges, rows 1.5 and 45.5
    outputs = np.array([100, 300, 700, 900]).reshape(2, 2).repeat(32, axis=0).reshape(-1)
    read = (1000 + outputs + drift[:, None]).astype(np.uint16)
    left = corrected(read, ReferenceCorrection(interpolated=True))
    np.testing.assert_allclose(left, 0, atol=2**-9)
    bottom, top = read[:BORDER].mean(axis=0), read[-BORDER:].mean(axis=0)
    expected = bottom + (top - bottom) * ((y[:, None] - 1.5) / (45.5 - 1.5))
    np.testing.assert_allclose(read - left, expected, atol=2**-9)
    one_edge = np.ones((2, BORDER, SHAPE[1]), np.bool_)
    one_edge[1] = False
    np.testing.assert_array_equal(vectors(read, ReferenceCorrection(interpolated=True), one_edge).row_offset, 0)


def test_an_output_with_one_edge_has_the_drift_of_the_others() -> None:
    drift, outputs = 2 * np.arange(SHAPE[0])[:, None], np.array([100, 300, 700, 900])
    columns = np.arange(SHAPE[1]) // WIDTH * 2 + np.arange(SHAPE[1]) % 2
    read = (1000 + outputs[columns] + drift).astype(np.uint16)
    usable = np.ones((2, BORDER, SHAPE[1]), np.bool_)
    usable[0][:, columns == 1] = False
    usable[1][:, columns == 2] = False
    found = vectors(read, ReferenceCorrection(interpolated=True), usable)
    left = read.astype(np.float32) - found.column_offset - found.row_offset[:, None]
    np.testing.assert_allclose(left, 0, atol=2**-9)
    assert not found.missing_columns.any()


def pink(rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Covariance of a 1/f signal of `rows` rows, cut from one 16 times as long, and its power at k / (2 rows)."""
    long = 16 * rows
    frequency = np.fft.rfftfreq(long)
    power = np.zeros_like(frequency)
    power[1:] = 1 / frequency[1:]
    scale = SIGNAL_DN**2 * long / (2 * power.sum() - power[-1])
    covariance = np.fft.irfft(scale * power, long)[:rows]
    lag = np.abs(np.subtract.outer(np.arange(rows), np.arange(rows)))
    k = np.arange(rows + 1)
    return covariance[lag], scale / (np.maximum(k, 0.5) / (2 * rows))


def rms(covariance: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.trace(covariance) / len(covariance)))


@pytest.mark.parametrize("rows", [64, 256])
def test_the_wiener_filter_is_as_good_as_any_linear_estimate_and_better_than_the_median(rows: int) -> None:
    covariance, power = pink(rows)
    variance = mean_variance(np.ones((2, rows, BORDER), np.bool_), NOISE_DN)
    assert variance == pytest.approx(NOISE_DN**2 / 8)
    noise = variance * np.eye(rows)
    best = rms(covariance - covariance @ np.linalg.solve(covariance + noise, covariance))

    def residual(gain: NDArray[np.float64]) -> float:
        """Exactly, from what the filter does with one row at a time."""
        matrix = np.stack([wiener(row, gain) for row in np.eye(rows, dtype=np.float32)], axis=1).astype(np.float64)
        rest = np.eye(rows) - matrix
        return rms(rest @ covariance @ rest.T + matrix @ noise @ matrix.T)

    exact = residual(wiener_gain(power, variance))
    assert best * (1 - 1e-6) <= exact <= 1.02 * best

    rng = np.random.default_rng(8)
    signal = np.linalg.cholesky(covariance) @ rng.normal(size=(rows, 60))
    sides = signal.T[:, None, :, None] + rng.normal(0, NOISE_DN, (60, 2, rows, BORDER))
    medians = np.stack([running_median(one.astype(np.float32)) for one in sides])
    filtered = np.stack([wiener(row_means(one.astype(np.float32)), wiener_gain(power, variance)) for one in sides])
    of_median, of_filter = (float(np.sqrt(np.mean((found - signal.T) ** 2))) for found in (medians, filtered))
    assert of_filter < 0.9 * of_median

    darks = np.stack([row_means(one.astype(np.float32)) for one in sides]) + rng.normal(0, 50, rows)
    estimated = row_power(darks.astype(np.float32), variance)
    assert residual(wiener_gain(estimated, variance)) <= 1.1 * best


def test_the_filter_keeps_the_mean_and_white_noise_has_the_power_of_its_variance() -> None:
    rng = np.random.default_rng(9)
    series = rng.normal(7, 3, 128).astype(np.float32)
    nothing = wiener(series, wiener_gain(np.zeros(129), 2.0))
    np.testing.assert_allclose(nothing, series.mean(dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(wiener(series, wiener_gain(np.ones(129), 0.0)), series, rtol=1e-5)
    # 400 reads give each power to 7 %, and the smoothing to less
    power = row_power(rng.normal(0, 3, (400, 128)).astype(np.float32), 4.0)
    np.testing.assert_allclose(power, 9 - 4, atol=4 * 9 * 0.071)
    with pytest.raises(ValueError, match="one read"):
        row_power(series[None], 1.0)
    with pytest.raises(ValueError, match="needs the power"):
        ReferenceCorrection(side_columns=WIENER)


def perfect(shape: tuple[int, int]) -> Calibration:
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    nothing = np.zeros(shape, np.uint32)
    return calibrate_for(
        mask=nothing,
        coefficients=coefficients,
        coefficients_dq=nothing,
        saturation=np.full(shape, 60000, np.float32),
        saturation_dq=nothing,
        gain=np.ones(shape, np.float32),
        read_noise=np.full(shape, NOISE_DN, np.float32),
    )


def test_darks_teach_the_filter_that_takes_the_rows_signal_off_a_read() -> None:
    rows, columns = 256, 128
    rng = np.random.default_rng(10)
    root = np.linalg.cholesky(pink(rows)[0])
    pattern = rng.normal(0, 20, (rows, columns))

    def read() -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
        signal = root @ rng.normal(size=rows)
        counts = 5000 + pattern + signal[:, None] + rng.normal(0, NOISE_DN, (rows, columns))
        return counts.round().astype(np.uint16), signal

    calibration = perfect((rows, columns))
    assert calibration.side_variance() == pytest.approx(NOISE_DN**2 / 8)
    darks = np.stack([calibration.row_signal(read()[0]) for _ in range(40)])
    learned = calibration.wiener_correction(row_power(darks, calibration.side_variance()))
    spread: dict[str, list[float]] = {"plain": [], "median": [], "wiener": []}
    for _ in range(30):
        (first, before), (second, after) = read(), read()  # their difference has no pattern
        for name, correction in (
            ("plain", None),
            ("median", ReferenceCorrection(side_columns=MEDIAN)),
            ("wiener", learned),
        ):
            left = after - before
            if correction is not None:
                of_first, of_second = (calibration.reference_vectors(one, correction) for one in (first, second))
                left = left - of_second.row_offset + of_first.row_offset
            spread[name].append(float(np.var(left)))
    rms = {name: np.sqrt(np.mean(variances)) for name, variances in spread.items()}
    assert rms["wiener"] < 0.9 * rms["median"] < 0.9 * 0.9 * rms["plain"]
    # A window of half the rows takes the same power.
    gain = calibration.cut(Window(0, 128, 0, 128)).wiener_correction(row_power(darks, 1.0)).gain
    assert gain is not None
    assert gain.shape == (129,)


def test_rows_that_no_side_pixel_corrects_are_flagged() -> None:
    inner = perfect((64, 128)).cut(Window(0, 64, 10, 100))
    assert not (inner.dq & Quality.UNRELIABLE_BIAS).any()
    assert not (inner.flagged_for(ReferenceCorrection()).dq & Quality.UNRELIABLE_BIAS).any()
    for correction in (ReferenceCorrection(side_columns=MEDIAN), inner.wiener_correction(np.ones(65))):
        assert (inner.flagged_for(correction).dq & Quality.UNRELIABLE_BIAS).all()
        whole = perfect((64, 128))
        assert not (whole.flagged_for(correction).dq & Quality.UNRELIABLE_BIAS).any()


@pytest.mark.parametrize("side_columns", [MEDIAN, WIENER])
def test_a_signal_of_rows_leaves_no_trace_in_a_frame_and_rows_without_a_remedy_say_so(
    processor: Processor, side_columns: SideColumns
) -> None:
    rng = np.random.default_rng(11)
    plain = [scene(20 + k) + np.uint16(30 * k) for k in range(4)]
    moved = [read + rng.integers(0, 4, SHAPE[0]).astype(np.uint16)[:, None] for read in plain]
    gain = np.ones(SHAPE[0] + 1) if side_columns is WIENER else None
    options = FoldOptions(
        reference=ReferenceCorrection(side_columns=side_columns, median_rows=1, gain=gain),
    )

    def frame(reads: list[NDArray[np.uint16]], calibration: Calibration) -> RateFrame:
        state = processor.open(calibration, SamplingMode.UTR, 3.0, options)
        for k, read in enumerate(reads):
            processor.fold(state, read, float(k))
        return processor.close(state)

    # counts of 2000 DN are rounded to 2**-13 DN, twice, and the weights of the reads add up to less than 1 per second
    calm, disturbed = (frame(reads, perfect(SHAPE)) for reads in (plain, moved))
    np.testing.assert_allclose(disturbed.data, calm.data, atol=2**-9)
    assert not ((calm.dq | disturbed.dq) & Quality.UNRELIABLE_BIAS).any()
    window = Window(0, SHAPE[0], 8, 72)
    inside = frame([np.ascontiguousarray(read[window.slices]) for read in plain], perfect(SHAPE).cut(window))
    assert (inside.dq & Quality.UNRELIABLE_BIAS).all()


def test_side_pixels_lose_the_offsets_of_their_columns() -> None:
    read = scene(6)
    offset = np.linspace(0, 100, SHAPE[1], dtype=np.float32)
    usable = np.ones((2, SHAPE[0], BORDER), np.bool_)
    usable[1, 5, 2] = False
    sides = side_counts(read, usable, offset)
    assert sides.shape == (2, SHAPE[0], BORDER)
    assert np.isnan(sides[1, 5, 2])
    assert sides[1, 7, 2] == np.float32(read[7, SHAPE[1] - 2]) - offset[-2]
    assert mean_variance(usable, 8.0) == pytest.approx((47 * 8 + 64 / 7) / 48)
