"""How fast a device folds, closes and fits; times of the host's clock, of what a caller waits for."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import begin_ramp
from irisdrs.readout.backend import ExposureState
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import Device, DeviceArray
from irisdrs.readout.cuda.ramps import fold, with_planes
from irisdrs.readout.cuda.references import KeptReferences
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.identifiers import SamplingMode as Mode

#: Detectors of the instrument.
DETECTORS = 5

#: Bytes that the kernel of the full chain reads and writes for each pixel: read 2, threshold 2, terms 20, gain 4, noise
#: 4, first 4, last, mean and co-moment 8 each, closed moment 4, begin 2, flags 1.
FULL_KERNEL_BYTES = 67

_CADENCE_S = 0.72
_LAUNCHES = 20


@dataclass(frozen=True)
class Figures:
    """What was measured; times in ms.

    Attributes
    ----------
    read_ms : float
        A read, from ordinary memory of the host to folded, one detector after another read.
    kernel_ms : float
        Of which the kernel of the full chain.
    kernel_of_bandwidth : float
        Bytes by time of that kernel, of those of a plain copy on the device.
    reads_per_s : float
        Of five detectors at once.
    close_ms : float
        From the last read to the frame in the host's memory, least squares.
    fit_ms : float
        The same, likelihood with jumps.
    """

    read_ms: float
    kernel_ms: float
    kernel_of_bandwidth: float
    reads_per_s: float
    close_ms: float
    fit_ms: float


def measure(backend: CudaBackend, device: Device, size: int, reads: int, repeats: int = 5) -> Figures:
    """Measure ramps of so many reads of size x size pixels; of so many tries the best."""

    def best(work: Callable[[], object]) -> float:
        return min(_timed(work) for _ in range(repeats))

    calibrations = [_calibration(size) for _ in range(DETECTORS)]
    ramp = _ramp(size, reads)
    full = FoldOptions(jump_sigma=5.0)

    def fold_all(calibration: Calibration, options: FoldOptions) -> ExposureState:
        state = backend.open(calibration, Mode.UTR, _CADENCE_S * (reads - 1), options)
        for k, read in enumerate(ramp):
            backend.fold(state, read, _CADENCE_S * (k + 1))
        return state

    def fold_and_wait(calibration: Calibration) -> None:
        state = fold_all(calibration, full)
        backend.live(state, step=max(size // 64, 1))
        backend.close(state)

    fold_and_wait(calibrations[0])  # compiles, and takes the memory
    one = best(lambda: backend.live(fold_all(calibrations[0], full), step=max(size // 64, 1)))
    with ThreadPoolExecutor(DETECTORS) as threads:
        list(threads.map(fold_and_wait, calibrations))
        several = best(lambda: list(threads.map(fold_and_wait, calibrations)))
    backend.close(fold_all(calibrations[0], FoldOptions()))
    closing = min(_timed(backend.close, fold_all(calibrations[0], FoldOptions())) for _ in range(repeats))
    times: NDArray[np.float64] = np.asarray(_CADENCE_S * np.arange(1, reads + 1), np.float64)
    backend.fit(ramp, calibrations[0], times)
    fitting = min(_last_read_to_fit(backend, calibrations[0], ramp, times) for _ in range(repeats))
    kernel, copy = _kernel_seconds(device, calibrations[0], ramp[0], best)
    return Figures(
        read_ms=1e3 * one / reads,
        kernel_ms=1e3 * kernel,
        kernel_of_bandwidth=FULL_KERNEL_BYTES * size * size / kernel / copy,
        reads_per_s=DETECTORS * reads / several,
        close_ms=1e3 * closing,
        fit_ms=1e3 * fitting,
    )


class Runner:
    """Runs kernels in a stream of its own."""

    def __init__(self, device: Device, shape: tuple[int, int]) -> None:
        self._device, self._shape, self.stream = device, shape, device.stream()

    def __call__(self, kernel: Kernel, *arguments: Any) -> None:
        self._device.launch(kernel, self._shape, self.stream, *arguments)

    def send(self, name: str, values: NDArray[Any]) -> DeviceArray:
        return self._device.holding(values, self.stream)


def _last_read_to_fit(
    backend: CudaBackend, calibration: Calibration, ramp: NDArray[np.uint16], times: NDArray[np.float64]
) -> float:
    """Seconds from the last read to the fit; the reads before have been sent as they came."""
    ahead = backend.ahead(len(ramp), (ramp.shape[1], ramp.shape[2]))
    vectors = [calibration.reference_vectors(read) for read in ramp]
    offsets = np.stack([found.column_offset for found in vectors]), np.stack([found.row_offset for found in vectors])
    for read in ramp[:-1]:
        if ahead is not None:
            ahead.take(read)

    def finish() -> None:
        if ahead is not None:
            ahead.take(ramp[-1])
        backend.fit(ramp, calibration, times, column_offset=offsets[0], row_offset=offsets[1], ahead=ahead)

    return _timed(finish)


def _kernel_seconds(
    device: Device,
    calibration: Calibration,
    read: NDArray[np.uint16],
    best: Callable[[Callable[[], object]], float],
) -> tuple[float, float]:
    """Seconds that the kernel of the full chain takes, and bytes/s that a copy on the device reads and writes."""
    shape = (read.shape[0], read.shape[1])
    with device.here():
        run, references = Runner(device, shape), KeptReferences(device).of(calibration)
        ramp = with_planes(begin_ramp(shape, Mode.UTR, FoldOptions(jump_sigma=5.0)), shape, device.empty)
        counts = device.holding(read, run.stream)
        zeros = np.zeros(shape[1], np.float32), np.zeros((shape[0], 1), np.float32)
        offsets = tuple(device.holding(values, run.stream) for values in zeros)

        def fold_often() -> None:
            for _ in range(_LAUNCHES):
                ramp.times_s.append(_CADENCE_S * (len(ramp.times_s) + 1))
                fold(run, ramp, counts, (offsets[0], offsets[1]), references)
            run.stream.synchronize()

        fold_often()
        kernel = best(fold_often) / _LAUNCHES
        source, copy = device.empty((8, *shape), np.float32), device.empty((8, *shape), np.float32)

        def copy_once() -> None:
            copy.copy_to_device(source, stream=run.stream)
            run.stream.synchronize()

        copy_once()
        return kernel, 2 * 8 * 4 * shape[0] * shape[1] / best(copy_once)


def _calibration(size: int) -> Calibration:
    shape = (size, size)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1], coefficients[2] = 1.0, 1e-7
    nothing, ones = np.zeros(shape, np.uint32), np.ones(shape, np.float32)
    return calibrate_for(
        mask=nothing,
        coefficients=coefficients,
        coefficients_dq=nothing,
        saturation=50_000 * ones,
        saturation_dq=nothing,
        gain=2 * ones,
        read_noise=9 * ones,
    )


def _ramp(size: int, reads: int) -> NDArray[np.uint16]:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 9, (size, size))
    # The same noise elsewhere: what is random costs more to make than everything that is measured.
    ramp = [3000 + 40 * k + np.roll(noise, 7919 * k) for k in range(reads)]
    return np.asarray(ramp).astype(np.uint16)


def _timed(work: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - begin
