"""Calibration references in the memory of a device."""

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.cuda.device import Device, DeviceArray

#: Calibrations that are kept on a device: one for each detector. At 4096 x 4096 each takes 0.6 GB, and 11 ms to send.
KEPT = 5


@dataclass(frozen=True, slots=True)
class References:
    """Planes of a `Calibration` on a device."""

    threshold: DeviceArray
    terms: tuple[DeviceArray, ...]
    gain: DeviceArray
    read_noise: DeviceArray
    dq: DeviceArray


class KeptReferences:
    """The references that were used last; the next exposure of a detector finds them on the device.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self._device, self._lock = device, Lock()
        self._kept: OrderedDict[int, tuple[Calibration, References]] = OrderedDict()

    def of(self, calibration: Calibration) -> References:
        """The planes of a calibration; errors as those of `Device.empty`."""
        with self._lock:
            # The calibration is kept, too: as long as it is, no other one has its identity.
            if id(calibration) not in self._kept:
                self._kept[id(calibration)] = calibration, self._sent(calibration)
            self._kept.move_to_end(id(calibration))
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[id(calibration)][1]

    def forget(self) -> None:
        """Give the memory of those back that no exposure uses."""
        with self._lock:
            self._kept.clear()

    def _sent(self, calibration: Calibration) -> References:
        stream = self._device.stream()
        found = References(
            threshold=self._device.holding(calibration.threshold, stream),
            terms=tuple(self._device.holding(term, stream) for term in calibration.terms),
            gain=self._device.holding(calibration.gain, stream),
            read_noise=self._device.holding(calibration.read_noise, stream),
            dq=self._device.holding(calibration.dq, stream),
        )
        stream.synchronize()
        return found
