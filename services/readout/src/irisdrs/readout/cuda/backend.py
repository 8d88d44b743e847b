"""The readout on a graphics processor; the processor stands by, and finishes what the device cannot.

A device that is full costs the exposure that found no room its speed; one that fails, or for which a kernel cannot be
compiled, is left alone from then on. In every case the frame is the one that the processor makes, bit for bit.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Offsets, begin_ramp
from irisdrs.readout.backend import (
    Ahead,
    Backend,
    ExposureState,
    Processor,
    RateFrame,
    check_read,
    offsets_of,
    thinned,
)
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.cuda.ahead import ReadsAhead
from irisdrs.readout.cuda.device import Device, is_full
from irisdrs.readout.cuda.exposure import DeviceExposure
from irisdrs.readout.cuda.fitting import fit_on
from irisdrs.readout.cuda.references import KeptReferences
from irisdrs.readout.fitting import FitSettings, RampFit, prepared_ramp
from irisdrs.readout.sampling.differences import Ramp
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

T = TypeVar("T")

#: Takes what a person shall know.
Report = Callable[[str], object]


@dataclass(slots=True)
class CudaState(ExposureState):
    """An exposure that is being folded on a device.

    Attributes
    ----------
    exposure : DeviceExposure, optional
        None once the processor has taken it over.
    """

    exposure: DeviceExposure | None = None


class CudaBackend(Backend):
    """Folds on a CUDA device; one instance serves all detectors of a process.

    What its methods take, give and raise is said in `Processor`.

    Parameters
    ----------
    device : Device
    processor : Processor
        For what the device cannot do; ended with the backend.
    report : callable (str)
        Is told when the processor takes over, and why.
    """

    def __init__(self, device: Device, processor: Processor, report: Report) -> None:
        self._device, self._processor, self._report = device, processor, report
        self._references = KeptReferences(device)
        self._lost = False

    @property
    def device_name(self) -> str:
        """What the driver calls the device."""
        return self._device.name

    @property
    def bytes_in_use(self) -> int:
        """Memory of the device that is taken now."""
        return self._device.bytes_in_use

    @property
    def pinned_bytes(self) -> int:
        """Memory of the host that the device reads and writes by itself, in use or kept."""
        return self._device.pinned.bytes

    @property
    def is_lost(self) -> bool:
        """Whether the device has failed, and is left alone."""
        return self._lost

    def shutdown(self) -> None:
        # References that stay on the device would outlive the backend, with their calibrations.
        self._references.forget()
        self._processor.shutdown()

    def open(
        self,
        calibration: Calibration,
        mode: SamplingMode,
        full_time_s: float,
        options: FoldOptions | None = None,
    ) -> ExposureState:
        plain = self._processor.open(calibration, mode, full_time_s, options)
        ramp = begin_ramp(plain.calibration.gain.shape, plain.mode, plain.options)
        state = CudaState(plain.calibration, plain.mode, plain.full_time_s, plain.options)
        if self._lost:
            return state
        try:
            with self._device.here():
                references = self._references.of(state.calibration)
                # Not `state`: the two would hold each other, and their memory until garbage is collected.
                state.exposure = DeviceExposure(self._device, plain, ramp, references, self._processor.share)
        except Exception as problem:  # noqa: BLE001 - whatever a driver or a compiler fails with, there is a frame
            self._take_over(state, problem)
        return state

    def fold(
        self, state: ExposureState, read: NDArray[np.uint16], time_s: float, offsets: Offsets | None = None
    ) -> None:
        exposure = self._on_device(state)
        if exposure is not None:
            check_read(state, read, time_s, exposure.times_s)
            found = offsets_of(state, read, offsets, fresh=not exposure.times_s)
            if self._tried(state, lambda: exposure.fold(read, time_s, found)):
                return
            offsets = found  # the reference pixels of a ramp are measured read by read, and each read once
        self._processor.fold(state, read, time_s, offsets)

    def end_ramp(self, state: ExposureState) -> None:
        exposure = self._on_device(state)
        if exposure is None or not self._tried(state, exposure.end_ramp):
            self._processor.end_ramp(state)

    def live(self, state: ExposureState, flags: Quality = Quality.GOOD, step: int = 1) -> RateFrame:
        # The device thins its planes, the processor makes the frame of them.
        exposure = self._on_device(state)
        if exposure is not None and (found := self._tried(state, lambda: exposure.host_copy(step))):
            calibration = thinned(state.calibration, step)
            copy = ExposureState(calibration, state.mode, state.full_time_s, state.options, *found[0])
            return self._processor.close(copy, flags)
        return self._processor.live(state, flags, step)

    def close(self, state: ExposureState, flags: Quality = Quality.GOOD) -> RateFrame:
        exposure = self._on_device(state)
        if exposure is None or exposure.is_empty or not (found := self._tried(state, lambda: exposure.close(flags))):
            return self._processor.close(state, flags)
        if isinstance(state, CudaState):
            state.exposure = None
        return found[0]

    def ahead(self, reads: int, shape: tuple[int, int]) -> Ahead | None:
        if self._lost or not (
            found := self._tried(None, lambda: ReadsAhead(self._device, reads, shape, self._processor.share))
        ):
            return None
        return found[0]

    def fit(
        self,
        reads: NDArray[np.uint16],
        calibration: Calibration,
        times_s: NDArray[np.float64],
        settings: FitSettings | None = None,
        *,
        column_offset: NDArray[np.float32] | None = None,
        row_offset: NDArray[np.float32] | None = None,
        ahead: Ahead | None = None,
    ) -> RampFit:
        if not self._lost:
            chosen, offsets = settings or FitSettings(), (column_offset, row_offset)
            ramp = prepared_ramp(reads, calibration, times_s, None, None, *offsets)
            chosen.method(len(ramp.used))
            work = partial(self._fit, ramp, calibration, chosen, ahead)
            # Fewer than two reads have no rate: nothing to be done in parallel.
            if len(ramp.used) > 1 and (found := self._tried(None, work)):
                return found[0]
        return self._processor.fit(
            reads, calibration, times_s, settings, column_offset=column_offset, row_offset=row_offset
        )

    def _fit(self, ramp: Ramp, calibration: Calibration, settings: FitSettings, ahead: Ahead | None) -> RampFit:
        there = ahead.of(len(ramp.reads)) if isinstance(ahead, ReadsAhead) else None
        return fit_on(self._device, self._references.of(calibration), ramp, settings, there)

    def _tried(self, state: ExposureState | None, work: Callable[[], T]) -> tuple[T] | None:
        """What the device gives; nothing if it fails, and the processor has taken the exposure over."""
        try:
            with self._device.here():
                return (work(),)
        except Exception as problem:  # noqa: BLE001 - whatever a driver or a compiler fails with, there is a frame
            self._take_over(state, problem)
            return None

    def _on_device(self, state: ExposureState) -> DeviceExposure | None:
        """The exposure on the device, if it is there; the processor takes it over from one that is lost."""
        if not isinstance(state, CudaState) or state.exposure is None:
            return None
        if self._lost:
            self._go_on_from(state)
        return state.exposure

    def _take_over(self, state: ExposureState | None, problem: Exception) -> None:
        """Say why, and bring the processor to where the exposure is."""
        reason = f"{type(problem).__name__}: {problem}"
        if is_full(problem):
            self._references.forget()
            self._report(f"The CUDA device is full, the processor does what finds no room. {reason}")
        elif not self._lost:
            self._lost = True
            self._report(f"The CUDA device has failed, the processor goes on and does all to come. {reason}")
        with suppress(Exception), self._device.here():
            # What is still copied to the host shall not come to memory that is another exposure's by then.
            self._device.wait()
        if isinstance(state, CudaState):
            self._go_on_from(state)

    def _go_on_from(self, state: CudaState) -> None:
        """Fold anew what the journal has, from the last copy of the planes on."""
        exposure, state.exposure = state.exposure, None
        if exposure is not None:
            exposure.journal.replay(self._processor, state)
