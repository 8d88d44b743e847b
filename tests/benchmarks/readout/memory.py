"""Memory beyond references and reads."""

import tracemalloc
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.readout.figures import Figure
from tests.benchmarks.readout.scene import reads_of

from irisdrs.readout.backend import ExposureState, Processor
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import frame_of
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.instrument import READ_TIME_S

READS = 4


def memory_figures(processor: Processor, calibration: Calibration) -> list[Figure]:
    """Largest extra memory while reads are folded, and with the frame; and of an exact fit of few reads."""
    rows, columns = calibration.gain.shape
    reads = np.stack(list(reads_of((rows, columns), READS)))
    times = np.arange(1, READS + 1).astype(np.float64) * READ_TIME_S
    state = processor.open(calibration, SamplingMode.UTR, READ_TIME_S * READS, FoldOptions(jump_sigma=5.0))
    works: list[tuple[str, Callable[[], object], float | None]] = [
        ("extra memory while reads are folded", lambda: fold(processor, state, reads), 30.0),
        ("further memory while the exposure is closed, frame included", lambda: processor.close(state), None),
        (
            "extra memory of the exact fit, frame included",
            lambda: frame_of(processor.fit(reads, calibration, times), calibration),
            30.0,
        ),
    ]
    return [
        Figure(name, "bytes a pixel", peak_bytes(work) / calibration.gain.size, goal=goal) for name, work, goal in works
    ]


def fold(processor: Processor, state: ExposureState, reads: Iterable[NDArray[np.uint16]]) -> None:
    """Fold a ramp."""
    for k, read in enumerate(reads):
        processor.fold(state, read, (k + 1) * READ_TIME_S)


def peak_bytes(work: Callable[[], object]) -> int:
    """Most memory that was taken at any time of this."""
    tracemalloc.start()
    work()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak
