"""An exposure whose planes are on a device."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Offsets, Ramp, Rows, Sums
from irisdrs.readout.backend import ExposureState, RateFrame, flags_of
from irisdrs.readout.cuda import kernels, sum_kernels
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import Device, DeviceArray
from irisdrs.readout.cuda.journal import Journal
from irisdrs.readout.cuda.ramps import P, add, fold, planes_of, with_planes
from irisdrs.readout.cuda.references import References
from irisdrs.shared.quality import Quality

#: Reads on the device at a time: one is folded while the next one comes.
_READS_THERE = 2

#: What is sent along with a read grows by so much at a time: elements of the first axis.
_ROOM = 256


class DeviceExposure:
    """The state of an exposure on a device; one thread at a time calls it, and all may raise the device's errors.

    Reads come in one stream and are folded in another, in the order of the calls; nothing is waited for before a result
    is asked for.

    Parameters
    ----------
    device : Device
    state : ExposureState
        Mode, options and calibration of the exposure.
    ramp : Ramp
        Without a read; its planes are not touched.
    references : References
        Of this calibration.
    share : callable (rows, work)
        Calls work(start, stop) for bands of rows.

    Attributes
    ----------
    journal : Journal
        What somebody else needs to go on from here.
    """

    def __init__(self, device: Device, state: ExposureState, ramp: Ramp, references: References, share: Rows) -> None:
        self._device, self._state, self._references = device, state, references
        self._shape = state.calibration.gain.shape
        self.journal = Journal(device.pinned, share)
        self._coming, self._stream = device.stream(), device.stream()
        self._ramp: Ramp = with_planes(ramp, self._shape, device.empty)
        self._sums = with_planes(Sums.alloc(self._shape), self._shape, device.empty)
        self._dq = device.empty(self._shape, np.uint32)
        self._reads: list[tuple[DeviceArray, ...]] = []
        self._come = [device.event() for _ in range(_READS_THERE)]
        self._folded = [device.event() for _ in range(_READS_THERE)]
        self._taken, self._summed = 0, 0
        self._grown = device.empty(self._shape, np.uint16) if state.options.grow_saturation else None
        self._sent: dict[str, DeviceArray] = {}
        self._held: list[NDArray[Any]] = []

    @property
    def times_s(self) -> list[float]:
        """Times of the reads of the current ramp."""
        return self._ramp.times_s

    @property
    def is_empty(self) -> bool:
        """Whether no read has come yet."""
        return self._taken == 0

    def fold(self, read: NDArray[np.uint16], time_s: float, offsets: Offsets) -> None:
        """Fold a read."""
        if self.journal.is_full:
            self.journal.begin_with(*self.host_copy())
        entry = self.journal.entry(read, time_s, offsets)
        sent = entry.read, *entry.offsets
        if self._taken < _READS_THERE:
            self._reads.append(tuple(self._device.empty(part.shape, part.dtype) for part in sent))
        at = self._taken % _READS_THERE
        there, arrived, done = self._reads[at], self._come[at], self._folded[at]
        if self._taken >= _READS_THERE:
            done.wait(self._coming)
        for destination, source in zip(there, sent, strict=True):
            destination.copy_to_device(source, stream=self._coming)
        arrived.record(self._coming)
        arrived.wait(self._stream)
        counts = there[0]
        if self._grown is not None:
            self(kernels.grow, counts, self._references.threshold, self._grown)
            counts = self._grown
        self._ramp.times_s.append(time_s)
        fold(self, self._ramp, counts, (there[1], there[2]), self._references)
        done.record(self._stream)
        self._taken += 1
        self.journal.note(entry)

    def end_ramp(self) -> None:
        """Add the ramp to the sums; nothing when it has no read."""
        if not self._ramp.times_s:
            return
        add(
            self,
            self._ramp,
            self._sums,
            self._references,
            self._state.full_time_s,
            scaled=self._state.options.linearity_noise,
            fresh=self._summed == 0,
        )
        self._summed += 1
        self.journal.note(None)
        self._ramp = replace(self._ramp, times_s=[])

    def close(self, flags: Quality) -> RateFrame:
        """The frame, in pinned memory."""
        self.end_ramp()
        sums, dq, calibration = self._sums, self._dq, self._state.calibration
        saturated = self.send("saturated", np.zeros(1, np.int32))
        rows, columns = calibration.science
        self(
            sum_kernels.close,
            self._references.gain,
            self._references.read_noise,
            self._references.dq,
            np.uint32(flags | flags_of(self._state.mode)),
            (rows.start, rows.stop, columns.start, columns.stop),
            *(sums.seen, sums.signal, sums.weight, sums.poisson, sums.rnoise),
            dq,
            saturated,
        )
        found = [self._fetch(plane) for plane in (sums.signal, sums.weight, sums.poisson, sums.rnoise, dq, saturated)]
        self.wait()
        data, err, var_poisson, var_rnoise, found_dq, count = found
        science = max((rows.stop - rows.start) * (columns.stop - columns.start), 1)
        return RateFrame(data, err, var_poisson, var_rnoise, found_dq, float(int(count[0]) / science))

    def host_copy(self, step: int = 1) -> tuple[Ramp | None, Sums | None]:
        """Ramp and sums as the processor has them, in pinned memory; or every so many rows and columns of them."""
        ramp = self._copied(self._ramp, step) if self._ramp.times_s else None
        if ramp is not None:
            ramp.times_s = list(ramp.times_s)  # those of the device's ramp grow
        sums = self._copied(self._sums, step) if self._summed else None
        self.wait()
        return ramp, sums

    def wait(self) -> None:
        """Wait until everything is done; what was given may be changed then."""
        self._stream.synchronize()
        self._held.clear()

    def __call__(self, kernel: Kernel, *arguments: Any) -> None:
        """Have a kernel run on all pixels, after those before."""
        self._device.launch(kernel, self._shape, self._stream, *arguments)

    def send(self, name: str, values: NDArray[Any]) -> DeviceArray:
        """Small values for the next kernel, in memory that is used again under this name."""
        there = self._sent.get(name)
        if there is None or there.shape[1:] != values.shape[1:] or there.shape[0] < values.shape[0]:
            room = -(-values.shape[0] // _ROOM) * _ROOM
            there = self._sent[name] = self._device.empty((room, *values.shape[1:]), values.dtype)
        pinned = self._device.pinned.array(values.shape, values.dtype)
        pinned[...] = values
        self._held.append(pinned)  # until the copy is made
        there[: values.shape[0]].copy_to_device(pinned, stream=self._stream)
        return there

    def _copied(self, state: P, step: int) -> P:
        rows, columns = self._shape
        thinned = -(-rows // step), -(-columns // step)
        copy = with_planes(state, self._shape, self._device.pinned.array, thinned)
        there = state if step == 1 else with_planes(state, self._shape, self._device.empty, thinned)
        sources, destinations = planes_of(there, thinned), planes_of(copy, thinned)
        for name, plane in planes_of(state, self._shape).items():
            if step > 1:
                self._thin(plane, sources[name], thinned, step)
            sources[name].copy_to_host(destinations[name], stream=self._stream)
        return copy

    def _thin(self, plane: DeviceArray, thinned: DeviceArray, shape: tuple[int, int], step: int) -> None:
        several = [(plane, thinned)] if len(plane.shape) == 2 else [(plane[j], thinned[j]) for j in range(len(plane))]
        for source, destination in several:
            self._device.launch(kernels.thin, shape, self._stream, source, step, destination)

    def _fetch(self, plane: DeviceArray) -> NDArray[Any]:
        copy = self._device.pinned.array(tuple(plane.shape), plane.dtype)
        plane.copy_to_host(copy, stream=self._stream)
        return copy
