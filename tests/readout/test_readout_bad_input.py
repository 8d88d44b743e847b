"""What cannot be folded is refused before it touches a sum; what has no answer is flagged, in every fold."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.readout.ramps import cadence, detector, noisy_ramp

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling import cds, combination, fixsen, utr
from irisdrs.readout.sampling.mcds import Fowler
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.readout.sampling.saturation import saturation_threshold
from irisdrs.readout.sampling.variance import poisson_factor
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

PLANES = ("data", "err", "var_poisson", "var_rnoise")
FOLDS = [
    pytest.param(Mode.SINGLE, Weighting.LEAST_SQUARES, 0.0, id="SINGLE"),
    pytest.param(Mode.CDS, Weighting.LEAST_SQUARES, 0.0, id="CDS"),
    pytest.param(Mode.MCDS, Weighting.LEAST_SQUARES, 0.0, id="MCDS"),
    pytest.param(Mode.UTR, Weighting.LEAST_SQUARES, 0.0, id="UTR"),
    pytest.param(Mode.UTR, Weighting.LEAST_SQUARES, 5.0, id="jumps"),
    pytest.param(Mode.UTR, Weighting.FIXSEN, 0.0, id="fixsen"),
    pytest.param(Mode.UTR, Weighting.OPTIMAL, 0.0, id="optimal"),
]


def fold(
    processor: Processor,
    calibration: Calibration,
    mode: Mode,
    options: FoldOptions,
    times: NDArray[np.float64],
    reads: NDArray[np.uint16],
) -> RateFrame:
    state = processor.open(calibration, mode, float(np.ptp(times)) or 1.0, options)
    for time, read in zip(times, reads, strict=True):
        processor.fold(state, read, float(time))
    return processor.close(state)


def options_of(weighting: Weighting, sigma: float, times: NDArray[np.float64]) -> FoldOptions:
    return FoldOptions(weighting, tuple(times), max(len(times) // 3, 1), sigma, grow_saturation=True)


@pytest.mark.parametrize(("mode", "weighting", "sigma"), FOLDS)
def test_a_read_that_does_not_fit_is_refused_and_changes_no_bit(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    times = cadence(4)[: 1 if mode is Mode.SINGLE else 4]
    reads = noisy_ramp(np.random.default_rng(1), times, (3, 5), 40.0)
    calibration = detector((3, 5))
    chosen = options_of(weighting, sigma, cadence(4))
    disturbed = processor.open(calibration, mode, float(np.ptp(times)) or 1.0, chosen)
    for k, (time, read) in enumerate(zip(times, reads, strict=True)):
        wrong = [
            (read[:2], time),
            (read[:, :4], time),
            (np.zeros((4, 5), np.uint16), time),
            (np.zeros((3, 6), np.uint16), time),
            (read.astype(np.int32), time),
            (read.astype(">u2"), time),
            (read, np.nan),
            (read, np.inf),
        ]
        wrong += [(read, times[k - 1]), (read, times[k - 1] - 0.1)] if k else []
        for other, when in wrong:
            with pytest.raises(ValueError, match="a read"):
                processor.fold(disturbed, other, float(when))
        processor.fold(disturbed, read, float(time))
    found = processor.close(disturbed)
    expected = fold(processor, calibration, mode, chosen, times, reads)
    for plane in (*PLANES, "dq"):
        np.testing.assert_array_equal(getattr(found, plane), getattr(expected, plane))


def test_a_threshold_that_is_no_number_or_beyond_the_converter_leaves_the_largest_count_saturated() -> None:
    threshold = np.array([[np.nan, np.inf, -np.inf, 1e9, 65535, 65534.5, 119.5, 120, 0, -5, 50000]], np.float32)
    flags = np.zeros((1, 11), np.uint32)
    flags[0, -1] = Quality.NO_SAT_CHECK
    smallest, found = saturation_threshold(threshold, flags)
    assert smallest.tolist() == [[65535, 65535, 65535, 65535, 65535, 65535, 120, 120, 0, 0, 65535]]
    unknown = int(Quality.NO_SAT_CHECK)
    assert found.tolist() == [[unknown, unknown, unknown, 0, 0, 0, 0, 0, 0, 0, unknown]]


@pytest.mark.parametrize("mode", [Mode.CDS, Mode.UTR])
@pytest.mark.parametrize("sigma", [0.0, 5.0])
def test_a_ramp_has_no_more_reads_than_its_counters_can_count(processor: Processor, mode: Mode, sigma: float) -> None:
    if mode is Mode.CDS and sigma:
        return  # has no jump test
    state = processor.open(detector(), mode, 1.0, FoldOptions(jump_sigma=sigma))
    processor.fold(state, np.full((1, 4), 100, np.uint16), 0.0)
    assert state.ramp is not None
    state.ramp.times_s = [float(k) for k in range(65535)]
    with pytest.raises(ValueError, match="more than 65535 reads"):
        processor.fold(state, np.full((1, 4), 100, np.uint16), 65535.0)


@pytest.mark.parametrize("options", [{"planned_times_s": (1.0, float("nan"))}, {"jump_sigma": float("nan")}])
def test_options_that_are_no_numbers_are_refused(processor: Processor, options: dict[str, object]) -> None:
    with pytest.raises(Fatal, match="nan"):
        processor.open(detector(), Mode.UTR, 1.0, FoldOptions(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "weighting", "sigma"), FOLDS)
@pytest.mark.parametrize("linearity_noise", [False, True])
def test_coefficients_that_overflow_make_no_number_and_say_so(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float, linearity_noise: bool
) -> None:
    # 1.6e38 is IRAF's "not known": finite, but not in any power of a count
    coefficients = np.zeros((6, 1, 4), np.float32)
    coefficients[1] = 1
    coefficients[2:, 0, 1] = 1.6e38
    coefficients[5, 0, 2] = 1e30
    times = cadence(6)[: 1 if mode is Mode.SINGLE else 6]
    reads = noisy_ramp(np.random.default_rng(1), times, (1, 4), 40.0)
    chosen = FoldOptions(weighting, tuple(cadence(6)), 2, sigma, linearity_noise=linearity_noise)
    frame = fold(processor, detector(coefficients=coefficients), mode, chosen, times, reads)
    sound = fold(processor, detector(), mode, chosen, times, reads)
    assert ((frame.dq & Quality.DO_NOT_USE) != 0).tolist() == [[False, True, True, False]]
    for plane in PLANES:
        assert np.isfinite(getattr(frame, plane)).all()
        np.testing.assert_array_equal(getattr(frame, plane)[0, 1:3], 0)
        np.testing.assert_array_equal(getattr(frame, plane)[0, [0, 3]], getattr(sound, plane)[0, [0, 3]])


def test_a_ramp_cut_short_anywhere_is_fitted_by_least_squares_where_fixsens_sums_are_made_for_all_of_it(
    processor: Processor,
) -> None:
    planned = cadence(20)
    sums = fixsen.sum_weights(planned)
    for n in range(2, 20):
        used = planned[:n]
        table = combination.for_fixsen(sums[:, :n], used, whole=False).table[n].astype(np.float64)
        least = 1 / np.sum((used - used.mean()) ** 2)
        np.testing.assert_allclose(table[:, -1], least, rtol=1e-6)
    # The same through the kernels: the exposure ends after 15 reads, where a power's sum measures no slope at all; and
    # the pixels of one column saturate after 14, where no combination of the powers alone is a good one.
    ramp = noisy_ramp(np.random.default_rng(3), planned[:15], (40, 50), 20.0)
    ramp[14, :, 7] = 65535
    calibration = detector((40, 50))
    fixsens, plain = (
        fold(processor, calibration, Mode.UTR, FoldOptions(weighting, tuple(planned)), planned[:15], ramp)
        for weighting in (Weighting.FIXSEN, Weighting.LEAST_SQUARES)
    )
    np.testing.assert_allclose(fixsens.var_rnoise, plain.var_rnoise, rtol=1e-5)
    np.testing.assert_allclose(fixsens.var_poisson, plain.var_poisson, rtol=1e-3)
    np.testing.assert_allclose(fixsens.data, plain.data, atol=1e-4 * float(plain.err.mean()))
    np.testing.assert_array_equal(fixsens.dq, plain.dq)


@pytest.mark.parametrize(("mode", "weighting", "sigma"), FOLDS)
def test_an_option_that_finds_nothing_to_do_changes_no_bit(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    # No pixel saturates, the polynomial is straight, the edges do not drift and rows have no signal of their own.
    shape, times = (17, 131), cadence(8)[: 1 if mode is Mode.SINGLE else 8]
    reads = np.full((len(times), *shape), 1000, np.uint16)
    reads[:, 4:-4, 4:-4] = noisy_ramp(np.random.default_rng(2), times, (9, 123), 40.0)
    plain = FoldOptions(weighting, tuple(cadence(8)), 2, sigma)
    expected = fold(processor, detector(shape, border=4), mode, plain, times, reads)
    assert not (expected.dq[4:-4, 4:-4] & ~np.uint32(Quality.JUMP_DET | Quality.UNRELIABLE_SLOPE)).any()
    corrections = [
        ReferenceCorrection(),
        ReferenceCorrection(interpolated=True),
        ReferenceCorrection(side_columns=SideColumns.MEDIAN),
        ReferenceCorrection(interpolated=True, side_columns=SideColumns.MEDIAN, median_rows=3, alpha=0.5),
        ReferenceCorrection(side_columns=SideColumns.WIENER, gain=np.ones(18)),
    ]
    for grow, noise, reference in itertools.product((False, True), (False, True), corrections):
        chosen = replace(plain, grow_saturation=grow, linearity_noise=noise, reference=reference)
        found = fold(processor, detector(shape, border=4), mode, chosen, times, reads)
        for plane in (*PLANES, "dq"):
            np.testing.assert_array_equal(getattr(found, plane), getattr(expected, plane), err_msg=str(chosen))


UNEVEN = np.array([0.3, 1.0, 1.1, 4.0, 4.5, 6.0, 9.0, 9.2])
COUNTS = st.sampled_from([0, 1, 2, 1000, 1010, 30000, 59999, 60000, 65535])


def used_reads(mode: Mode, planned: Fowler, times: NDArray[np.float64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which reads make the rate: what follows saturation does not, and a 0 costs what cannot do without that read."""
    saturated = np.flatnonzero(counts >= 60000)
    end = int(saturated[0]) if len(saturated) else len(counts)
    before, zeros = np.arange(end), np.flatnonzero(counts[:end] == 0)
    if mode is Mode.CDS and counts[0] != 0:
        return np.setdiff1d(before, zeros)
    between = (times > planned.first_until_s) & (times < planned.last_from_s)
    alone = [k for k in zeros if mode is Mode.MCDS and between[k]]
    ends = np.setdiff1d(zeros, alone)
    return np.setdiff1d(before[: int(ends[0]) if len(ends) else end], alone)


@settings(max_examples=300, deadline=None)
@given(
    counts=st.lists(COUNTS, min_size=1, max_size=8),
    skipped=st.integers(0, 7),
    choice=st.sampled_from([fold_.values for fold_ in FOLDS if fold_.id not in {"SINGLE", "jumps"}]),
)
def test_any_counts_give_the_flags_and_the_rate_of_the_reads_that_can_be_used(
    processor: Processor, counts: list[int], skipped: int, choice: tuple[Mode, Weighting, float]
) -> None:
    mode, weighting, _ = choice
    used = np.delete(np.arange(len(counts)), skipped if skipped < len(counts) > 1 else [])
    times, values = UNEVEN[used], np.array(counts)[used]
    planned = Fowler.planned(UNEVEN, 2)
    good = used_reads(mode, planned, times, values)
    flags = Quality.GOOD
    flags |= Quality.SATURATED if (values >= 60000).any() else Quality.GOOD
    flags |= Quality.AD_FLOOR if (values == 0).any() else Quality.GOOD
    weights = np.zeros(len(good))
    if len(good) >= 2:
        weights = {Mode.CDS: cds.weights, Mode.MCDS: planned.weights}.get(mode, utr.weights)(times[good])
    flags |= Quality.GOOD if weights.any() else Quality.DO_NOT_USE
    reads = np.array(values, np.uint16)[:, None, None] * np.ones((1, 2, 3), np.uint16)
    frame = fold(processor, detector((2, 3)), mode, FoldOptions(weighting, tuple(UNEVEN), 2), times, reads)
    assert (frame.dq == flags).all()
    for plane in PLANES:
        assert np.isfinite(getattr(frame, plane)).all()
    if weighting is Weighting.LEAST_SQUARES or not weights.any():
        rate = float(weights @ values[good])
        np.testing.assert_allclose(frame.data, rate, rtol=1e-5, atol=1e-2 * np.sqrt(np.sum(weights**2)))
        np.testing.assert_allclose(frame.var_rnoise, 25 * np.sum(weights**2), rtol=1e-5)
        photons = max(rate, 0) / 2 * poisson_factor(weights, times[good])
        np.testing.assert_allclose(frame.var_poisson, photons, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("mode", "weighting", "sigma"), FOLDS[1:])
def test_a_zero_is_flagged_after_saturation_too(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float
) -> None:
    times = cadence(6)
    counts = np.array([1000, 1040, 1080, 1120, 60000, 0], np.uint16)
    reads = counts[:, None, None] * np.ones((1, 2, 3), np.uint16)
    frame = fold(processor, detector((2, 3)), mode, options_of(weighting, sigma, cadence(6)), times, reads)
    assert (frame.dq & (Quality.SATURATED | Quality.AD_FLOOR) == Quality.SATURATED | Quality.AD_FLOOR).all()


#: A ramp that rises by 40 DN a second up to its fourth read, then by 60; and the slope of some of its reads.
BENT = np.array([1000, 1040, 1080, 1120, 1180, 1240, 1300, 1360])


def slope(first: int, last: int) -> float:
    return float(np.polyfit(np.arange(first, last + 1), BENT[first : last + 1], 1)[0])


@pytest.mark.parametrize(
    ("mode", "choices", "rates"),
    [
        (Mode.CDS, {}, {0: 0, 3: 360 / 7, 6: 360 / 7, 7: 300 / 6}),
        (Mode.MCDS, {"group_reads": 2}, {0: 0, 1: 0, 3: 310 / 6, 6: 0, 7: 280 / 5.5}),
        (Mode.UTR, {}, {0: 0, 1: 0, 3: 40, 6: slope(0, 5), 7: slope(0, 6)}),
        (Mode.UTR, {"weighting": Weighting.FIXSEN}, {0: 0, 1: 0, 3: 40, 6: slope(0, 5), 7: slope(0, 6)}),
        (Mode.UTR, {"weighting": Weighting.OPTIMAL}, {0: 0, 1: 0, 3: 40}),
        (Mode.UTR, {"jump_sigma": 1e6}, {0: slope(1, 7), 3: (2 * 40 + 5 * 60) / 7, 7: slope(0, 6)}),
    ],
    ids=["CDS", "MCDS", "UTR", "fixsen", "optimal", "jumps"],
)
def test_what_a_count_of_0_costs_in_a_stream(
    processor: Processor, mode: Mode, choices: dict[str, Any], rates: dict[int, float]
) -> None:
    """By hand: that read alone where the sums can do without it, else all that follow; a rate of 0 is none.

    The segments of the jump test have the weights 2 and 5, their sums of squared times.
    """
    times = np.arange(1.0, 9.0)
    for place, rate in rates.items():
        counts = np.where(np.arange(8) == place, 0, BENT).astype(np.uint16)
        reads = np.repeat(counts, 2).reshape(8, 1, 2)
        frame = fold(
            processor, detector((1, 2)), mode, FoldOptions(planned_times_s=tuple(times), **choices), times, reads
        )
        np.testing.assert_allclose(frame.data, rate, rtol=2e-6)
        assert (frame.dq == Quality.AD_FLOOR | (Quality.GOOD if rate else Quality.DO_NOT_USE)).all()


@pytest.mark.parametrize("value", [0, 65535])
@pytest.mark.parametrize(("mode", "weighting", "sigma"), FOLDS)
def test_a_frame_of_nothing_but_zeros_or_saturation_has_no_rate(
    processor: Processor, mode: Mode, weighting: Weighting, sigma: float, value: int
) -> None:
    times = cadence(6)[: 1 if mode is Mode.SINGLE else 6]
    reads = np.full((len(times), 2, 3), value, np.uint16)
    frame = fold(processor, detector((2, 3)), mode, options_of(weighting, sigma, cadence(6)), times, reads)
    flags = Quality.DO_NOT_USE | (Quality.SATURATED if value else Quality.AD_FLOOR)
    flags |= Quality.UNRELIABLE_SLOPE if mode is Mode.SINGLE else Quality.GOOD
    assert (frame.dq == flags).all()
    assert frame.saturated_fraction == (1.0 if value else 0.0)
    for plane in PLANES:
        np.testing.assert_array_equal(getattr(frame, plane), 0)
