"""Frames of reads that come one by one: a fit of every ramp, or the optimum of a stream, as the sampling says."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.ramps import DT, cadence, dense_likelihood, detector, noisy_ramp
from tests.readout.test_readout_ring import comes_to

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.builders import FrameBuilder, begin_frame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import coadd, frame_of
from irisdrs.readout.estimation import EXACT_READS, Estimation, estimation_of
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.errors import Outage
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality

GAIN, NOISE = 2.0, 5.0
#: With reference pixels on all sides, and an odd number of everything.
SHAPE = (23, 70)

#: The light-sensitive pixels of all reads.
INNER = (slice(None), slice(4, -4), slice(4, -4))

#: (ramp, time in s, counts) of a read.
Reads = list[tuple[int, float, NDArray[np.uint16]]]


def sampling_of(reads: int, ramps: int = 1, mode: SamplingMode = SamplingMode.UTR) -> Sampling:
    return Sampling(mode=mode, reads=reads, ramps=ramps, read_time_s=DT, shape=SHAPE)


def seen(rng: np.random.Generator, reads: int) -> NDArray[np.uint16]:
    """A ramp whose reference pixels see no light."""
    counts = noisy_ramp(rng, cadence(reads), SHAPE, 0.0)
    counts[INNER] = noisy_ramp(rng, cadence(reads), SHAPE, 60.0)[INNER]
    return counts


def taken(reads: int, ramps: int, seed: int = 3) -> Reads:
    """Ramps with cosmic rays, saturated pixels and counts of 0."""
    rng = np.random.default_rng(seed)
    found = []
    for ramp in range(1, ramps + 1):
        counts = seen(rng, reads)
        inner = counts[INNER]
        for y, x in np.argwhere(rng.random(inner.shape[1:]) < 0.05):
            inner[rng.integers(1, reads) :, y, x] += 700
        for y, x in np.argwhere(rng.random(inner.shape[1:]) < 0.03):
            inner[rng.integers(0, reads) :, y, x] = 65535
        inner[rng.random(inner.shape) < 0.003] = 0
        found += [(ramp, float(time), read) for time, read in zip(cadence(reads), counts, strict=True)]
    return found


def built(builder: FrameBuilder, reads: Reads, flags: Quality = Quality.GOOD, *, looking: bool = False) -> RateFrame:
    for ramp, time_s, read in reads:
        builder.fold(ramp, read, time_s)
        if looking:
            builder.live()
    return builder.close(flags)


Begin = Callable[..., FrameBuilder]


@pytest.fixture
def begin(processor: Processor, tmp_path: Path) -> Begin:
    """Begins frames of the detector with reference pixels."""

    def begin_(
        sampling: Sampling,
        estimation: Estimation | None = None,
        *,
        calibration: Calibration | None = None,
        limit_bytes: int = DEFAULT_BYTES,
        live_step: int = 0,
    ) -> FrameBuilder:
        return begin_frame(
            processor,
            Room(limit_bytes, tmp_path),
            calibration or detector(SHAPE, GAIN, NOISE, border=4),
            sampling,
            estimation or estimation_of(sampling),
            live_step,
        )

    return begin_


def assert_same(found: RateFrame, expected: RateFrame) -> None:
    for spec in fields(RateFrame):
        np.testing.assert_array_equal(getattr(found, spec.name), getattr(expected, spec.name), err_msg=spec.name)


def fitted(processor: Processor, reads: Reads, ramps: int, flags: Quality = Quality.GOOD) -> RateFrame:
    """What `Processor.fit` and `coadd` make of the same reads, with offsets that the fit measures itself."""
    calibration = detector(SHAPE, GAIN, NOISE, border=4)
    fits = []
    for ramp in sorted({ramp for ramp, _, _ in reads}):
        counts = np.stack([read for of, _, read in reads if of == ramp])
        fits.append(processor.fit(counts, calibration, np.array([time for of, time, _ in reads if of == ramp])))
    return frame_of(fits[0], calibration, flags) if ramps == 1 else coadd(fits, calibration, flags=flags)[0]


def test_the_sampling_alone_says_how_a_frame_is_made() -> None:
    exact = estimation_of(sampling_of(EXACT_READS))
    assert (exact.name, exact.finds_jumps, exact.mode) == ("LIKELIHOOD", True, Mode.UTR)
    assert exact.fit == FitSettings(Estimator.LIKELIHOOD, jump_test=JumpTest.LIKELIHOOD)
    streamed = estimation_of(sampling_of(EXACT_READS + 1))
    assert (streamed.name, streamed.finds_jumps, streamed.fit) == ("OPTIMAL", False, None)
    assert streamed.fold.weighting is Weighting.OPTIMAL
    np.testing.assert_allclose(streamed.fold.planned_times_s, cadence(EXACT_READS + 1))
    cds = estimation_of(sampling_of(2, mode=SamplingMode.CDS))
    assert (cds.name, cds.finds_jumps, cds.fit, cds.mode) == ("CDS", False, None, Mode.CDS)
    assert cds.fold.weighting is Weighting.LEAST_SQUARES
    assert cds.full_time_s == DT
    assert estimation_of(sampling_of(1)).full_time_s == DT
    assert len({str(one.parameters()) for one in (exact, streamed, cds)}) == 3
    assert exact.parameters()["jump_chi2"] == FitSettings().jump_chi2


@pytest.mark.parametrize("ramps", [1, 3])
@pytest.mark.parametrize("missing", [(), (0, 4, 11, 13)])
def test_a_frame_is_what_the_fit_of_the_same_reads_gives(
    processor: Processor, begin: Begin, ramps: int, missing: tuple[int, ...]
) -> None:
    reads = [read for at, read in enumerate(taken(7, ramps)) if at not in missing]
    flags = Quality.DROPOUT if missing else Quality.GOOD
    frame = built(begin(sampling_of(7, ramps)), reads, flags)
    assert_same(frame, fitted(processor, reads, ramps, flags))
    for flag in (Quality.JUMP_DET, Quality.SATURATED, Quality.AD_FLOOR, Quality.REFERENCE_PIXEL):
        assert (frame.dq & flag).any()
    assert ((frame.dq & Quality.DROPOUT) != 0).all() == bool(missing)
    assert 0 < frame.saturated_fraction < 0.2


@pytest.mark.parametrize("ramps", [1, 3])
@pytest.mark.parametrize("exact_reads", [EXACT_READS, 0])
def test_memory_files_and_looks_give_the_same_bytes(begin: Begin, ramps: int, exact_reads: int) -> None:
    sampling, reads = sampling_of(7, ramps), taken(7, ramps)
    estimation = estimation_of(sampling, exact_reads)
    frame = built(begin(sampling, estimation), reads)
    assert_same(built(begin(sampling, estimation, limit_bytes=0), reads), frame)
    half = 7 * SHAPE[0] * SHAPE[1] * 2 + 4000  # the ring is in memory, fits are not
    assert_same(built(begin(sampling, estimation, limit_bytes=half), reads), frame)
    assert_same(built(begin(sampling, estimation, live_step=1), reads, looking=True), frame)
    assert_same(built(begin(sampling, estimation, live_step=3), reads, looking=True), frame)


def test_more_reads_than_can_be_kept_are_the_optimum_of_the_stream(processor: Processor, begin: Begin) -> None:
    sampling = sampling_of(EXACT_READS + 1, 2)
    reads = [read for at, read in enumerate(taken(EXACT_READS + 1, 2)) if at not in (0, 30, 200)]
    frame = built(begin(sampling), reads, Quality.DROPOUT)
    options = FoldOptions(Weighting.OPTIMAL, tuple(cadence(EXACT_READS + 1)))
    state = processor.open(detector(SHAPE, GAIN, NOISE, border=4), Mode.UTR, EXACT_READS * DT, options)
    for at, (ramp, time_s, read) in enumerate(reads):
        if at and ramp != reads[at - 1][0]:
            processor.end_ramp(state)
        processor.fold(state, read, time_s)
    assert_same(frame, processor.close(state, Quality.DROPOUT))
    assert not (frame.dq & Quality.JUMP_DET).any()


@pytest.mark.parametrize("step", [1, 2, 5])
def test_a_look_is_every_so_many_pixels_of_least_squares_so_far(processor: Processor, begin: Begin, step: int) -> None:
    reads = taken(5, 2)
    builder = begin(sampling_of(5, 2), live_step=step)
    state = processor.open(detector(SHAPE, GAIN, NOISE, border=4), Mode.UTR, 4 * DT)
    for at, (ramp, time_s, read) in enumerate(reads):
        if at and ramp != reads[at - 1][0]:
            processor.end_ramp(state)
        processor.fold(state, read, time_s)
        builder.fold(ramp, read, time_s)
        expected = processor.live(state)
        found = builder.live()
        for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[::step, ::step])
    assert found.saturated_fraction > 0


def test_nothing_is_folded_for_looks_that_nobody_takes(begin: Begin) -> None:
    builder = begin(sampling_of(2))
    builder.fold(1, np.full(SHAPE, 5000, np.uint16), DT)
    with pytest.raises(RuntimeError, match="no live step"):
        builder.live()


@pytest.mark.parametrize("first_ramp", [[0], []])
def test_a_ramp_with_one_read_or_none_adds_nothing(begin: Begin, first_ramp: list[int]) -> None:
    reads = taken(6, 2)
    kept = [reads[at] for at in first_ramp] + reads[6:]
    frame = built(begin(sampling_of(6, 2)), kept)
    alone = built(begin(sampling_of(6, 1)), reads[6:])
    for name in ("data", "err", "var_poisson", "var_rnoise"):
        np.testing.assert_allclose(getattr(frame, name), getattr(alone, name), rtol=1e-6)
    # What one read shows of a pixel, saturated or 0, is known all the same.
    shown = np.zeros(SHAPE, np.uint32)
    for at in first_ramp:
        counts = reads[at][2]
        shown[counts >= 60000] |= np.uint32(Quality.SATURATED)
        shown[counts == 0] |= np.uint32(Quality.AD_FLOOR)
    np.testing.assert_array_equal(frame.dq, alone.dq | shown)


@pytest.mark.parametrize("ramps", [1, 2])
@pytest.mark.parametrize("case", ["one read", "saturated", "zero"])
def test_a_frame_without_any_rate_is_zero_and_says_so(begin: Begin, ramps: int, case: str) -> None:
    count = {"one read": 5000, "saturated": 65535, "zero": 0}[case]
    number = 1 if case == "one read" else 4
    reads = [
        (ramp, k * DT, np.full(SHAPE, count, np.uint16)) for ramp in range(1, ramps + 1) for k in range(1, 1 + number)
    ]
    frame = built(begin(sampling_of(4, ramps)), reads)
    for name in ("data", "err", "var_poisson", "var_rnoise"):
        np.testing.assert_array_equal(getattr(frame, name), 0)
    flag = {"one read": Quality.GOOD, "saturated": Quality.SATURATED, "zero": Quality.AD_FLOOR}[case]
    expected = detector(SHAPE, border=4).dq | np.uint32(Quality.DO_NOT_USE) | np.uint32(flag)
    np.testing.assert_array_equal(frame.dq, expected)
    assert frame.saturated_fraction == (case == "saturated")


def test_an_exposure_without_a_read_has_no_frame(begin: Begin) -> None:
    with pytest.raises(RuntimeError, match="without a read"):
        begin(sampling_of(4)).close()


def test_planes_mean_what_those_of_the_stream_mean(begin: Begin) -> None:
    # The same estimator in both, on ramps without jumps: what differs is only how it is written.
    sampling, rng = sampling_of(6), np.random.default_rng(8)
    counts = seen(rng, 6)
    for y, x in np.argwhere(rng.random(counts[INNER].shape[1:]) < 0.1):
        counts[INNER][rng.integers(0, 6) :, y, x] = 65535
    reads: Reads = [(1, float(time), read) for time, read in zip(cadence(6), counts, strict=True)]
    gain = rng.uniform(1, 3, SHAPE).astype(np.float32)
    gain[5, 5:9] = np.nan
    calibration = _with_gain(gain)
    exact = estimation_of(sampling)
    plain = replace(exact, fit=FitSettings(Estimator.LEAST_SQUARES, jump_test=JumpTest.NONE))
    found = built(begin(sampling, plain, calibration=calibration), reads)
    streamed = built(begin(sampling, replace(exact, fit=None, fold=FoldOptions()), calibration=calibration), reads)
    np.testing.assert_array_equal(found.dq, streamed.dq)
    assert found.saturated_fraction == streamed.saturated_fraction
    for name in ("data", "err", "var_poisson", "var_rnoise"):
        np.testing.assert_allclose(getattr(found, name), getattr(streamed, name), rtol=2e-5, atol=2e-4)
    np.testing.assert_allclose(found.err**2, found.var_poisson + found.var_rnoise, rtol=1e-5)
    assert ((found.dq & Quality.NO_GAIN_VALUE) != 0).sum() == 4
    assert ((found.dq & Quality.DO_NOT_USE) != 0)[INNER[1:]].sum() > 20
    assert 0.05 < found.saturated_fraction < 0.15


def _with_gain(gain: NDArray[np.float32]) -> Calibration:
    flags = np.zeros(SHAPE, np.uint32)
    flags[9, 9] = Quality.HOT | Quality.DO_NOT_USE
    return detector(SHAPE, noise=NOISE, border=4, gain=gain, mask=flags)


def test_uneven_and_late_times_are_the_whole_covariance_of_these_times(begin: Begin) -> None:
    rng = np.random.default_rng(4)
    times = np.array([0.72, 1.3, 3.9, 4.6, 9.0, 9.7])  # late ones, and a gap
    counts = noisy_ramp(rng, times, SHAPE, 40.0)
    estimation = replace(estimation_of(sampling_of(6)), fit=FitSettings(jump_test=JumpTest.NONE))
    bare = detector(SHAPE, GAIN, NOISE)
    reads = [(1, float(time), read) for time, read in zip(times, counts, strict=True)]
    frame = built(begin(sampling_of(6), estimation, calibration=bare), reads)
    noise = np.full(6, NOISE**2)
    for y, x in ((0, 0), (3, 11), (22, 69), (11, 40)):
        values = counts[:, y, x].astype(np.float64)
        dense, _ = dense_likelihood(values, times, noise, np.ones(5, np.bool_), GAIN)
        assert frame.data[y, x] == pytest.approx(dense.rate, rel=1e-4)
        assert frame.var_rnoise[y, x] == pytest.approx(dense.rnoise, rel=1e-3)
        assert frame.var_poisson[y, x] == pytest.approx(dense.poisson * max(dense.rate, 0), rel=1e-3)
    pull = (frame.data - 40.0) / frame.err
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * pull.size))


@pytest.mark.parametrize("ramps", [1, 2])
def test_cosmic_rays_are_flagged_and_bend_no_rate(begin: Begin, ramps: int) -> None:
    rng, rate = np.random.default_rng(9), 40.0
    bare = detector(SHAPE, GAIN, NOISE)
    hit = rng.random(SHAPE) < 0.3
    reads: Reads = []
    for ramp in range(1, ramps + 1):
        counts = noisy_ramp(rng, cadence(12), SHAPE, rate)
        if ramp == 1:
            for y, x in np.argwhere(hit):
                counts[rng.integers(1, 12) :, y, x] += 150  # 20 standard deviations of a difference
        reads += [(ramp, float(time), read) for time, read in zip(cadence(12), counts, strict=True)]
    frame = built(begin(sampling_of(12, ramps), calibration=bare), reads)
    flagged = (frame.dq & Quality.JUMP_DET) != 0
    assert flagged[hit].mean() > 0.99
    assert flagged[~hit].mean() < 0.01
    for pixels in (hit, ~hit):
        pull = ((frame.data - rate) / frame.err)[pixels]
        assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
        assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * pull.size) + 0.02)
    # The sums of a stream would be bent: the test would see it.
    bent = built(begin(sampling_of(12, ramps), estimation_of(sampling_of(12, ramps), 0), calibration=bare), reads)
    assert np.mean(((bent.data - rate) / bent.err)[hit]) > 3


def test_what_waits_is_given_back_with_the_frame(processor: Processor, tmp_path: Path) -> None:
    room, sampling = Room(DEFAULT_BYTES, tmp_path), sampling_of(5, 3)
    calibration = detector(SHAPE, GAIN, NOISE, border=4)
    builder = begin_frame(processor, room, calibration, sampling, estimation_of(sampling), 1)
    assert comes_to(room, 0)
    ring = 5 * SHAPE[0] * SHAPE[1] * 2
    planes = 4, 4, 4, 4, 4, 2  # rate, two variances, time, flags, number of differences; each from a multiple of 16 on
    fit = sum(-(-SHAPE[0] * SHAPE[1] * size // 16) * 16 for size in planes)
    taking = []
    for ramp, time_s, read in taken(5, 3):
        builder.fold(ramp, read, time_s)
        taking.append(room.in_memory_bytes)
    assert taking == [ring] * 5 + [ring + fit] * 5 + [ring + 2 * fit] * 5
    builder.close()
    assert comes_to(room, 0)
    given_up = begin_frame(processor, room, calibration, sampling, estimation_of(sampling), 1)
    given_up.fold(1, np.full(SHAPE, 5000, np.uint16), DT)
    assert comes_to(room, ring)
    del given_up
    assert comes_to(room, 0)


def test_no_room_is_said(processor: Processor, tmp_path: Path) -> None:
    sampling = sampling_of(5)
    room = Room(0, tmp_path / "gone")
    builder = begin_frame(processor, room, detector(SHAPE), sampling, estimation_of(sampling))
    with pytest.raises(Outage, match="no room in"):
        builder.fold(1, np.full(SHAPE, 5000, np.uint16), DT)


def test_hundreds_of_ramps_are_added(begin: Begin) -> None:
    rng = np.random.default_rng(6)
    reads = [
        (ramp, float(time), read)
        for ramp in range(1, 257)
        for time, read in zip(cadence(2), noisy_ramp(rng, cadence(2), SHAPE, 40.0), strict=True)
    ]
    frame = built(begin(sampling_of(2, 256), calibration=detector(SHAPE, GAIN, NOISE)), reads)
    assert not frame.dq.any()
    pull = (frame.data - 40.0) / frame.err
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * pull.size))


def test_groups_have_a_picture_before_the_last_one_begins(begin: Begin) -> None:
    """By least squares of the reads so far; the frame does not notice."""
    groups = sampling_of(9, 2, SamplingMode.MCDS).model_copy(update={"group_reads": 3})
    reads, plain = taken(9, 2), begin(sampling_of(9, 2, SamplingMode.UTR), streamed(9, 2))
    watched = begin(groups, live_step=1)
    for ramp, time_s, read in reads:
        watched.fold(ramp, read, time_s)
        plain.fold(ramp, read, time_s)
        assert_same(watched.live(), plain.live())
    assert_same(watched.close(), built(begin(groups), reads))


def streamed(reads: int, ramps: int) -> Estimation:
    """Least squares in a stream."""
    return replace(estimation_of(sampling_of(reads, ramps)), fit=None, fold=FoldOptions())
