"""From the last read to the stored frame; the decompression of a read."""

import asyncio
import hashlib
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tests.benchmarks.readout.figures import Figure
from tests.benchmarks.readout.memory import fold
from tests.benchmarks.readout.scene import reads_of
from tests.benchmarks.readout.timing import Turns

from irisdrs.readout.backend import ExposureState, Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.estimation import EXACT_READS
from irisdrs.readout.frame import to_file
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.warming import read_header_of
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.instrument import READ_TIME_S
from irisdrs.shared.store.directory import DirectoryStore

ROUNDS = 3
#: Jumps are tested from the fourth read on: by the last one, planes that only jumps need have been written to.
READS = 8
#: Of a ramp that is too long for an exact fit. Each of the simulated reads is seen some times before the next.
LONG_READS = EXACT_READS + 2


def frame_figures(processor: Processor, calibration: Calibration) -> list[Figure]:
    """A streamed exposure from its last read on: arrays, file, hash, store."""
    reads = np.stack(list(reads_of(_shape(calibration), READS)))
    header = read_header_of(_shape(calibration))
    long = [reads[k * READS // LONG_READS] for k in range(LONG_READS)]
    times = tuple(READ_TIME_S * (k + 1) for k in range(LONG_READS))
    turns = Turns()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            state = processor.open(calibration, SamplingMode.UTR, READ_TIME_S * READS, FoldOptions(jump_sigma=5.0))
            fold(processor, state, reads[:-1])
            frame = turns.take("arrays", number, 1, _finish, processor, state, reads[-1], times[READS - 1])
            state = processor.open(calibration, SamplingMode.UTR, times[-1], FoldOptions(Weighting.OPTIMAL, times))
            fold(processor, state, long[:-1])
            turns.take("optimum", number, 1, _finish, processor, state, long[-1], times[-1])
            data = turns.take("file", number, 1, to_file, frame, header, header.ended_at, READS, {})
            turns.take("hash", number, 1, _hash, data)
            turns.take("store", number, 1, _put, Path(folder), f"{number}.fits", data)
    packed = encode_read(reads[0], header)
    for number in range(ROUNDS):
        turns.take("decode", number, 1, decode_read, packed, header.shape)
    return [
        Figure.of("last read to arrays, streamed", "s", turns.of("arrays"), 0.2, 0.4),
        Figure.of(f"the same, optimal weights, {LONG_READS} reads", "s", turns.of("optimum"), 0.2, 0.4),
        Figure.of("the frame as a FITS file", "s", turns.of("file")),
        Figure.of("its SHA-256", "s", turns.of("hash")),
        Figure.of("put into a directory, hashed and synced", "s", turns.of("store")),
        Figure("size of the file", "MB", len(data) / 1e6),
        Figure.of("decompression of a read (RICE), one thread", "ms", turns.of("decode").times(1e3)),
        Figure("size of a compressed read", "MB", len(packed) / 1e6),
    ]


def _shape(calibration: Calibration) -> tuple[int, int]:
    return calibration.gain.shape[0], calibration.gain.shape[1]


def _finish(processor: Processor, state: ExposureState, read: NDArray[np.uint16], time_s: float) -> RateFrame:
    processor.fold(state, read, time_s)
    return processor.close(state)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _put(folder: Path, key: str, data: bytes) -> None:
    asyncio.run(DirectoryStore(folder).put(key, data))
