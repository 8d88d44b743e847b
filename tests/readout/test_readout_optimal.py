"""The optimum of four sums against generalised least squares with the whole covariance, and against random ramps."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from irisdrs.readout.accumulation import SummedRamp
from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling import combination, fixsen, optimal
from irisdrs.readout.sampling.coadd import find_entries
from irisdrs.readout.sampling.optimal import ENTRIES, R_MAX, R_MIN
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.pixel_sums import R_LIMITS, entry_of_r
from irisdrs.readout.sampling.sum_plan import SumPlan
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

GAIN, NOISE, DT = 1.0, 9.0, 0.72


def clock(n: int, first: int = 1) -> NDArray[np.float64]:
    """Times of n reads, s."""
    return np.asarray(np.arange(first, first + n) * DT, np.float64)


def bound(times: NDArray[np.float64], r: float) -> float:
    """Least variance of any unbiased linear estimate, for unit read noise: 1 / (t^T C^-1 t), a free pedestal."""
    above = times - times[0]
    covariance = np.eye(len(times)) + r * np.minimum.outer(above, above) / np.mean(np.diff(times))
    design = np.stack([np.ones(len(times)), times], axis=1)
    return float(np.linalg.inv(design.T @ np.linalg.solve(covariance, design))[1, 1])


def detector(shape: tuple[int, int]) -> Calibration:
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    flags = np.zeros(shape, np.uint32)
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=np.full(shape, 60000, np.float32),
        saturation_dq=flags,
        gain=np.full(shape, GAIN, np.float32),
        read_noise=np.full(shape, NOISE, np.float32),
        border=0,
    )


def fit(
    processor: Processor,
    times: NDArray[np.float64],
    reads: NDArray[np.uint16],
    weighting: Weighting,
    planned: NDArray[np.float64] | None = None,
) -> RateFrame:
    options = FoldOptions(weighting, tuple(times if planned is None else planned))
    state = processor.open(detector(reads.shape[1:]), Mode.UTR, float(np.ptp(times)), options)
    for time, read in zip(times, reads, strict=True):
        processor.fold(state, read, float(time))
    return processor.close(state)


def ramps(rate: float, times: NDArray[np.float64], pixels: int, seed: int) -> NDArray[np.uint16]:
    rng = np.random.default_rng(seed)
    shape = (len(times), pixels // 100, 100)
    electrons = np.cumsum(rng.poisson(rate * np.diff(times, prepend=0)[:, None, None], shape), axis=0)
    return np.asarray(np.round(2000 + electrons / GAIN + rng.normal(0, NOISE, shape)), np.uint16)


def _uneven(n: int) -> NDArray[np.float64]:
    return np.asarray(np.cumsum(np.random.default_rng(n).uniform(0.3, 2.0, n)))


def test_the_nearest_entry_of_the_table_is_taken() -> None:
    assert 2 * (ENTRIES // 2) == ENTRIES and math.log2(ENTRIES).is_integer()
    r = np.exp(np.random.default_rng(1).uniform(math.log(R_MIN) - 2, math.log(R_MAX) + 2, 3000)).astype(np.float32)
    position = (np.log(r.astype(np.float64) / R_MIN)) / math.log(R_MAX / R_MIN) * (ENTRIES - 1)
    clear = np.abs(position - np.floor(position) - 0.5) > 1e-4  # of the middle between two
    expected = np.clip(np.rint(position), 0, ENTRIES - 1)
    found = np.array([entry_of_r(value, np.float32(1)) for value in r])
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(found[clear], expected[clear])
    for value, entry in ((0.0, 0), (-1.0, 0), (np.nan, 0), (np.inf, ENTRIES - 1)):
        assert entry_of_r(np.float32(value), np.float32(1)) == entry
    assert entry_of_r(np.float32(1), np.float32(0)) == ENTRIES - 1


def test_a_row_of_pixels_has_the_entries_of_its_pixels() -> None:
    # Around every limit, at powers of two, where bits cease to be a straight logarithm, and beyond both ends.
    ends = np.array([-np.inf, -1, -0.0, 0, np.nan, 1e-45, 1e-30, 1e30, np.inf], np.float32)
    limits = np.concatenate([R_LIMITS, np.float32(2) ** np.arange(-140, 127, dtype=np.float32)])
    near = [np.nextafter(limits, np.float32(side)) for side in (0, np.inf)]
    random = np.exp(np.random.default_rng(1).uniform(-20, 15, 100_000)).astype(np.float32)
    r = np.concatenate([ends, limits, *near, random])
    one, found = np.ones(len(r), np.float32), np.empty(len(r), np.uint8)
    find_entries(False, np.float32(1), 2, one, one, r.copy(), found)
    np.testing.assert_array_equal(found, [entry_of_r(value, np.float32(1)) for value in r])
    assert len(np.unique(found)) == ENTRIES
    # Without read noise, or a gain: what is no ratio at all has the first entry.
    photons, noise = (np.array(values, np.float32) for values in ([0, -1, 1, np.nan, np.inf], [0, 0, 0, 0, np.inf]))
    find_entries(False, np.float32(1), 2, one[:5], noise, photons.copy(), found[:5])
    np.testing.assert_array_equal(found[:5], [entry_of_r(p, n) for p, n in zip(photons, noise, strict=True)])
    np.testing.assert_array_equal(found[:5], [0, 0, ENTRIES - 1, 0, 0])


@pytest.mark.parametrize(
    "times", [np.arange(2.0), np.arange(5) * DT, np.arange(30) * DT, np.arange(100.0), _uneven(40)]
)
def test_four_sums_are_within_a_percent_of_the_bound_for_every_ratio_of_noises(times: NDArray[np.float64]) -> None:
    ratios = optimal.entries()[::6]
    best = np.array([bound(times, r) for r in ratios])
    table = combination.for_optimum(optimal.sum_weights(times), times).table[-1, ::6].astype(np.float64)
    cadence = np.mean(np.diff(times))
    variance = table[:, -1] + ratios * table[:, -2] / cadence
    assert np.all(variance < 1.01 * best)
    assert np.all(variance > (1 - 1e-5) * best)
    weights = np.array([optimal.weights(times, r) for r in ratios])
    np.testing.assert_allclose(weights.sum(axis=1), 0, atol=1e-9 * np.abs(weights).max())
    np.testing.assert_allclose(weights @ times, 1, rtol=1e-9)


@pytest.mark.parametrize("times", [np.arange(2.0), _uneven(40), clock(151)])
@pytest.mark.parametrize("r", [1e-6, 0.3, 1e4])
def test_weights_are_generalised_least_squares_with_the_whole_covariance(times: NDArray[np.float64], r: float) -> None:
    above = times - times[0]
    covariance = np.eye(len(times)) + r * np.minimum.outer(above, above) / np.mean(np.diff(times))
    design = np.stack([np.ones(len(times)), times], axis=1)
    solved = np.linalg.solve(covariance, design)
    expected = np.linalg.solve(design.T @ solved, solved.T)[1]
    np.testing.assert_allclose(optimal.weights(times, r), expected, rtol=1e-6, atol=1e-7 * np.abs(expected).max())


def test_entries_are_as_the_kernel_looks_them_up() -> None:
    entries = optimal.entries()
    np.testing.assert_allclose(entries[1:], np.geomspace(optimal.R_MIN, optimal.R_MAX, optimal.ENTRIES)[1:], rtol=1e-12)
    assert entries[0] == 0


@pytest.mark.parametrize("n", [2, 3, 30, 100])
def test_without_photons_four_sums_are_least_squares(n: int) -> None:
    times = _uneven(n)
    weights = optimal.sum_weights(times).astype(np.float32).astype(np.float64)
    coefficients = combination.for_optimum(weights, times).table[-1, 0, : len(weights)].astype(np.float64)
    found = coefficients @ weights
    found[0] -= found.sum()  # sums are of reads above the first
    expected = (times - times.mean()) / np.sum((times - times.mean()) ** 2)
    np.testing.assert_allclose(found, expected, atol=1e-6 * np.abs(expected).max())


_FINGERPRINT = """
import hashlib, numpy
from irisdrs.readout.sampling import combination, optimal
found = hashlib.sha256()
for times in (numpy.arange(100) * 0.72, numpy.cumsum(numpy.random.default_rng(1).uniform(0.3, 2.0, 40))):
    weights = optimal.sum_weights(times)
    found.update(weights.tobytes() + combination.for_optimum(weights, times).table.tobytes())
print(found.hexdigest())
"""


def test_weights_have_the_same_bits_on_every_processor() -> None:
    kernels: list[dict[str, str]] = [
        {},
        {"OPENBLAS_CORETYPE": "Sandybridge"},
        {"OPENBLAS_CORETYPE": "Haswell"},
        {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    ]
    found = {
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _FINGERPRINT],
            env=os.environ | chosen,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for chosen in kernels
    }
    assert len(found) == 1


def test_the_sums_of_an_hour_of_reads_need_no_matrix_of_all_of_them() -> None:
    # 5000 reads: one such matrix would be 200 MB, and its 64 solutions an hour.
    weights = optimal.sum_weights(clock(5000))
    assert weights.shape == (optimal.SUMS, 5000)
    np.testing.assert_allclose(weights[:, 1:] @ weights[:, 1:].T, np.eye(optimal.SUMS), atol=1e-9)


def test_tables_of_far_more_reads_than_may_come_are_not_found_before_the_ramp() -> None:
    assert SumPlan.of(clock(2000), Weighting.OPTIMAL).whole is not None
    assert SumPlan.of(clock(65535), Weighting.OPTIMAL).whole is None


@pytest.mark.parametrize("n", [30, 100])
def test_a_ramp_that_is_cut_short_costs_a_tenth_of_variance_at_most(n: int) -> None:
    times, ratios = clock(n, 0), optimal.entries()[::16]
    table = combination.for_optimum(optimal.sum_weights(times), times).table.astype(np.float64)
    for used in (2, 3, 4, n // 3, n // 2, (9 * n) // 10, n - 1):
        best = np.array([bound(times[:used], r) for r in ratios])
        variance = table[used, ::16, -1] + ratios * table[used, ::16, -2] / DT
        assert np.all(variance < 1.12 * best)
        assert np.all(variance > (1 - 1e-5) * best)


def test_a_guess_of_the_rate_that_is_off_by_two_costs_a_percent() -> None:
    times = clock(30, 0)
    table = combination.for_optimum(optimal.sum_weights(times), times).table[-1].astype(np.float64)
    entries = optimal.entries()
    apart = round(np.log(2) / np.log(entries[2] / entries[1]))
    right = table[:, -1] + entries * table[:, -2] / DT
    wrong = table[apart:, -1] + entries[:-apart] * table[apart:, -2] / DT
    assert np.max(wrong / right[:-apart]) < 1.01


@pytest.mark.parametrize("n", [10, 100])
@pytest.mark.parametrize("rate", [0.3, 10.0, 300.0])
def test_random_ramps_scatter_as_the_bound_says_around_the_truth(processor: Processor, n: int, rate: float) -> None:
    pixels, times = 20000, clock(n)
    frame = fit(processor, times, ramps(rate, times, pixels, 7), Weighting.OPTIMAL)
    # rounding adds 1/12 DN^2 to the 81 DN^2 of a read: 0.05 % of the scatter
    least = NOISE * np.sqrt(bound(times, rate * DT / (GAIN * NOISE**2)))
    scatter = float(frame.data.std(dtype=np.float64))
    # 20000 pixels give the scatter to 0.5 %: within four of that, and 0.5 % that the sums may cost
    assert 0.98 * least < scatter < 1.025 * least
    # That the weights follow each ramp's own guess bends the mean by some 1 % of the scatter.
    assert abs(frame.data.mean(dtype=np.float64) - rate) < (4 / np.sqrt(pixels) + 0.02) * scatter
    stated = np.sqrt(np.mean(frame.var_rnoise, dtype=np.float64) + np.mean(frame.var_poisson, dtype=np.float64))
    if rate > 1:  # a pixel's own noise makes its photon variance, where there is hardly light
        assert stated == pytest.approx(least, rel=0.02)


@pytest.mark.parametrize("weighting", [Weighting.OPTIMAL, Weighting.FIXSEN])
def test_a_saturated_ramp_has_the_rate_and_the_variance_of_the_reads_before(
    processor: Processor, weighting: Weighting
) -> None:
    times = clock(30)
    reads = ramps(100.0, times, 20000, 3)
    reads[12:] = 65535
    frame = fit(processor, times, reads, weighting)
    assert (frame.dq == Quality.SATURATED).all()
    pull = (frame.data - 100.0) / frame.err
    assert abs(pull.mean()) < 0.05  # the guess of a short ramp is its own noise: some 2 % of the scatter
    assert 0.97 < pull.std() < 1.03
    least = NOISE * np.sqrt(bound(times[:12], 100.0 * DT / (GAIN * NOISE**2)))
    assert frame.data.std() < 1.15 * least


@pytest.mark.parametrize("weighting", [Weighting.OPTIMAL, Weighting.FIXSEN])
def test_pixels_that_saturate_have_the_frame_of_a_ramp_that_ends_there_beside_others_that_do_not(
    processor: Processor, weighting: Weighting
) -> None:
    times = clock(8)
    reads = ramps(100.0, times, 900, 3)
    cut = reads.copy()
    for n in range(9):
        cut[n:, :, n::9] = 65535
    frame = fit(processor, times, cut, weighting)
    too_short = np.broadcast_to(np.arange(100) % 9 < 2, frame.dq.shape)
    np.testing.assert_array_equal((frame.dq & Quality.DO_NOT_USE) != 0, too_short)
    for n in range(1, 9):
        short = fit(processor, times[:n], reads[:n], weighting, times)
        for name in ("data", "err", "var_poisson", "var_rnoise"):
            found, expected = getattr(frame, name)[:, n::9], getattr(short, name)[:, n::9]
            np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=f"{name}, {n} reads")
    for plane in (frame.data, frame.err, frame.var_poisson, frame.var_rnoise):
        np.testing.assert_array_equal(plane[:, ::9], 0)


@pytest.mark.parametrize("weighting", [Weighting.OPTIMAL, Weighting.FIXSEN])
def test_reads_that_never_came_cost_no_bias(processor: Processor, weighting: Weighting) -> None:
    planned = clock(40)
    used = np.delete(np.arange(40), [0, 7, 8, 25, 39])
    reads = ramps(50.0, planned, 10000, 5)[used]
    frame = fit(processor, planned[used], reads, weighting, planned)
    pull = (frame.data - 50.0) / frame.err
    assert abs(pull.mean()) < 0.05
    assert 0.97 < pull.std() < 1.03


def test_fixsens_sums_are_the_weighted_fit_of_each_ramp(processor: Processor) -> None:
    times = clock(20)
    reads = np.concatenate([ramps(rate, times, 300, 9) for rate in (0.5, 4.0, 12.0, 60.0, 300.0, 2000.0)], axis=1)
    frame = fit(processor, times, reads, Weighting.FIXSEN)
    values = reads.reshape(20, -1).astype(np.float64)
    least_squares = fixsen.weights(times, 0) @ values
    signal = np.maximum(least_squares * np.ptp(times) * GAIN, 0)
    powers = np.array(fixsen.POWERS)[np.searchsorted(fixsen.RATIOS, signal / np.sqrt(NOISE**2 + signal), "right")]
    assert set(powers) == set(fixsen.POWERS)
    expected = np.array([fixsen.weights(times, p) @ ramp for p, ramp in zip(powers, values.T, strict=True)])
    np.testing.assert_allclose(frame.data.ravel(), expected, rtol=2e-6, atol=1e-3)


@pytest.mark.parametrize(
    ("ratio", "power"), [(4.9, 0.0), (5.1, 0.4), (19.0, 1.0), (49.0, 3.0), (99.0, 6.0), (101.0, 10.0)]
)
def test_fixsens_powers_are_those_of_the_table(ratio: float, power: float) -> None:
    assert fixsen.POWERS[np.searchsorted(fixsen.RATIOS, ratio, "right")] == power


@pytest.mark.parametrize("weighting", [Weighting.OPTIMAL, Weighting.FIXSEN])
@pytest.mark.parametrize("late", [0, 1e-9, 0.3])
def test_tables_are_found_before_the_ramp_and_used_if_reads_come_as_planned(
    processor: Processor, weighting: Weighting, late: float
) -> None:
    planned = clock(8)
    times = planned + late * (np.arange(8) == 5)
    state = processor.open(
        detector((4, 6)), Mode.UTR, float(planned[-1]), FoldOptions(weighting, tuple(planned.tolist()))
    )
    for time in times:
        processor.fold(state, np.full((4, 6), 5000, np.uint16), float(time))
    assert isinstance(state.ramp, SummedRamp)
    found = state.ramp.plan.combinations(state.ramp.times_s)
    assert (found is state.ramp.plan.whole) == (late == 0)
    weights = (optimal if weighting is Weighting.OPTIMAL else fixsen).sum_weights(planned)
    rounded = weights.astype(np.float32).astype(np.float64)
    if weighting is Weighting.OPTIMAL:
        expected = combination.for_optimum(rounded, times)
    else:
        expected = combination.for_fixsen(rounded, times, whole=True)
    assert found.table.tobytes() == expected.table.tobytes()
    assert found.guess.tobytes() == expected.guess.tobytes()


def test_weights_of_reads_are_no_plane_of_pixels(processor: Processor) -> None:
    shape, planned = (optimal.SUMS, 8), clock(8)  # a frame with the rows and columns of the weights
    state = processor.open(
        detector(shape), Mode.UTR, float(np.ptp(planned)), FoldOptions(Weighting.OPTIMAL, tuple(planned.tolist()))
    )
    for time, read in zip(planned[:6], ramps(3000, planned, 400, 1)[:6, :, :8], strict=True):
        processor.fold(state, np.ascontiguousarray(read), float(time))
    live, thinned = processor.live(state), processor.live(state, step=2)
    assert live.data.all()
    np.testing.assert_array_equal(thinned.data, live.data[::2, ::2])
