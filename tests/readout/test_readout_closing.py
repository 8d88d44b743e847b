"""The only ramp of an exposure becomes the frame in its own planes: the same bits, without memory for another frame."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.ramps import detector

from irisdrs.readout.backend import ExposureState, Processor, RateFrame
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

PLANES = ("data", "err", "var_poisson", "var_rnoise", "dq")
TIMES = np.array([0.7, 1.5, 2.2, 3.0, 3.9, 4.5])
PLANNED = tuple(map(float, TIMES))
#: More rows than a thread takes at a time, and no multiple of anything.
SHAPE = (281, 38)
FOLDS = [
    pytest.param(Mode.SINGLE, FoldOptions(), 8, id="SINGLE"),
    pytest.param(Mode.CDS, FoldOptions(), 8, id="CDS"),
    pytest.param(Mode.MCDS, FoldOptions(planned_times_s=PLANNED, group_reads=2), 8, id="MCDS"),
    pytest.param(Mode.UTR, FoldOptions(), 8, id="UTR"),
    pytest.param(Mode.UTR, FoldOptions(jump_sigma=5.0), 0, id="jumps"),
    pytest.param(Mode.UTR, FoldOptions(Weighting.FIXSEN, PLANNED), 0, id="fixsen"),
    pytest.param(Mode.UTR, FoldOptions(Weighting.OPTIMAL, PLANNED), 0, id="optimal"),
    pytest.param(Mode.UTR, FoldOptions(Weighting.OPTIMAL, PLANNED[:3]), 8, id="optimal-of-two-sums"),
]


def ramp(seed: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """Counts with light, noise, jumps, saturation and zeros."""
    rng = np.random.default_rng(seed)
    steps = rng.poisson(rng.uniform(0, 900, shape) * TIMES[0], (len(TIMES), *shape)).astype(np.float64)
    steps += rng.exponential(3000, steps.shape) * (rng.random(steps.shape) < 0.03)
    counts = 4000 + np.cumsum(steps, axis=0) + rng.normal(0, 5, steps.shape)
    counts[rng.random(counts.shape) < 0.02] = 0
    counts[rng.random(counts.shape) < 0.02] = 65535
    return np.asarray(np.clip(np.rint(counts), 0, 65535), np.uint16)


def folded(
    processor: Processor, mode: Mode, options: FoldOptions, ramps: int, shape: tuple[int, int] = SHAPE
) -> ExposureState:
    """An exposure whose last ramp has not ended."""
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1:4] = np.array([1.01, 1e-6, 1e-11], np.float32)[:, None, None]
    mask = np.zeros(shape, np.uint32)
    mask[::7, ::5] = Quality.HOT
    calibration = detector(shape, border=4, coefficients=coefficients, mask=mask)
    times = TIMES[: len(options.planned_times_s) or len(TIMES)][-1 if mode is Mode.SINGLE else 0 :]
    state = processor.open(calibration, mode, float(np.ptp(times)) or 1.0, options)
    for seed in range(ramps):
        processor.end_ramp(state)
        for time, read in zip(times, ramp(seed, shape), strict=False):
            processor.fold(state, read, float(time))
    return state


def same_bits(one: RateFrame, other: RateFrame) -> None:
    for name in PLANES:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.saturated_fraction == other.saturated_fraction


@pytest.mark.parametrize("ramps", [1, 2])
@pytest.mark.parametrize("linearity_noise", [False, True])
@pytest.mark.parametrize(("mode", "options", "further"), FOLDS)
def test_a_ramp_that_is_closed_at_once_gives_the_bits_of_its_sums(
    processor: Processor, mode: Mode, options: FoldOptions, further: int, linearity_noise: bool, ramps: int
) -> None:
    del further
    chosen = FoldOptions(
        options.weighting,
        options.planned_times_s,
        options.group_reads,
        options.jump_sigma,
        False,
        options.reference,
        linearity_noise,
    )
    summed, closed = (folded(processor, mode, chosen, ramps) for _ in range(2))
    processor.end_ramp(summed)
    live = processor.live(closed, Quality.DROPOUT)
    expected, frame = processor.close(summed, Quality.DROPOUT), processor.close(closed, Quality.DROPOUT)
    same_bits(frame, expected)
    same_bits(live, expected)
    assert frame.data.any()
    assert (frame.dq & Quality.SATURATED).any()
    assert (frame.dq & Quality.HOT).any()


@pytest.mark.parametrize("weighting", [Weighting.OPTIMAL, Weighting.FIXSEN])
@pytest.mark.parametrize("live", [False, True])
def test_a_ramp_of_one_read_adds_nothing_even_where_it_overflows(
    processor: Processor, weighting: Weighting, live: bool
) -> None:
    shape = (3, 8)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1], coefficients[5, :, ::2] = 1, 1e18  # x^5 is no number from some 10 000 DN on
    calibration, seen = detector(shape, coefficients=coefficients), ramp(1, shape) // 100
    states = [
        processor.open(calibration, Mode.UTR, float(np.ptp(TIMES)), FoldOptions(weighting, PLANNED, linearity_noise=on))
        for on in (False, False, True, True)
    ]
    for state in states:
        for time, read in zip(TIMES, seen, strict=True):
            processor.fold(state, read, float(time))
        processor.end_ramp(state)
    for state in states[1::2]:
        processor.fold(state, np.full(shape, 50_000, np.uint16), float(TIMES[0]))
    for alone, further in zip(states[::2], states[1::2], strict=True):
        same_bits(processor.live(further) if live else processor.close(further), processor.close(alone))


@pytest.mark.parametrize(("mode", "options", "further"), FOLDS)
def test_the_frame_takes_the_memory_of_its_only_ramp(
    processor: Processor, mode: Mode, options: FoldOptions, further: int
) -> None:
    shape = (512, 512)
    processor.close(folded(processor, mode, options, 1))  # kernels are there
    state = folded(processor, mode, options, 1, shape)
    tracemalloc.start()
    frame = processor.close(state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # Beside what is said: tables, and a byte for each pixel of the bands in which saturated ones are counted.
    assert peak / (shape[0] * shape[1]) < further + 2
    for one, other in combinations([getattr(frame, name) for name in PLANES], 2):
        assert not np.shares_memory(one, other)
    assert all(getattr(frame, name).flags.c_contiguous for name in PLANES)
