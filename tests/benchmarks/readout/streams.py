"""Reads folded as they come, beside NumPy, stcal's OLS_C and the bandwidth of the memory."""

from dataclasses import fields

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.readout.figures import Figure
from tests.benchmarks.readout.peers import IN_PLACE_BYTES, InPlace, NumpyFold, stcal_fit
from tests.benchmarks.readout.scene import detector, ramp_of, reads_of
from tests.benchmarks.readout.timing import Turns

from irisdrs.readout.backend import ExposureState, Processor
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.instrument import READ_TIME_S

#: Bytes that a pixel moves with each read: the raw count, threshold, five terms of linearity, and
#: plain: first; mean, co-moment (read and written); number, flags (read and written);
#: jumps: gain, noise, first, closed moment; last, mean, co-moment (read and written); begin, flags;
#: optimum: first; four sums (read and written); number, flags (read and written).
MOVED = {
    "plain": 2 + 2 + 20 + 4 + 16 + 6,
    "jumps": 2 + 2 + 20 + 16 + 24 + 3,
    "optimum": 2 + 2 + 20 + 4 + 32 + 6,
}
#: Rounds that only touch memory and compile kernels.
WARM = 2
#: Every so many rounds stcal takes its turn, on so many rows and columns.
PEER_ROUNDS, PEER_SHAPE = 3, (256, 1024)
#: Every so many rounds a live frame is made.
LIVE_ROUNDS = 7


def fold_in_turns(
    processor: Processor, calibration: Calibration, reads: int, threads: int
) -> tuple[Turns, dict[str, ExposureState]]:
    """Times of the folds, s for a read of the frame; stcal's are scaled by area and by reads."""
    shape = (calibration.gain.shape[0], calibration.gain.shape[1])
    times = [(k + 1) * READ_TIME_S for k in range(reads)]
    chosen = {
        "plain": FoldOptions(),
        "jumps": FoldOptions(jump_sigma=5.0),
        "optimum": FoldOptions(Weighting.OPTIMAL, tuple(times)),
    }
    states = {
        name: processor.open(calibration, SamplingMode.UTR, times[-1] - times[0], options)
        for name, options in chosen.items()
    }
    in_place, numpy_fold, offset = InPlace(shape, threads), NumpyFold(calibration), np.zeros(shape[1], np.float32)
    area = (min(PEER_SHAPE[0], shape[0]), min(PEER_SHAPE[1], shape[1]))
    ols = stcal_fit(ramp_of(reads, area), "OLS_C")
    part = area[0] * area[1] / (shape[0] * shape[1])
    turns = Turns()
    for k, read in enumerate(reads_of(shape, reads)):
        round_of = Turns() if k < WARM else turns
        round_of.take("in-place", k, 1, in_place.pass_once)
        for name, state in states.items():
            round_of.take(name, k, 1, processor.fold, state, read, times[k])
        round_of.take("NumPy", k, 1, numpy_fold.fold, read, k, offset)
        if (k - WARM) % PEER_ROUNDS == 0:
            round_of.take("OLS_C", k, reads * part, ols)
        if (k - WARM) % LIVE_ROUNDS == 0:
            round_of.take("live", k, 1, processor.live, states["jumps"])
            round_of.take("preview", k, 1, processor.live, states["jumps"], step=4)
    return turns, states


def stream_figures(turns: Turns, states: dict[str, ExposureState], pixels: int) -> list[Figure]:
    """Ratios and times."""
    in_place, gb = turns.of("in-place"), 1e-9 * IN_PLACE_BYTES * pixels
    figures = [
        Figure("in-place bandwidth", "GB/s", *(gb / t for t in (in_place.wall, in_place.cpu))),
        Figure.of("streamed least squares, beside NumPy", "x", turns.ratio("NumPy", "plain"), 6, 3),
        Figure.of("full chain, beside stcal OLS_C", "x", turns.ratio("OLS_C", "jumps"), 35, 17.5),
    ]
    names = {"jumps": "full chain", "plain": "least squares", "optimum": "optimal weights"}
    for name, title in names.items():
        share = turns.ratio("in-place", name).times(MOVED[name] / IN_PLACE_BYTES)
        goal = 0.75 if name == "jumps" else None
        figures.append(Figure.of(f"{title}, of the in-place bandwidth", "", share, goal, goal))
    for name, title in names.items():
        figures.append(
            Figure.of(f"{title}, a read", "ms", turns.of(name).times(1e3), *((40, 80) if name == "jumps" else ()))
        )
        figures.append(Figure(f"{title}, planes", "bytes a pixel", plane_bytes(states[name]), goal=30))
    figures += [Figure.of(f"{name} frame", "ms", turns.of(name).times(1e3)) for name in ("live", "preview")]
    return figures


def plane_bytes(state: ExposureState) -> float:
    """Bytes a pixel of the planes of a ramp."""
    if state.ramp is None:
        return 0.0
    planes = [getattr(state.ramp, spec.name) for spec in fields(state.ramp)]
    pixels = state.calibration.gain.size
    return sum(plane.nbytes for plane in planes if isinstance(plane, np.ndarray) and plane.size >= pixels) / pixels


def five_detectors(processor: Processor, shape: tuple[int, int], reads: int, detectors: int = 5) -> Figure:
    """The full chain of five detectors with references of their own, a read of each in turns."""
    chain = FoldOptions(jump_sigma=5.0)
    states = [processor.open(detector(shape), SamplingMode.UTR, 1.0, chain) for _ in range(detectors)]
    turns = Turns()

    def fold_all(read: NDArray[np.uint16], time_s: float) -> None:
        for state in states:
            processor.fold(state, read, time_s)

    for k, read in enumerate(reads_of(shape, reads)):
        round_of = Turns() if k < WARM else turns
        round_of.take("all", k, 1, fold_all, read, (k + 1) * READ_TIME_S)
    spent, goal = turns.of("all").times(1e3), 1e3 * READ_TIME_S
    return Figure.of(f"{detectors} detectors, a read of each", "ms", spent, goal, 2 * goal)
