"""The exact fit of a whole ramp by the likelihood, beside stcal's LIKELY."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.readout.figures import Figure
from tests.benchmarks.readout.peers import stcal_fit
from tests.benchmarks.readout.scene import SCIENCE, ramp_of, strike
from tests.benchmarks.readout.timing import Turns

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import frame_of
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.shared.instrument import READ_TIME_S
from irisdrs.shared.window import Window

ROUNDS = 3
#: Rows of the fits without a full-size goal: two bands for each of two threads.
ROWS = 1024
#: What stcal takes for the same number of reads.
PEER_SHAPE = (16, 1024)
#: Fraction of the pixels that are hit in the other ramp.
HIT = 0.01


def fit_in_turns(processor: Processor, calibration: Calibration, reads: int) -> Turns:
    """Times of the fits, s for a pixel and read."""
    shape = (calibration.gain.shape[0], calibration.gain.shape[1])
    times = np.arange(1, reads + 1).astype(np.float64) * READ_TIME_S
    ramp = ramp_of(reads, shape)
    pixels = ramp[:, SCIENCE[0], SCIENCE[1]][:, : PEER_SHAPE[0], : PEER_SHAPE[1]]
    rows = min(ROWS, shape[0])
    part, struck = calibration.cut(_rows(calibration, rows)), ramp[:, :rows].copy()
    strike(struck, HIT)
    whole = _fit(processor, ramp, calibration, times, JumpTest.LIKELIHOOD)
    works: dict[str, tuple[Callable[[], object], int]] = {
        "likelihood": (_fit(processor, ramp[:, :rows].copy(), part, times, JumpTest.NONE), struck.size),
        "hit": (_fit(processor, struck, part, times, JumpTest.LIKELIHOOD), struck.size),
        "LIKELY": (stcal_fit(pixels, "LIKELY"), pixels.size),
    }
    for work, _ in works.values():
        work()
    turns = Turns()
    for number in range(ROUNDS):
        turns.take("jumps", number, ramp.size, whole)
        for name, (work, size) in works.items():
            turns.take(name, number, size, work)
    return turns


def fit_figures(turns: Turns, reads: int, pixels: int) -> list[Figure]:
    """Ratios, and the time from the last read to the arrays."""
    return [
        Figure.of("likelihood with jumps, beside stcal LIKELY", "x", turns.ratio("LIKELY", "jumps"), 90, 45),
        Figure.of("the same, 1% of the pixels hit", "x", turns.ratio("LIKELY", "hit")),
        Figure.of("likelihood without jumps, beside stcal LIKELY", "x", turns.ratio("LIKELY", "likelihood")),
        Figure.of(f"last read to arrays, exact, {reads} reads", "s", turns.of("jumps").times(reads * pixels), 6, 12),
    ]


def _rows(calibration: Calibration, rows: int) -> Window:
    return Window.at((0, 0), (rows, calibration.gain.shape[1]))


def _fit(
    processor: Processor,
    ramp: NDArray[np.uint16],
    calibration: Calibration,
    times: NDArray[np.float64],
    test: JumpTest,
) -> Callable[[], RateFrame]:
    """From the raw reads in memory to a frame: reference pixels, fit, flags."""
    settings = FitSettings(estimator=Estimator.LIKELIHOOD, jump_test=test)
    return lambda: frame_of(processor.fit(ramp, calibration, times, settings), calibration)
