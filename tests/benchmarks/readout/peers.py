"""What the readout is held against: the memory's in-place bandwidth, NumPy, and stcal."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from stcal.ramp_fitting.ramp_fit import ramp_fit_data
from stcal.ramp_fitting.ramp_fit_class import RampData
from tests.benchmarks.readout.scene import GAIN, NOISE

from irisdrs.readout.calibration import Calibration
from irisdrs.shared.instrument import READ_TIME_S
from irisdrs.shared.quality import Quality

#: Bytes that `a += b` moves for each element of float32: two are read, one is written.
IN_PLACE_BYTES = 12


class InPlace:
    """`a += b` on arrays of a frame's size, a band for each thread."""

    def __init__(self, shape: tuple[int, int], threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads)
        band = (shape[0] // threads, shape[1])
        self._bands = [(np.zeros(band, np.float32), np.ones(band, np.float32)) for _ in range(threads)]

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


def stcal_fit(ramp: NDArray[np.uint16], algorithm: str) -> Callable[[], object]:
    """The fit of a ramp (reads, rows, columns) by stcal; its input is float32, its read noise that of a difference."""
    pixels = ramp.astype(np.float32)[None]
    shape = pixels.shape[2:]

    def work() -> object:
        data = RampData()
        data.set_arrays(
            pixels.copy(), np.zeros(pixels.shape, np.uint8), np.zeros(shape, np.uint32), np.zeros(shape, np.float32)
        )
        data.set_meta("IRIS", READ_TIME_S, READ_TIME_S, 0, 1, 0)
        data.set_dqflags({flag.name: int(flag) for flag in Quality} | {"CHARGELOSS": 128})
        noise, gain = (np.full(shape, value, np.float32) for value in (np.sqrt(2) * NOISE, GAIN))
        return ramp_fit_data(data, False, noise, gain, algorithm, "optimal", "none")

    return work
