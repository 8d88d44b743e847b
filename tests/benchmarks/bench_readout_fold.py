"""Time of the streamed readout at full size: ``python bench_readout_fold.py [SIZE] [--reads N] [--json FILE]``.

Side by side in one run, on two threads: every fold of a read, NumPy doing the arithmetic of the plain fold, and the
in-place bandwidth of the memory. Then a live frame, the frame after the last read, and its bytes on disk.

Goals at 4096 x 4096: the full chain (saturation, offsets, linearity, jumps, segments, flags) takes at most 40 ms of the
720 ms in which a detector is read, and moves its bytes at 75 % of the in-place bandwidth; the plain fold is 6 times as
fast as NumPy; planes take at most 30 bytes a pixel. On a busy machine look at the ratios of CPU times.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import ExposureState, Processor
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.frame import to_file
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.instrument import DETECTOR_SIZE, READ_TIME_S

THREADS = 2
GOAL_MS, GOAL_NUMPY, GOAL_BANDWIDTH, GOAL_BYTES = 40.0, 6.0, 0.75, 30.0
READS = 12
#: Bytes that a pixel moves with each read: the raw count, threshold, five linearity terms, and
#: plain: first; mean, co-moment (read and written); number, flags (read and written);
#: jumps: gain, noise, first, closed moment; last, mean, co-moment (read and written); begin, flags;
#: optimum: first; four sums (read and written); number, flags (read and written).
MOVED = {
    "plain": 2 + 2 + 20 + 4 + 16 + 6,
    "jumps": 2 + 2 + 20 + 16 + 24 + 3,
    "optimum": 2 + 2 + 20 + 4 + 32 + 6,
}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall and CPU time, ms."""

    wall_ms: float
    cpu_ms: float


def timed(work: Callable[[], _T]) -> tuple[_T, Spent]:
    """Result and time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, Spent((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3)


def median(spent: list[Spent]) -> Spent:
    """Median of each."""
    return Spent(float(np.median([s.wall_ms for s in spent])), float(np.median([s.cpu_ms for s in spent])))


class Bandwidth:
    """a += b on arrays of a frame's size, in bands on two threads: 12 bytes a pixel."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self._pool = ThreadPoolExecutor(THREADS)
        self._bands = [
            (
                np.zeros((shape[0] // THREADS, shape[1]), np.float32),
                np.ones((shape[0] // THREADS, shape[1]), np.float32),
            )
            for _ in range(THREADS)
        ]

    def pass_once(self) -> None:
        """One pass."""
        for done in [self._pool.submit(np.add, a, b, a) for a, b in self._bands]:
            done.result()


class NumpyFold:
    """The plain fold, as one writes it with NumPy: saturation, offsets, linearity, mean and co-moment."""

    def __init__(self, calibration: Calibration) -> None:
        shape = calibration.gain.shape
        self._calibration = calibration
        self._first, self._mean, self._comoment = (np.zeros(shape, np.float32) for _ in range(3))
        self._flags, self._number = np.zeros(shape, np.uint8), np.zeros(shape, np.uint16)

    def fold(self, read: NDArray[np.uint16], k: int, column_offset: NDArray[np.float32]) -> None:
        """Fold read k."""
        a = self._calibration.terms
        self._flags |= np.where(read >= self._calibration.threshold, np.uint8(2), np.uint8(0))
        self._flags |= np.where(read == 0, np.uint8(64), np.uint8(0))
        x = read.astype(np.float32) - column_offset
        v = x * (a[0] + x * (a[1] + x * (a[2] + x * (a[3] + x * a[4]))))
        if k == 0:
            self._first = v
        good = self._flags == 0
        above = v - self._first
        mean = self._mean + np.float32(1 / (k + 1)) * (above - self._mean)
        self._comoment = np.where(
            good, self._comoment + np.float32(k * READ_TIME_S / 2) * (above - mean), self._comoment
        )
        self._mean = np.where(good, mean, self._mean)
        self._number += good


def calibration_of(shape: tuple[int, int]) -> Calibration:
    """A detector of this size."""
    flags = np.zeros(shape, np.uint32)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1], coefficients[2] = 1, 1e-7
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=np.full(shape, 50000, np.float32),
        saturation_dq=flags,
        gain=np.ones(shape, np.float32),
        read_noise=np.full(shape, 9, np.float32),
    )


def bytes_per_pixel(state: ExposureState) -> float:
    """Of the planes of the ramp."""
    if state.ramp is None:
        return 0.0
    planes = [getattr(state.ramp, spec.name) for spec in fields(state.ramp)]
    pixels = state.calibration.gain.size
    return sum(plane.nbytes for plane in planes if isinstance(plane, np.ndarray) and plane.size >= pixels) / pixels


def compare_folds(
    processor: Processor, calibration: Calibration, reads: int
) -> tuple[dict[str, object], ExposureState]:
    """Times of the folds, taken in turns so that all see the machine as busy as the others do."""
    shape = calibration.gain.shape
    rng = np.random.default_rng(1)
    noise = rng.normal(5000, 9, shape).astype(np.uint16)
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
    numpy_fold, bandwidth = NumpyFold(calibration), Bandwidth(shape)
    offset = np.zeros(shape[1], np.float32)
    spent: dict[str, list[Spent]] = {name: [] for name in (*chosen, "numpy", "in-place", "live", "preview")}
    for k, at in enumerate(times):
        read = noise + np.uint16(50 * k)
        spent["in-place"].append(timed(bandwidth.pass_once)[1])
        for name, state in states.items():
            spent[name].append(timed(lambda state=state, read=read, at=at: processor.fold(state, read, at))[1])  # type: ignore[misc]
        if k < reads // 2:
            spent["numpy"].append(timed(lambda read=read, k=k: numpy_fold.fold(read, k, offset))[1])  # type: ignore[misc]
        if k >= reads - 3:
            spent["live"].append(timed(lambda: processor.live(states["jumps"]))[1])
            spent["preview"].append(timed(lambda: processor.live(states["jumps"], step=4))[1])
    steady = {name: median(each[2:] if len(each) > 3 else each) for name, each in spent.items()}
    return summarise(steady, {name: bytes_per_pixel(state) for name, state in states.items()}, shape), states["jumps"]


def summarise(steady: dict[str, Spent], planes: dict[str, float], shape: tuple[int, ...]) -> dict[str, object]:
    """Figures and ratios."""
    pixels = shape[0] * shape[1]
    rate = 12 * pixels / steady["in-place"].wall_ms / 1e6
    cpu_rate = 12 * pixels / steady["in-place"].cpu_ms / 1e6
    folds = {
        name: {
            **asdict(steady[name]),
            "bytes_moved": moved,
            "plane_bytes": planes[name],
            "gb_per_s": moved * pixels / steady[name].wall_ms / 1e6,
            "of_in_place": moved * pixels / steady[name].wall_ms / 1e6 / rate,
            "of_in_place_per_cpu": moved * pixels / steady[name].cpu_ms / 1e6 / cpu_rate,
        }
        for name, moved in MOVED.items()
    }
    return {
        "size": shape[0],
        "threads": THREADS,
        "in_place_gb_per_s": rate,
        "folds": folds,
        "numpy": asdict(steady["numpy"]),
        "numpy_over_plain_wall": steady["numpy"].wall_ms / steady["plain"].wall_ms,
        "numpy_over_plain_cpu": steady["numpy"].cpu_ms / steady["plain"].cpu_ms,
        "live": asdict(steady["live"]),
        "preview": asdict(steady["preview"]),
    }


def finish(processor: Processor, state: ExposureState, shape: tuple[int, int]) -> dict[str, float]:
    """From the last read to the bytes of the frame, seconds."""
    last = header(shape)
    packed = encode_read(np.full(shape, 5000, np.uint16), last)
    _, decode = timed(lambda: decode_read(packed, shape))
    arrays, close = timed(lambda: processor.close(state))
    data, fits = timed(lambda: to_file(arrays, last, last.ended_at, READS, {}))
    with tempfile.TemporaryDirectory() as folder:
        _, write = timed(lambda: (Path(folder) / "frame.fits").write_bytes(data))
    spent = {"decode_s": decode, "close_s": close, "fits_s": fits, "write_s": write}
    return {name: each.wall_ms / 1e3 for name, each in spent.items()} | {"frame_mb": len(data) / 1e6}


def header(shape: tuple[int, int]) -> ReadHeader:
    """Header of the last read."""
    return ReadHeader(
        observation="2034B-007-123",
        detector=Detector.IMG1,
        exposure_type=ExposureType.SCI,
        exposure=1,
        night=date(2034, 8, 1),
        ramp=1,
        read=READS,
        reads=READS,
        ramps=1,
        read_time_s=READS * READ_TIME_S,
        read_interval_s=READ_TIME_S,
        sampling_mode=SamplingMode.UTR,
        ended_at=datetime(2034, 8, 1, 5, tzinfo=UTC),
        mode=ObservingMode.IMG,
        filter="H",
        scale_arcsec=0.004,
        ra_deg=150.0,
        dec_deg=2.0,
        position_angle_deg=0.0,
        airmass=1.2,
        shape=shape,
    )


def main() -> None:
    """Print the figures; fail when a fold at full size takes more than twice the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("size", nargs="?", type=int, default=DETECTOR_SIZE)
    parser.add_argument("--reads", type=int, default=READS)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    shape = (chosen.size, chosen.size)
    processor = Processor(THREADS)
    figures, state = compare_folds(processor, calibration_of(shape), chosen.reads)
    figures["last_read_to_frame"] = finish(processor, state, shape)
    figures["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    processor.shutdown()
    text = json.dumps(figures, indent=2, default=float)
    print(text)
    print(
        f"goals: {GOAL_MS:.0f} ms a read, NumPy / plain {GOAL_NUMPY:.0f}, {GOAL_BANDWIDTH:.0%} of the in-place rate, "
        f"{GOAL_BYTES:.0f} bytes a pixel"
    )
    if chosen.json:
        chosen.json.write_text(text + "\n", encoding="utf-8")
    jumps_ms = figures["folds"]["jumps"]["wall_ms"]  # type: ignore[index]
    if chosen.size == DETECTOR_SIZE and jumps_ms > 2 * GOAL_MS:
        sys.exit(f"a fold takes {jumps_ms:.0f} ms, more than twice the goal")


if __name__ == "__main__":
    main()
