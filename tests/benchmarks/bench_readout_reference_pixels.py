"""CPU time of the reference pixels at full size: ``python bench_readout_reference_pixels.py [SIZE]``.

One thread, CPU time, so that other work on the machine counts little; goal: 10 ms for a read of 4096 x 4096. Then what
is left of a 1/f signal of 4 DN that all pixels of a row share, at 10 DN of read noise.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling.deinterlace import deinterlace
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.readout.sampling.side_columns import row_power
from irisdrs.shared.instrument import CHANNEL_COLUMNS, CHANNEL_MIRRORED, DETECTOR_SIZE

GOAL_MS = 10.0
NOISE_DN, SIGNAL_DN = 10.0, 4.0
ROUNDS, DARKS, READS = 15, 12, 6


def cpu_ms(work: Callable[[], object]) -> float:
    """Median CPU time, milliseconds."""
    spent = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        spent.append((time.process_time() - start) * 1e3)
    return float(np.median(spent))


def calibration_of(size: int) -> Calibration:
    """A detector without faults."""
    shape = (size, size)
    flags = np.zeros(shape, np.uint32)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=np.full(shape, 50000, np.float32),
        saturation_dq=flags,
        gain=np.ones(shape, np.float32),
        read_noise=np.full(shape, NOISE_DN, np.float32),
    )


def row_signal(rng: np.random.Generator, rows: int) -> NDArray[np.float64]:
    """1/f noise, cut from a series 16 times as long."""
    frequency = np.fft.rfftfreq(16 * rows)
    amplitude = np.concatenate([[0.0], frequency[1:] ** -0.5])
    phases = rng.normal(size=len(frequency)) + 1j * rng.normal(size=len(frequency))
    series = np.fft.irfft(amplitude * phases)
    return np.asarray(series[:rows] * SIGNAL_DN / series.std())


def taken(rng: np.random.Generator, size: int) -> tuple[NDArray[np.uint16], NDArray[np.float64]]:
    """A read whose reference pixels are right, and its row signal."""
    signal = row_signal(rng, size)
    read = np.full((size, size), 5000, np.uint16)
    for edge in (np.s_[:4], np.s_[-4:], np.s_[:, :4], np.s_[:, -4:]):
        place = np.broadcast_to(signal[:, None], read.shape)[edge]
        read[edge] = np.round(5000 + place + rng.normal(0, NOISE_DN, place.shape))
    return read, signal


def main(size: int = DETECTOR_SIZE) -> None:
    """Print the times; fail when one at full size takes more than twice the goal."""
    rng, calibration = np.random.default_rng(1), calibration_of(size)
    darks = np.stack([calibration.row_signal(taken(rng, size)[0]) for _ in range(DARKS)])
    learned = calibration.wiener_correction(row_power(darks, calibration.side_variance()))
    corrections = {
        "top and bottom": ReferenceCorrection(),
        "and running median": ReferenceCorrection(side_columns=SideColumns.MEDIAN),
        "and Wiener filter": learned,
    }
    reads = [taken(rng, size) for _ in range(READS)]
    slowest = 0.0
    for name, correction in corrections.items():
        spent = cpu_ms(lambda correction=correction: calibration.reference_vectors(reads[0][0], correction))  # type: ignore[misc]
        left = [signal - calibration.reference_vectors(read, correction).row_offset for read, signal in reads]
        rms = float(np.sqrt(np.mean([np.var(one) for one in left])))
        print(f"{name:20s} {spent:6.2f} ms CPU (goal {GOAL_MS:.0f} ms), {rms:.2f} DN of the row signal left")
        slowest = max(slowest, spent)
    stream = reads[0][0].reshape(size, CHANNEL_COLUMNS, size // CHANNEL_COLUMNS)
    mirrored = CHANNEL_MIRRORED[: size // CHANNEL_COLUMNS]
    print(f"{'deinterlacing':20s} {cpu_ms(lambda: deinterlace(stream, mirrored)):6.2f} ms CPU")
    if size == DETECTOR_SIZE and slowest > 2 * GOAL_MS:
        sys.exit(f"the reference pixels take {slowest:.0f} ms, more than twice the goal")


if __name__ == "__main__":
    main(*(int(size) for size in sys.argv[1:2]))
