"""What the detectors see: references with all terms of linearity, and reads with photons, noise and cosmic rays."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.shared.instrument import READ_TIME_S, REFERENCE_PIXEL_BORDER

GAIN, NOISE, RATE, PEDESTAL = 2.0, 8.0, 40.0, 5000.0
#: Fraction of the pixels that cosmic rays hit during a ramp, and what each leaves, DN. Five particles a square
#: centimetre and second on 38 cm^2, with three pixels each, hit 0.08% in 22 s.
HIT, HIT_DN = 0.001, 500
#: Pixels that see the sky, and reference pixels.
SCIENCE = np.s_[REFERENCE_PIXEL_BORDER:-REFERENCE_PIXEL_BORDER, REFERENCE_PIXEL_BORDER:-REFERENCE_PIXEL_BORDER]
#: Rows that are simulated with noise of their own; a taller frame repeats them.
SIMULATED_ROWS = 128


def detector(shape: tuple[int, int]) -> Calibration:
    """References of a detector without faults, with all five terms of linearity."""
    flags, ones = np.zeros(shape, np.uint32), np.ones(shape, np.float32)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1:] = np.array([1, 1e-7, 1e-12, 1e-17, 1e-22], np.float32)[:, None, None]
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=60000 * ones,
        saturation_dq=flags,
        gain=np.float32(GAIN) * ones,
        read_noise=np.float32(NOISE) * ones,
    )


def reads_of(shape: tuple[int, int], number: int) -> Iterator[NDArray[np.uint16]]:
    """Reads of a ramp one after another, each an array of its own, with cosmic rays.

    The noise of a read is that of another, shifted by some rows: it costs less than new noise.
    """
    rng = np.random.default_rng(1)
    noise = np.rint(PEDESTAL + rng.normal(0, NOISE, shape)).astype(np.uint16)
    signal = np.zeros(shape, np.uint16)
    for k in range(number):
        struck = rng.integers(0, signal.size, round(HIT * signal.size / number))
        signal.flat[struck] += np.uint16(HIT_DN)
        read = np.roll(noise, 97 * k, 0)
        read[SCIENCE] += signal[SCIENCE] + np.uint16(round(RATE * READ_TIME_S * k))
        yield read


def ramp_of(reads: int, shape: tuple[int, int]) -> NDArray[np.uint16]:
    """A ramp of Poisson counts and read noise, without cosmic rays."""
    rng = np.random.default_rng(5)
    rows = min(SIMULATED_ROWS, shape[0])
    ramp = np.empty((reads, *shape), np.uint16)
    signal, border = np.zeros((rows, shape[1])), REFERENCE_PIXEL_BORDER
    for k in range(reads):
        signal += rng.poisson(RATE * GAIN * READ_TIME_S, signal.shape) / GAIN
        noise = PEDESTAL + rng.normal(0, NOISE, signal.shape)
        light, dark = (np.rint(counts).astype(np.uint16) for counts in (noise + signal, noise))
        light[:, :border], light[:, -border:] = dark[:, :border], dark[:, -border:]
        for start in range(0, shape[0], rows):
            ramp[k, start : start + rows] = light[: shape[0] - start]
        ramp[k, :border], ramp[k, -border:] = dark[:border], dark[-border:]
    return ramp


def strike(ramp: NDArray[np.uint16], fraction: float) -> None:
    """Add a jump at any read to a fraction of the pixels, in place."""
    rng = np.random.default_rng(6)
    for y, x in np.argwhere(rng.random(ramp.shape[1:]) < fraction):
        ramp[rng.integers(1, len(ramp)) :, y, x] += np.uint16(HIT_DN)
