"""The folded chain against float64 references: jumps and segments, saturation, live frames, bad input."""

from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray
from stcal.linearity.linearity import linearity_correction
from stcal.saturation.saturation import flag_saturated_pixels

from irisdrs.readout.accumulation import begin_ramp
from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling.fold import first_rows, fold_rows
from irisdrs.readout.sampling.growth import grow_rows
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.readout.sampling.segments import TRUSTED_READS, moments
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

GAIN, NOISE, DT, SIGMA = 2.0, 5.0, 0.72, 5.0
PLANES = ("data", "err", "var_poisson", "var_rnoise", "dq")
JUMPS = FoldOptions(jump_sigma=SIGMA)
#: Ramps of noise, with jumps; some reads are evenly spaced, others not.
EVEN: NDArray[np.float64] = np.arange(1, 13).astype(np.float64) * DT
UNEVEN = EVEN + np.array([0, 0.3, 0.1, 0, 0, 0.5, 0.2, 0.2, 0, 0.1, 0.4, 0.9])

Reads = NDArray[np.uint16]


def detector(shape: tuple[int, int], border: int = 0, **planes: NDArray[np.generic]) -> Calibration:
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


def options_of(mode: Mode, weighting: Weighting, times: NDArray[np.floating]) -> FoldOptions:
    return FoldOptions(weighting=weighting, planned_times_s=tuple(times), group_reads=max(len(times) // 3, 1))


ALL_FOLDS = [
    pytest.param(Mode.CDS, Weighting.LEAST_SQUARES, 0.0, id="CDS"),
    pytest.param(Mode.MCDS, Weighting.LEAST_SQUARES, 0.0, id="MCDS"),
    pytest.param(Mode.UTR, Weighting.LEAST_SQUARES, 0.0, id="UTR"),
    pytest.param(Mode.UTR, Weighting.LEAST_SQUARES, SIGMA, id="jumps"),
    pytest.param(Mode.UTR, Weighting.FIXSEN, 0.0, id="fixsen"),
    pytest.param(Mode.UTR, Weighting.OPTIMAL, 0.0, id="optimal"),
]


def fit(
    processor: Processor,
    calibration: Calibration,
    mode: Mode,
    options: FoldOptions,
    *ramps: tuple[NDArray[np.floating], Reads],
) -> RateFrame:
    times = ramps[0][0]
    state = processor.open(calibration, mode, float(times[-1] - times[0]) or 1.0, options)
    for times, reads in ramps:
        for time, read in zip(times, reads, strict=True):
            processor.fold(state, read, float(time))
        processor.end_ramp(state)
    return processor.close(state)


def noisy_ramps(times: NDArray[np.float64], shape: tuple[int, int], seed: int = 3) -> Reads:
    """Ramps of 0 to 400 DN/s with read and photon noise, cosmic rays, saturated and zero counts."""
    rng = np.random.default_rng(seed)
    rate = rng.uniform(0, 400, shape)
    steps = rng.poisson(rate * GAIN * np.diff(times, prepend=0)[:, None, None]) / GAIN
    steps += rng.exponential(2000, steps.shape) * (rng.random(steps.shape) < 0.03)
    counts = 4000 + np.cumsum(steps, axis=0) + rng.normal(0, NOISE, steps.shape)
    counts[rng.random(counts.shape) < 0.01] = 0
    counts[rng.random(counts.shape) < 0.01] = 65535
    return np.asarray(np.clip(np.round(counts), 0, 65535), np.uint16)


def segmented_fit(times: NDArray[np.float64], values: NDArray[np.uint16]) -> tuple[NDArray[np.float64], int, int]:
    """Weights (1/s) of the reads of one pixel, how many it used before it saturated, and flags: by definition.

    Least squares with one slope and an intercept for each segment, solved anew for each read.
    """
    rows: list[int] = []
    segment_of: dict[int, int] = {}
    segment, flags = 0, 0
    for k, value in enumerate(values):
        if value >= 60000:
            flags |= Quality.AD_FLOOR if (values[k:] == 0).any() else Quality.GOOD
            return _weights(times, rows, segment_of), k, flags | Quality.SATURATED
        if value == 0:
            flags |= Quality.AD_FLOOR
            segment += 1
            continue
        weights = _weights(times, rows, segment_of)
        follows = bool(rows) and rows[-1] == k - 1
        if follows and _moment(times, rows, segment_of) >= 0.99 * np.sum(
            (times[:TRUSTED_READS] - times[:TRUSTED_READS].mean()) ** 2
        ):
            slope = float(weights @ values)
            h = times[k] - times[k - 1]
            excess = float(value) - float(values[k - 1]) - slope * h
            if abs(excess) > SIGMA * np.sqrt(2 * NOISE**2 + max(slope, 0) * h / GAIN):
                flags |= Quality.JUMP_DET
                segment += 1
        rows.append(k)
        segment_of[k] = segment
    return _weights(times, rows, segment_of), len(times), flags


def _centred(times: NDArray[np.float64], rows: list[int], segment_of: dict[int, int]) -> NDArray[np.float64]:
    centred = np.zeros(len(times))
    for segment in set(segment_of.values()):
        inside = [k for k in rows if segment_of[k] == segment]
        centred[inside] = times[inside] - times[inside].mean()
    return centred


def _moment(times: NDArray[np.float64], rows: list[int], segment_of: dict[int, int]) -> float:
    return float(np.sum(_centred(times, rows, segment_of) ** 2))


def _weights(times: NDArray[np.float64], rows: list[int], segment_of: dict[int, int]) -> NDArray[np.float64]:
    centred = _centred(times, rows, segment_of)
    total = np.sum(centred**2)
    return centred / total if total > 0 else centred


@pytest.mark.parametrize("times", [EVEN, UNEVEN, UNEVEN + 1e5, UNEVEN[:1], UNEVEN[:2], np.array([])])
def test_the_sums_of_a_segment_are_those_of_their_definition(times: NDArray[np.float64]) -> None:
    moment, shot = moments(times)
    assert moment[-1] == shot[-1] == 0
    for begin in range(len(times)):
        centred = times[begin:] - times[begin:].mean()
        tails = np.array([centred[j:].sum() for j in range(1, len(centred))])
        assert moment[begin] == pytest.approx(np.sum(centred**2), rel=1e-12, abs=1e-30)
        # float64 holds 1e5 s to 1.5e-11 s
        assert shot[begin] == pytest.approx(np.sum(np.diff(times[begin:]) * tails**2), rel=1e-9, abs=1e-30)


@pytest.mark.parametrize("times", [EVEN, UNEVEN], ids=["even", "uneven"])
def test_segments_between_jumps_are_a_least_squares_fit_with_one_slope(
    processor: Processor, times: NDArray[np.float64]
) -> None:
    shape = (11, 37)
    reads = noisy_ramps(times, shape)
    frame = fit(processor, detector(shape), Mode.UTR, JUMPS, (times, reads))
    found = {(y, x): segmented_fit(times, reads[:, y, x]) for y in range(shape[0]) for x in range(shape[1])}
    flags = np.array([[found[y, x][2] for x in range(shape[1])] for y in range(shape[0])])
    fitted = np.array([[found[y, x][0].any() for x in range(shape[1])] for y in range(shape[0])])
    np.testing.assert_array_equal(frame.dq, flags | np.where(fitted, 0, Quality.DO_NOT_USE))
    assert np.mean((flags & Quality.JUMP_DET) != 0) > 0.15
    for (y, x), (weights, _, _) in found.items():
        rate = float(weights @ reads[:, y, x])
        noise = NOISE**2 * np.sum(weights**2)
        assert frame.data[y, x] == pytest.approx(rate, rel=1e-5, abs=2e-3 * np.sqrt(noise))
        assert frame.var_rnoise[y, x] == pytest.approx(noise, rel=1e-5)
        tails = np.cumsum(weights[::-1])[::-1][1:]
        photons = max(rate, 0) / GAIN * np.sum(np.diff(times) * tails**2)
        assert frame.var_poisson[y, x] == pytest.approx(photons, rel=1e-4, abs=1e-4)


def test_without_a_jump_segments_give_what_least_squares_gives(processor: Processor) -> None:
    reads = noisy_ramps(EVEN, (20, 30))
    reads[reads == 0] = 4000  # where zero counts are left out alone they end the ramp of the plain fold
    plain, segments = (
        fit(processor, detector((20, 30)), Mode.UTR, FoldOptions(jump_sigma=sigma), (EVEN, reads)) for sigma in (0, 1e6)
    )
    np.testing.assert_array_equal(plain.dq, segments.dq)
    sigma = np.sqrt(plain.var_rnoise) + 1e-9
    assert np.max(np.abs(plain.data - segments.data) / sigma) < 1e-3
    np.testing.assert_allclose(plain.var_rnoise, segments.var_rnoise, rtol=1e-5)
    np.testing.assert_allclose(plain.var_poisson, segments.var_poisson, rtol=1e-4, atol=1e-4)


def test_clear_jumps_are_found_and_few_others(processor: Processor) -> None:
    shape, n = (150, 200), 30
    times = np.arange(1, n + 1).astype(np.float64) * DT
    rng = np.random.default_rng(11)
    counts = 4000 + np.cumsum(rng.poisson(40 * GAIN * DT, (n, *shape)), axis=0) / GAIN
    hit = rng.random(shape) < 0.1
    when = rng.integers(TRUSTED_READS, n, shape)
    counts += 400 * (hit & (np.arange(n)[:, None, None] >= when))
    reads = np.round(counts + rng.normal(0, NOISE, counts.shape)).astype(np.uint16)
    frame = fit(processor, detector(shape), Mode.UTR, JUMPS, (times, reads))
    flagged = (frame.dq & Quality.JUMP_DET) != 0
    assert flagged[hit].all()
    # 5.7e-7 of differences are beyond 5 sigma; that the early slopes are noisy themselves makes it some 1e-4 a ramp
    assert flagged[~hit].mean() < 2e-3
    pull = (frame.data[hit] - 40) / frame.err[hit]
    assert abs(pull.mean()) < 4 / np.sqrt(hit.sum())
    assert 0.95 < pull.std() < 1.05  # 3000 pixels give the scatter to 1.3 %


@pytest.mark.parametrize("grow", [0, 1])
def test_saturation_is_stcals_with_and_without_its_neighbours(processor: Processor, grow: int) -> None:
    shape, n = (17, 29), 6
    rng = np.random.default_rng(5)
    reads = rng.integers(1, 50000, (n, *shape)).astype(np.uint16)
    reads[rng.random(reads.shape) < 0.02] = 65535
    reads[rng.random(reads.shape) < 0.01] = 0
    threshold = rng.uniform(45000, 65000, shape).astype(np.float32)
    threshold[3, 4] = np.nan
    flags = {"DO_NOT_USE": 1, "SATURATED": 2, "AD_FLOOR": 64, "NO_SAT_CHECK": 1 << 21}
    # without a threshold a pixel saturates at the converter's limit here, and never in stcal: let it have none
    reads[:, 3, 4] = np.minimum(reads[:, 3, 4], 40000)
    expected, _, _ = flag_saturated_pixels(
        reads[None].astype(np.float32),
        np.zeros((1, n, *shape), np.uint32),
        np.zeros(shape, np.uint32),
        threshold.copy(),
        np.zeros(shape, np.uint32),
        65535,
        flags,
        n_pix_grow_sat=grow,
    )
    calibration = detector(shape, saturation=threshold)
    state = processor.open(calibration, Mode.UTR, 1.0, FoldOptions(jump_sigma=1e9, grow_saturation=grow == 1))
    for k, read in enumerate(reads):
        processor.fold(state, read, float(k))
        found = processor.live(state).dq & np.uint32(Quality.SATURATED)
        np.testing.assert_array_equal(found, expected[0, k] & Quality.SATURATED)
    floors = (np.asarray(expected[0]) & Quality.AD_FLOOR).any(axis=0)
    grown_before = (np.asarray(expected[0, 0]) & Quality.SATURATED) != 0
    assert ((processor.close(state).dq & Quality.AD_FLOOR) != 0)[~grown_before].sum() <= floors.sum()


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2)])
def test_saturation_grows_in_the_smallest_frames(shape: tuple[int, int]) -> None:
    read, threshold = np.full(shape, 7, np.uint16), np.full(shape, 100, np.uint16)
    read[0, 0] = 100
    grown = np.zeros(shape, np.uint16)
    grow_rows(read, threshold, grown, 0, shape[0])
    near = np.add.outer(np.arange(shape[0]) > 1, np.arange(shape[1]) > 1) == 0
    np.testing.assert_array_equal(grown, np.where(near, 65535, 7))


def test_linearity_is_stcals_and_offsets_of_rows_and_columns_are_subtracted_before_it() -> None:
    shape = (7, 11)
    rng = np.random.default_rng(8)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1:] = np.array([1.01, 2e-6, -1e-11, 4e-16, 1e-21])[:, None, None] * rng.normal(1, 0.1, (5, *shape))
    read = rng.integers(2000, 60000, shape).astype(np.uint16)
    column, row = (rng.normal(0, 50, size).astype(np.float32) for size in shape[::-1])
    x = read.astype(np.float32) - column - row[:, None]
    flags = {"SATURATED": 2, "NO_LIN_CORR": 1 << 20, "DO_NOT_USE": 1}
    zeros = np.zeros(shape, np.uint32)
    expected, *_ = linearity_correction(
        x[None, None], zeros[None, None], zeros, coefficients.copy(), zeros.copy(), flags
    )
    first = np.zeros(shape, np.float32)
    terms = tuple(coefficients[1:].copy())
    first_rows(read, terms, column, row[:, None], first, 0, shape[0])
    np.testing.assert_allclose(first, np.asarray(expected)[0, 0], rtol=5e-7)
    mean, comoment = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    number, latched = np.zeros(shape, np.uint16), np.zeros(shape, np.uint8)
    threshold = np.full(shape, 65535, np.uint16)
    one, none = np.float32(1), np.zeros(shape, np.float32)
    numbers, row = (np.uint16(1), np.uint16(0)), row[:, None]
    fold_rows(read, threshold, terms, column, row, one, one, *numbers, none, mean, comoment, number, latched, 0, 7)
    np.testing.assert_allclose(mean, first, rtol=2e-7)


def test_the_signal_of_a_row_in_the_side_columns_is_taken_off_its_pixels(processor: Processor) -> None:
    shape, times = (24, 128), np.arange(1.0, 5.0)
    rows = np.random.default_rng(6).integers(-40, 40, (4, 24, 1))
    sky = np.zeros(shape)
    sky[4:-4, 4:-4] = 30.0
    reads = (3000 + rows + times[:, None, None] * sky).astype(np.uint16)
    correction = ReferenceCorrection(side_columns=SideColumns.MEDIAN, median_rows=1)
    calibration = detector(shape, border=4)
    for fold in (FoldOptions(reference=correction), FoldOptions(jump_sigma=SIGMA, reference=correction)):
        frame = fit(processor, calibration, Mode.UTR, fold, (times, reads))
        np.testing.assert_allclose(frame.data[4:-4, 4:-4], 30.0, rtol=1e-5)
    left = fit(processor, calibration, Mode.UTR, FoldOptions(), (times, reads))
    assert np.abs(left.data[4:-4, 4:-4] - 30.0).max() > 1


def test_a_zero_count_costs_a_segmented_ramp_that_read_alone(processor: Processor) -> None:
    values = np.array([100, 110, 0, 130, 140], np.uint16)
    reads = np.broadcast_to(values[:, None, None], (5, 2, 3)).copy()
    frame = fit(processor, detector((2, 3)), Mode.UTR, JUMPS, (np.arange(1.0, 6.0), reads))
    np.testing.assert_allclose(frame.data, 10, rtol=1e-6)
    np.testing.assert_allclose(frame.var_rnoise, NOISE**2 / (0.5 + 0.5), rtol=1e-6)
    assert (frame.dq == Quality.AD_FLOOR).all()


@pytest.mark.parametrize(("mode", "weighting", "sigma"), ALL_FOLDS)
def test_live_frames_and_restarts_at_every_read_change_no_bit(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    shape = (19, 27)
    reads = noisy_ramps(UNEVEN, shape)
    calibration = detector(shape)
    chosen = options_of(mode, weighting, UNEVEN)
    chosen = FoldOptions(chosen.weighting, chosen.planned_times_s, chosen.group_reads, sigma, grow_saturation=True)
    one_thread = Processor(1)
    watched = processor.open(calibration, mode, 9.0, chosen)
    for k, (time, read) in enumerate(zip(UNEVEN, reads, strict=True)):
        processor.fold(watched, read, float(time))
        live = processor.live(watched)
        again = one_thread.open(calibration, mode, 9.0, chosen)
        for earlier in range(k + 1):
            one_thread.fold(again, reads[earlier], float(UNEVEN[earlier]))
        closed = one_thread.close(again)
        for plane in PLANES:
            np.testing.assert_array_equal(getattr(live, plane), getattr(closed, plane))
    preview = processor.live(watched, step=4)
    processor.end_ramp(watched)
    assert preview.data.shape == (5, 7)
    assert preview.saturated_fraction == np.mean((closed.dq[::4, ::4] & Quality.SATURATED) != 0)
    for plane in PLANES:
        np.testing.assert_array_equal(getattr(preview, plane), getattr(closed, plane)[::4, ::4])
    between = processor.live(watched)
    final = processor.close(watched)
    one_thread.shutdown()
    for plane in PLANES:
        np.testing.assert_array_equal(getattr(final, plane), getattr(closed, plane))
        np.testing.assert_array_equal(getattr(between, plane), getattr(closed, plane))


@pytest.mark.parametrize(("mode", "weighting", "sigma"), ALL_FOLDS)
def test_bad_input_gives_flags_and_finite_numbers(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    shape, times = (3, 4), np.arange(1.0, 9.0)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    coefficients[2, 0, 0] = np.nan
    noise = np.full(shape, NOISE, np.float32)
    noise[0, 1] = 0
    calibration = detector(shape, coefficients=coefficients, read_noise=noise)
    reads = np.broadcast_to((1000 + 10 * times)[:, None, None], (8, *shape)).astype(np.uint16)
    reads[:, 1, 0] = 65535
    reads[:, 1, 1] = 0
    reads[1:, 1, 2] = 65535
    reads[:, 2, 0] = reads[::-1, 2, 0]
    chosen = options_of(mode, weighting, times)
    chosen = FoldOptions(chosen.weighting, chosen.planned_times_s, chosen.group_reads, sigma)
    frame = fit(processor, calibration, mode, chosen, (times, reads))
    for plane in PLANES[:4]:
        assert np.isfinite(getattr(frame, plane)).all()
    unusable = (frame.dq & Quality.DO_NOT_USE) != 0
    assert np.argwhere(unusable).tolist() == [[1, 0], [1, 1], [1, 2]]
    np.testing.assert_array_equal(frame.data[unusable], 0)
    np.testing.assert_allclose(np.abs(frame.data[~unusable]), 10, rtol=1e-5)
    assert frame.dq[0, 0] & Quality.NO_LIN_CORR
    assert frame.dq[1, 0] & Quality.SATURATED
    assert frame.dq[1, 1] & Quality.AD_FLOOR
    assert frame.data[2, 0] == pytest.approx(-10, rel=1e-5)
    assert frame.var_poisson[2, 0] == 0
    one = fit(processor, calibration, mode, chosen, (times[:1], reads[:1]))
    assert ((one.dq & Quality.DO_NOT_USE) != 0).all()
    none = processor.close(processor.open(calibration, mode, 7.0, chosen))
    assert ((none.dq & Quality.DO_NOT_USE) != 0).all()
    state = processor.open(calibration, mode, 7.0, chosen)
    processor.fold(state, reads[0], 2.0)
    with pytest.raises(ValueError, match=r"a read at 1\.0 s after one at 2\.0 s"):
        processor.fold(state, reads[1], 1.0)


@pytest.mark.parametrize(("mode", "weighting", "sigma"), ALL_FOLDS)
def test_float32_sums_of_a_hundred_reads_on_a_high_pedestal_are_as_good_as_float64(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    shape, n = (32, 32), 100
    rng = np.random.default_rng(3)
    times = np.arange(1, n + 1).astype(np.float64) * DT
    reads = np.round(rng.normal(30000, NOISE, (n, *shape))).astype(np.uint16)
    chosen = options_of(mode, weighting, times)
    chosen = FoldOptions(chosen.weighting, chosen.planned_times_s, chosen.group_reads, sigma * 1e3)
    # without light, and with a large gain, photons are nothing: all weightings are least squares
    calibration = detector(shape, gain=np.full(shape, 1e6, np.float32))
    frame = fit(processor, calibration, mode, chosen, (times, reads))
    weights = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    if mode is not Mode.UTR:
        group = 1 if mode is Mode.CDS else n // 3
        weights = np.zeros(n)
        weights[:group], weights[-group:] = -1, 1
        weights /= weights @ times
    if weighting is Weighting.FIXSEN:
        return  # which power a pixel takes depends on its own noise: compared in test_readout_optimal
    exact = np.tensordot(weights, reads.astype(np.float64), 1)
    error = (frame.data - exact) / (NOISE * np.sqrt(np.sum(weights**2)))
    assert np.sqrt(np.mean(error**2)) < 1e-4


@pytest.mark.parametrize(
    ("weighting", "sigma", "limit"),
    [(Weighting.LEAST_SQUARES, 0.0, 1e-5), (Weighting.LEAST_SQUARES, 1e4, 1e-5), (Weighting.OPTIMAL, 0.0, 4e-5)],
)
def test_a_correction_for_linearity_costs_a_high_pedestal_no_precision(
    processor: Processor, weighting: Weighting, sigma: float, limit: float
) -> None:
    # 30000 DN after offsets that are no whole numbers, through a correction that reaches 2 %.
    shape, n, edge = (20, 128), 100, 4
    rng, times = np.random.default_rng(3), np.arange(1, 101).astype(np.float64) * DT
    terms = np.array([0, 1.002, 3e-7, 4e-12, 4e-17, 6e-22], np.float32)
    coefficients = np.broadcast_to(terms[:, None, None], (6, *shape)).copy()
    reads = np.round(rng.normal(35003, NOISE, (n, *shape))).astype(np.uint16)
    reads[:, :edge], reads[:, -edge:] = 5003, 5004  # an offset of 5003.5
    reads[:, 0, ::3] += 1
    calibration = detector(shape, border=edge, coefficients=coefficients, gain=np.full(shape, 1e6, np.float32))
    frame = fit(processor, calibration, Mode.UTR, FoldOptions(weighting, tuple(times), 1, sigma), (times, reads))
    offsets = np.array([calibration.reference_vectors(read).column_offset for read in reads], np.float64)
    assert (offsets % 1 > 0).all()
    x = reads - offsets[:, None]
    linear = sum(float(a) * x**i for i, a in enumerate(terms))
    weights = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    error = (frame.data - np.tensordot(weights, linear, 1))[edge:-edge, edge:-edge]
    assert np.sqrt(np.mean(error**2)) < limit * NOISE * np.sqrt(np.sum(weights**2))


@pytest.mark.parametrize(
    ("mode", "options", "size"),
    [
        (Mode.UTR, FoldOptions(), 15),
        (Mode.UTR, JUMPS, 27),
        (Mode.UTR, FoldOptions(Weighting.OPTIMAL, (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)), 23),
    ],
)
def test_a_ramp_takes_less_than_thirty_bytes_a_pixel(mode: Mode, options: FoldOptions, size: int) -> None:
    ramp = begin_ramp((8, 8), mode, options)
    planes = [getattr(ramp, spec.name) for spec in fields(ramp)]
    assert sum(plane.nbytes for plane in planes if isinstance(plane, np.ndarray) and plane.shape[-2:] == (8, 8)) == (
        64 * size
    )


def test_read_noise_grows_with_the_slope_of_linearity(processor: Processor) -> None:
    # A full ramp of 45 000 DN through a correction that reaches 9 %: weights see slopes from 1.01 to 1.18.
    n, shape = 20, (120, 150)
    times, rng = np.arange(1, n + 1) * DT, np.random.default_rng(4)
    terms = np.array([0, 1.01, 1.5e-6, 1e-11, 0, 0])
    coefficients = np.broadcast_to(terms[:, None, None], (6, *shape)).astype(np.float32)
    counts = np.linspace(2000, 45000, n)
    slopes = sum(i * terms[i] * counts ** (i - 1) for i in range(1, 6))
    signal = sum(terms[i] * counts**i for i in range(6))
    weights = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    exact = NOISE**2 * np.sum(weights**2 * slopes**2)
    reads = np.round(counts[:, None, None] + rng.normal(0, NOISE, (n, *shape))).astype(np.uint16)
    for sigma in (0.0, 1e3):
        chosen = FoldOptions(jump_sigma=sigma, linearity_noise=True)
        frame = fit(processor, detector(shape, coefficients=coefficients), Mode.UTR, chosen, (times, reads))
        rate = float(weights @ signal)
        assert frame.data.mean(dtype=np.float64) == pytest.approx(rate, rel=1e-4)
        # The slope half-way up stands for all: 1.9 % of the variance here, 0.9 % of the error.
        assert frame.var_rnoise.mean() == pytest.approx(exact, rel=0.02)
        assert np.var(frame.data, dtype=np.float64) == pytest.approx(exact, rel=0.04)  # 18000 pixels: 1 %
