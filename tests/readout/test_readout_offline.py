"""Offline sampling: ramps whose rate is known exactly, in every mode; what is left out; what cannot be done."""

import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.table import Table
from numpy.typing import NDArray
from tests.readout.ramps import detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.coadding import RampWeights, SummedFrame
from irisdrs.readout.exposure_reads import ExposureReads, RampReads, Rejection, leave_out
from irisdrs.readout.fitting import FitSettings, JumpTest
from irisdrs.readout.offline import Choices, UtrEstimator, default_estimator, fit_settings, sample, settle
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

SHAPE = (3, 5)
READS = 12
DT = 0.75
TIMES: NDArray[np.float64] = np.arange(1, READS + 1).astype(np.float64) * DT
#: DN of every pixel in one read time, whole numbers.
STEP = np.arange(1, 16).reshape(SHAPE) * 20
RATE = STEP / DT
PEDESTAL = 4000


def straight(times: NDArray[np.float64] = TIMES, pedestal: int = PEDESTAL) -> NDArray[np.uint16]:
    """A ramp without noise, whole counts."""
    return np.asarray(pedestal + np.rint(times / DT)[:, None, None] * STEP, np.uint16)


def exposure(*ramps: NDArray[np.uint16], times: NDArray[np.float64] = TIMES, gap_s: float = 20.0) -> ExposureReads:
    """An exposure of ramps that are reset every so many seconds."""
    reads = tuple(RampReads.whole(ramp, times, index * gap_s) for index, ramp in enumerate(ramps))
    return ExposureReads(reads, (ramps[0].shape[1], ramps[0].shape[2]), {}, {}, sum(map(len, ramps)))


def settled(choices: Choices, reads: int = READS) -> Choices:
    """What is chosen for a ramp of so many reads of which nothing is left out."""
    times = np.arange(1.0, reads + 1)
    return settle(choices, exposure(np.ones((reads, 1, 1), np.uint16), times=times))


def table(path: Path, *rows: tuple[float, float]) -> Path:
    """Telemetry in seconds since the reset."""
    Table(rows=rows, names=("time", "value")).write(path, format="ascii.ecsv", overwrite=True)
    return path


ALL = [
    Choices(Mode.CDS),
    Choices(Mode.MCDS, group_reads=3),
    Choices(Mode.UTR),
    Choices(Mode.UTR, UtrEstimator.LIKELIHOOD, jumps=JumpTest.NONE),
    Choices(Mode.UTR, UtrEstimator.LEAST_SQUARES),
    Choices(Mode.UTR, UtrEstimator.LEAST_SQUARES, jumps=JumpTest.TWO_POINT),
    Choices(Mode.UTR, UtrEstimator.FIXSEN),
    Choices(Mode.UTR, UtrEstimator.FIXSEN, jumps=JumpTest.LIKELIHOOD),
    Choices(Mode.UTR, UtrEstimator.OPTIMAL),
]
NAMES = [f"{one.mode}-{one.estimator}-{one.jumps}" for one in ALL]


@pytest.mark.parametrize("choices", ALL, ids=NAMES)
def test_a_straight_ramp_has_its_slope_in_every_mode(processor: Processor, choices: Choices) -> None:
    for ramps in (1, 3):
        given = exposure(*(straight(pedestal=PEDESTAL + 100 * k) for k in range(ramps)))
        frame = sample(processor, given, detector(SHAPE), settled(choices))
        np.testing.assert_allclose(frame.data, RATE, rtol=1e-6)
        assert (frame.dq == 0).all()
        assert (frame.err > 0).all()


def test_a_single_read_is_its_level_by_its_time_and_the_last_one_is_taken(processor: Processor) -> None:
    frame = sample(processor, exposure(straight()), detector(SHAPE), settled(Choices(Mode.SINGLE)))
    np.testing.assert_allclose(frame.data, (PEDESTAL + READS * STEP) / TIMES[-1], rtol=1e-6)
    assert (frame.dq == Quality.UNRELIABLE_SLOPE).all()
    one = exposure(straight()[:1], times=TIMES[:1])
    alone = sample(processor, one, detector(SHAPE), settled(Choices(Mode.SINGLE), 1))
    np.testing.assert_allclose(alone.data, (PEDESTAL + STEP) / DT, rtol=1e-6)


@pytest.mark.parametrize("choices", ALL, ids=NAMES)
def test_a_rejected_read_costs_nothing_whatever_is_in_it(
    processor: Processor, tmp_path: Path, choices: Choices
) -> None:
    ramp = straight()
    ramp[4] = 60001  # saturated, were it used
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (TIMES[4] - 0.1, 1.4), (TIMES[4] + 0.1, 0.6))
    given = leave_out(exposure(ramp), Rejection(reads=bad, maximum=0.8))
    assert (given.number, given.used, given.rejected_intervals) == (READS, READS - 1, 0)
    frame = sample(processor, given, detector(SHAPE), settled(choices))
    np.testing.assert_allclose(frame.data, RATE, rtol=1e-6)
    assert (frame.dq == 0).all()


@pytest.mark.parametrize("choices", ALL[:-1], ids=NAMES[:-1])
def test_a_rejected_interval_takes_its_light_along(processor: Processor, tmp_path: Path, choices: Choices) -> None:
    """Twice the light in two intervals of poor seeing: the slope of the others is exact, in two segments."""
    ramp = straight()
    ramp[5:] += (2 * STEP).astype(np.uint16)
    ramp[6:] += STEP.astype(np.uint16)
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (TIMES[4] + 0.1, 1.4), (TIMES[6] - 0.1, 0.6))
    given = leave_out(exposure(ramp), Rejection(intervals=bad, maximum=0.8))
    assert (given.used, given.rejected_intervals) == (READS, 2)
    frame = sample(processor, given, detector(SHAPE), settled(choices))
    np.testing.assert_allclose(frame.data, RATE, rtol=1e-6)
    assert (frame.dq == 0).all()


def test_rejected_intervals_leave_no_bias_in_noise(processor: Processor, tmp_path: Path) -> None:
    """1 % of an error of the mean of 20,000 pixels is far below the 30 % that a third more light would make."""
    rng = np.random.default_rng(5)
    shape, rate = (100, 200), 40.0
    ramp = noisy_ramp(rng, TIMES, shape, rate)
    ramp[6:] += rng.poisson(60, shape).astype(np.uint16)
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (TIMES[5] + 0.1, 1.4), (TIMES[6] - 0.1, 0.6))
    given = leave_out(exposure(ramp), Rejection(intervals=bad, maximum=0.8))
    choices = settled(Choices(Mode.UTR, jumps=JumpTest.NONE))
    kept = sample(processor, given, detector(shape), choices)
    spoilt = sample(processor, exposure(ramp), detector(shape), choices)
    error = float(kept.err.mean()) / np.sqrt(kept.data.size)
    assert abs(float(kept.data.mean()) - rate) < 5 * error
    assert float(spoilt.data.mean()) - rate > 50 * error


def test_times_of_telemetry_go_on_from_ramp_to_ramp(tmp_path: Path) -> None:
    """Poor seeing from 20 s on is all of the second ramp, which is reset then."""
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (20, 1.4))
    given = leave_out(exposure(straight(), straight(), gap_s=20.0), Rejection(reads=bad, maximum=0.8))
    assert [ramp.use_read.sum() for ramp in given.ramps] == [READS, 0]


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([(-60.0, 0.5), (-1.0, 0.7)], "-60 to -1 s after the reset, the exposure 0 to 9 s after the reset: the last"),
        ([(-60.0, 0.5), (-1.0, 0.7)], "value, 0.7, is taken for all of it, and nothing was left out."),
        ([(-60.0, 0.5), (-1.0, 1.4)], "value, 1.4, is taken for all of it, and all of it was left out."),
        ([(9.5, 1.4), (60.0, 1.4)], "9.5 to 60 s after the reset, .*nothing is known of it, and nothing was left out."),
        ([(1.0, np.nan)], "seeing.ecsv has no value: nothing was left out."),
    ],
)
def test_telemetry_of_another_time_says_so(tmp_path: Path, rows: list[tuple[float, float]], warning: str) -> None:
    """The exposure is from the reset to the end of its last read, 9 s later."""
    seeing = table(tmp_path / "seeing.ecsv", *rows)
    (said,) = leave_out(exposure(straight()), Rejection(intervals=seeing, maximum=0.8)).warnings
    assert re.search(warning, said), said
    if rows[-1] == (-1.0, 1.4):
        with pytest.raises(Fatal, match=f"rejects all 12 reads.*{warning}"):
            leave_out(exposure(straight()), Rejection(reads=seeing, maximum=0.8))
    else:
        assert leave_out(exposure(straight()), Rejection(reads=seeing, maximum=0.8)).warnings == (said,)


def test_telemetry_of_the_time_of_the_exposure_needs_no_warning(tmp_path: Path) -> None:
    for rows in ([(0.0, 0.5)], [(9.0, 0.5)], [(-5.0, 0.5), (5.0, 0.5)], [(-5.0, 0.5), (50.0, 0.5)]):
        seeing = table(tmp_path / "seeing.ecsv", *rows)
        assert leave_out(exposure(straight()), Rejection(reads=seeing, maximum=0.8)).warnings == ()


def test_a_ramp_without_a_read_left_does_not_count(processor: Processor, tmp_path: Path) -> None:
    spoilt = straight() + np.arange(READS, dtype=np.uint16)[:, None, None] * 500
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (20, 1.4))
    for choices in (Choices(Mode.UTR), Choices(Mode.UTR, UtrEstimator.OPTIMAL), Choices(Mode.CDS)):
        given = leave_out(exposure(straight(), spoilt), Rejection(reads=bad, maximum=0.8))
        frame = sample(processor, given, detector(SHAPE), settled(choices))
        np.testing.assert_allclose(frame.data, RATE, rtol=1e-6)


def test_ramps_are_added_by_variance_or_by_time(processor: Processor) -> None:
    """A ramp of 12 reads at 1, one of 3 reads at 2 of the rate: weights by time are 11 and 2."""
    short = straight()[:3] + np.arange(3, dtype=np.uint16)[:, None, None] * STEP.astype(np.uint16)
    both = exposure(straight(), short)
    both = replace(both, ramps=(both.ramps[0], RampReads.whole(short, TIMES[:3], 20.0)))
    by_time = settled(Choices(Mode.UTR, weights=RampWeights.TIME, jumps=JumpTest.NONE))
    mean = sample(processor, both, detector(SHAPE), by_time).data
    np.testing.assert_allclose(mean, RATE * (11 * 1 + 2 * 2) / 13, rtol=1e-6)
    by_variance = settled(Choices(Mode.UTR, jumps=JumpTest.NONE))
    weighted = sample(processor, both, detector(SHAPE), by_variance).data
    # Read noise falls as the cube of a ramp's length: the short one counts less than its time.
    assert (weighted < mean).all()
    assert (weighted > RATE).all()


@pytest.mark.parametrize("choices", ALL[:-1], ids=NAMES[:-1])
def test_summed_ramps_are_the_signal_of_their_good_time(processor: Processor, tmp_path: Path, choices: Choices) -> None:
    """Of 11 intervals of the first ramp 2 are left out; one ramp alone is summed as well."""
    bad = table(tmp_path / "seeing.ecsv", (0, 0.5), (TIMES[4] + 0.1, 1.4), (TIMES[6] - 0.1, 0.6))
    for ramps in (1, 2):
        given = leave_out(exposure(*[straight()] * ramps), Rejection(intervals=bad, maximum=0.8))
        frame = sample(processor, given, detector(SHAPE), settled(replace(choices, weights=RampWeights.SUM)))
        assert isinstance(frame, SummedFrame)
        np.testing.assert_allclose(frame.data, frame.time_s * RATE, rtol=1e-6)
        np.testing.assert_allclose(frame.data, (9 + 11 * (ramps - 1)) * STEP, rtol=1e-6)


def test_a_cosmic_ray_is_found_by_both_tests(processor: Processor) -> None:
    ramp = straight()
    ramp[6:, 1, 2] += 2000
    for test in (JumpTest.LIKELIHOOD, JumpTest.TWO_POINT):
        frame = sample(processor, exposure(ramp), detector(SHAPE), settled(Choices(Mode.UTR, jumps=test)))
        np.testing.assert_allclose(frame.data, RATE, rtol=1e-6)
        assert np.argwhere(frame.dq).tolist() == [[1, 2]]
        assert frame.dq[1, 2] == Quality.JUMP_DET
    deaf = settled(Choices(Mode.UTR, jumps=JumpTest.LIKELIHOOD, jump_sigma=1000.0))
    missed = sample(processor, exposure(ramp), detector(SHAPE), deaf)
    assert missed.data[1, 2] > 1.1 * RATE[1, 2]
    assert not (missed.dq & np.uint32(Quality.JUMP_DET)).any()


@pytest.mark.parametrize("estimator", [UtrEstimator.LIKELIHOOD, UtrEstimator.OPTIMAL])
def test_saturation_grows_to_the_neighbours_and_changes_nothing_that_it_was_given(
    processor: Processor, estimator: UtrEstimator
) -> None:
    ramp = straight()
    ramp[8:, 0, 0] = 65535
    before = ramp.copy()
    for grow, near in ((False, [[0, 0]]), (True, [[0, 0], [0, 1], [1, 0], [1, 1]])):
        choices = settled(Choices(Mode.UTR, estimator, grow_saturation=grow))
        frame = sample(processor, exposure(ramp), detector(SHAPE), choices)
        assert np.argwhere(frame.dq == Quality.SATURATED).tolist() == near
        # The four sums of a ramp that is cut short cancel to a few units of float32.
        np.testing.assert_allclose(frame.data, RATE, rtol=5e-6)
    np.testing.assert_array_equal(ramp, before)


def test_growing_saturation_leaves_the_reference_pixels_as_they_were_read(processor: Processor) -> None:
    """A saturated pixel beside the border must not lift the offset of its channel."""
    shape = (16, 16)
    ramp = np.full((4, *shape), 1000, np.uint16)
    ramp += np.arange(4, dtype=np.uint16)[:, None, None] * 7  # the offset drifts with every read
    ramp[:, 4:12, 4:12] += np.arange(4, dtype=np.uint16)[:, None, None] * 30
    ramp[2:, 4, 6] = 65535
    calibration = detector(shape, border=4)
    choices = settled(Choices(Mode.UTR, grow_saturation=True), 4)
    frame = sample(processor, exposure(ramp, times=TIMES[:4]), calibration, choices)
    np.testing.assert_allclose(frame.data[4:12, 4:12], 30 / DT, rtol=1e-5)


def test_missing_reads_are_dropouts(processor: Processor) -> None:
    given = replace(exposure(straight()), expected=READS + 1)
    for choices in (Choices(Mode.UTR), Choices(Mode.UTR, UtrEstimator.OPTIMAL)):
        frame = sample(processor, given, detector(SHAPE), settled(choices))
        assert (frame.dq == Quality.DROPOUT).all()


def test_every_used_read_is_counted(processor: Processor) -> None:
    for choices, expected in ((Choices(Mode.UTR), 2 * READS), (Choices(Mode.SINGLE), 2)):
        taken = itertools.count()
        sample(processor, exposure(straight(), straight()), detector(SHAPE), settled(choices), taken.__next__)
        assert next(taken) == expected


def test_what_is_chosen_when_nothing_is_said() -> None:
    assert default_estimator(150) is UtrEstimator.LIKELIHOOD
    assert default_estimator(151) is UtrEstimator.OPTIMAL
    assert fit_settings(settled(Choices(Mode.UTR))) == FitSettings(
        fowler_reads=1, jump_sigma=4.5, jump_sigma_three=5.5, jump_sigma_two=6.5
    ), "the likelihood's own limit is that of the service: 20.25"
    two_point = fit_settings(settled(Choices(Mode.UTR, jumps=JumpTest.TWO_POINT)))
    assert (two_point.jump_sigma, two_point.jump_sigma_three, two_point.jump_sigma_two) == (4.0, 5.0, 6.0)
    long = settled(Choices(Mode.UTR), 151)
    assert (long.estimator, long.jumps, long.weights) == (UtrEstimator.OPTIMAL, JumpTest.NONE, RampWeights.TIME)
    assert settled(Choices(Mode.CDS), 2).jumps is JumpTest.NONE
    assert settled(Choices(Mode.UTR, jumps=JumpTest.TWO_POINT), 151).estimator is UtrEstimator.LIKELIHOOD
    assert settled(Choices(Mode.UTR, weights=RampWeights.VARIANCE), 151).estimator is UtrEstimator.LIKELIHOOD
    assert settled(Choices(Mode.UTR, weights=RampWeights.SUM), 151).estimator is UtrEstimator.LIKELIHOOD
    long_ramp = exposure(np.ones((151, 1, 1), np.uint16), times=np.arange(151.0))
    long_ramp.ramps[0].use_interval[7] = False
    assert settle(Choices(Mode.UTR), long_ramp).estimator is UtrEstimator.LIKELIHOOD, "a fold leaves out no interval"


@pytest.mark.parametrize(
    ("choices", "reason"),
    [
        (Choices(Mode.CDS, UtrEstimator.FIXSEN), "fixsen is an estimator of UTR, not of CDS.* --mode UTR"),
        (Choices(Mode.UTR, group_reads=2), "for MCDS alone.* --mode MCDS"),
        (Choices(Mode.MCDS), "needs the number of reads in a group. Give --group-reads 6"),
        (Choices(Mode.SINGLE, jumps=JumpTest.LIKELIHOOD), "no jump test with single. Leave out --jumps.$"),
        (Choices(Mode.UTR, UtrEstimator.OPTIMAL, jumps=JumpTest.TWO_POINT), "with optimal.* --estimator likelihood"),
        (Choices(Mode.CDS, jump_sigma=4.0), "a limit, but no jump test.* --jumps two-point"),
        (Choices(Mode.UTR, jump_sigma=np.inf), "inf sigma is no limit.* --jump-threshold between 0 and"),
        (Choices(Mode.UTR, jump_sigma=np.nan), "nan sigma is no limit"),
        (Choices(Mode.UTR, jump_sigma=1e300), r"1e\+300 sigma is no limit"),
        (Choices(Mode.UTR, jump_sigma=-4.0), "-4.0 sigma is no limit"),
        (Choices(Mode.SINGLE, weights=RampWeights.VARIANCE), "added by time with single, .*. Leave out --coadd.$"),
        (Choices(Mode.SINGLE, weights=RampWeights.SUM), "by time with single, and averaged. Leave out --coadd.$"),
        (Choices(Mode.UTR, UtrEstimator.OPTIMAL, weights=RampWeights.SUM), "by time with optimal.* --estimator like"),
    ],
)
def test_choices_that_do_not_go_together_say_why(choices: Choices, reason: str) -> None:
    with pytest.raises(Fatal, match=reason):
        settled(choices)


def test_too_few_reads_say_so(processor: Processor, tmp_path: Path) -> None:
    one = exposure(straight()[:1], times=TIMES[:1])
    for choices in (Choices(Mode.UTR), Choices(Mode.UTR, UtrEstimator.OPTIMAL), Choices(Mode.CDS)):
        with pytest.raises(Fatal, match=r"A slope needs two reads.* --mode SINGLE"):
            sample(processor, one, detector(SHAPE), settled(choices, 1))
    with pytest.raises(Fatal, match=r"Two groups of 7 reads do not fit into the 12 reads.* --group-reads from 1 to 6"):
        sample(processor, exposure(straight()), detector(SHAPE), settled(Choices(Mode.MCDS, group_reads=7)))
    poor = table(tmp_path / "seeing.ecsv", (0, 1.4))
    with pytest.raises(Fatal, match="rejects all 12 reads"):
        leave_out(exposure(straight()), Rejection(reads=poor, maximum=0.8))
    nothing = leave_out(exposure(straight()), Rejection(intervals=poor, maximum=0.8))
    for choices in (Choices(Mode.UTR), Choices(Mode.CDS)):
        with pytest.raises(Fatal, match=r"No interval between reads is left.*\. Loosen --minimum or --maximum"):
            sample(processor, nothing, detector(SHAPE), settled(choices))
    for choices, instead in (
        (Choices(Mode.SINGLE), "--mode UTR"),
        (Choices(Mode.UTR, UtrEstimator.OPTIMAL), "--estimator likelihood"),
    ):
        with pytest.raises(Fatal, match=f"cannot leave out intervals.* Take {instead}, or --reject-reads"):
            sample(processor, nothing, detector(SHAPE), settled(choices))
    many = exposure(*[straight()[:2]] * 256, times=TIMES[:2])
    with pytest.raises(Fatal, match="256 ramps cannot be added"):
        sample(processor, many, detector(SHAPE), settled(Choices(Mode.CDS), 2))


def test_bounds_and_tables_go_together(tmp_path: Path) -> None:
    seeing = table(tmp_path / "seeing.ecsv", (0, 1.4))
    for rejection, reason in (
        (Rejection(reads=seeing), "rejects nothing without a bound"),
        (Rejection(maximum=0.8), "no table"),
        (Rejection(reads=seeing, minimum=0.0, maximum=np.nan), "A bound is no number"),
        (Rejection(intervals=seeing, minimum=np.nan, maximum=1.0), "A bound is no number"),
        (Rejection(minimum=np.nan), "A bound is no number"),
        (Rejection(reads=seeing, minimum=2.0, maximum=1.0), "No value lies between"),
    ):
        with pytest.raises(Fatal, match=reason):
            leave_out(exposure(straight()), rejection)
    unknown = exposure(straight(), straight(), gap_s=np.nan)
    with pytest.raises(Fatal, match="resets of 2 ramps are not known"):
        leave_out(unknown, Rejection(reads=seeing, maximum=0.8))
