"""Time of the readout at full size: ``python bench_readout_fold.py [SIZE]``.

Per read the whole chain (saturation, reference pixels, linearity, up-the-ramp sums) on two threads; goal: 40 ms for
4096 x 4096, as a detector is read every 720 ms. Then from the last read to the bytes of the frame.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import numpy as np

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import calibrate_for
from irisdrs.readout.frame import to_file
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.instrument import DETECTOR_SIZE, READ_TIME_S

GOAL_MS = 40.0
READS = 8

_T = TypeVar("_T")


def timed(work: Callable[[], _T]) -> tuple[_T, float, float]:
    """Result, wall time and CPU time, seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - cpu


def header(shape: tuple[int, int], read: int) -> ReadHeader:
    """Header of a read."""
    return ReadHeader(
        observation="2034B-007-123",
        detector=Detector.IMG1,
        exposure_type=ExposureType.SCI,
        exposure=1,
        night=date(2034, 8, 1),
        ramp=1,
        read=read,
        reads=READS,
        ramps=1,
        read_time_s=read * READ_TIME_S,
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


def main(size: int = DETECTOR_SIZE) -> None:
    """Print the times; fail when a fold at full size takes more than twice the goal."""
    shape = (size, size)
    flags = np.zeros(shape, np.uint32)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1], coefficients[2] = 1, 1e-7
    calibration = calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=np.full(shape, 50000, np.float32),
        saturation_dq=flags,
        gain=np.ones(shape, np.float32),
        read_noise=np.full(shape, 9, np.float32),
    )
    rng = np.random.default_rng(1)
    noise = rng.normal(5000, 9, shape).astype(np.uint16)
    processor = Processor(2)
    state = processor.open(calibration, SamplingMode.UTR, (READS - 1) * READ_TIME_S)
    folds = []
    for k in range(READS):
        read = noise + np.uint16(50 * k)
        _, wall, cpu = timed(lambda read=read, k=k: processor.fold(state, read, (k + 1) * READ_TIME_S))  # type: ignore[misc]
        folds.append((wall * 1e3, cpu * 1e3))
    wall_ms, cpu_ms = (float(np.median([fold[i] for fold in folds[1:]])) for i in (0, 1))
    print(f"fold {size} x {size}: {wall_ms:.1f} ms wall, {cpu_ms:.1f} ms CPU on 2 threads (goal {GOAL_MS} ms)")

    last = header(shape, READS)
    packed = encode_read(noise, last)
    _, decode_s, _ = timed(lambda: decode_read(packed, shape))
    arrays, close_s, _ = timed(lambda: processor.close(state))
    names: dict[str, str] = {}
    data, file_s, _ = timed(lambda: to_file(arrays, last, last.ended_at, READS, names))
    with tempfile.TemporaryDirectory() as folder:
        _, write_s, _ = timed(lambda: (Path(folder) / "frame.fits").write_bytes(data))
    total = decode_s + wall_ms / 1e3 + close_s + file_s + write_s
    print(
        f"decode {decode_s:.2f} s, finalise {close_s:.2f} s, FITS {file_s:.2f} s, write {write_s:.2f} s "
        f"({len(data) / 1e6:.0f} MB): last read to frame {total:.2f} s"
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    processor.shutdown()
    if size == DETECTOR_SIZE and wall_ms > 2 * GOAL_MS:
        sys.exit(f"a fold takes {wall_ms:.0f} ms, more than twice the goal")


if __name__ == "__main__":
    main(*(int(size) for size in sys.argv[1:2]))
