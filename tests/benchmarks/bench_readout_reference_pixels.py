"""CPU time of the reference pixels at full size: ``python bench_readout_reference_pixels.py [SIZE]``.

One thread, CPU time, so that other work on the machine counts little; goal: 10 ms for a read of 4096 x 4096. Then what
is left of a 1/f signal of 4 DN that all pixels of a row share, at 10 DN of read noise.

Last the kernels that are trained on darks, with one value for each row of an output channel and with several up to one
for each pixel: CPU time, and what is left of 1/f noise of 4 DN in the order of time, which changes within a row, too.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.sampling.deinterlace import deinterlace
from irisdrs.readout.sampling.kernel_training import CrossSpectra, stripe_signals
from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns
from irisdrs.readout.sampling.reference_kernels import ReferenceKernels
from irisdrs.readout.sampling.side_columns import row_power
from irisdrs.shared.instrument import CHANNEL_COLUMNS, CHANNEL_MIRRORED, DETECTOR_SIZE, REFERENCE_PIXEL_BORDER
from irisdrs.simulator.correlated_noise import CorrelatedNoise

GOAL_MS = 10.0
#: Channels, darks and reads that the residual of kernels is measured with, and their stripes of a channel.
CHANNELS, KERNEL_DARKS, KERNEL_READS, SAMPLES = 4, 21, 6, (1, 4, 64)
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


def kernels_of(samples: int, size: int) -> tuple[float, float]:
    """CPU time for a read of so many rows and columns, ms, and what its kernels leave of the noise, DN."""
    rng, noise, shape = np.random.default_rng(2), CorrelatedNoise(SIGNAL_DN), (size, CHANNELS * CHANNEL_COLUMNS)
    strength, border = np.ones(CHANNELS), REFERENCE_PIXEL_BORDER
    usable = np.ones(shape, np.bool_)
    usable[:, :border] = usable[:, -border:] = False
    edges = np.r_[:border, -border:0]

    def changed(number: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]:
        """Side signals of a read, its noise, and all of its pixels, less the means of the edges."""
        true = noise.plane(shape, strength, "benchmark", number)
        seen = true + rng.normal(0, NOISE_DN, shape)
        offset = seen[edges].reshape(-1, CHANNELS, CHANNEL_COLUMNS).mean(axis=(0, 2)).repeat(CHANNEL_COLUMNS)
        seen, true = seen - offset, true - offset
        return np.stack([seen[:, :border].mean(axis=1), seen[:, -border:].mean(axis=1)]), true, seen.astype(np.float32)

    spectra = CrossSpectra.of_nothing(size, CHANNELS * samples)
    for number in range(KERNEL_DARKS):
        sides, _, seen = changed(number)
        spectra.add(sides, stripe_signals(seen, usable, CHANNEL_COLUMNS, samples))
    spectra.end_ramp()
    found = spectra.kernels(CHANNEL_COLUMNS // samples)
    filtering, left = found.filter_for(size), []
    for number in range(KERNEL_DARKS, KERNEL_DARKS + KERNEL_READS):
        sides, true, _ = changed(number)
        rest = true - filtering.correction(sides).repeat(found.stripe_columns, axis=1)
        left.append(np.mean(rest[border:-border, border:-border] ** 2))
    copies = size // shape[1]
    whole = ReferenceKernels(np.tile(found.taps, (1, copies, 1)), found.stripe_columns).filter_for(size)
    return cpu_ms(lambda: whole.correction(sides)), float(np.sqrt(np.mean(left)))


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
    for samples in SAMPLES:
        spent, rms = kernels_of(samples, size)
        slowest = max(slowest, spent) if samples == 1 else slowest
        name = f"kernels, {samples} a row"
        print(f"{name:20s} {spent:6.2f} ms CPU, {rms:.2f} DN left of {SIGNAL_DN:.0f} DN of 1/f noise in time")
    if size == DETECTOR_SIZE and slowest > 2 * GOAL_MS:
        sys.exit(f"the reference pixels take {slowest:.0f} ms, more than twice the goal")


if __name__ == "__main__":
    main(*(int(size) for size in sys.argv[1:2]))
