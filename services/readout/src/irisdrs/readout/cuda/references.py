"""Calibration references in the memory of a device."""

from dataclasses import dataclass
from threading import Lock
from weakref import WeakValueDictionary, finalize

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.cuda.device import Device, DeviceArray


@dataclass(frozen=True, slots=True, weakref_slot=True)
class References:
    """Planes of a `Calibration` on a device: 0.6 GB at 4096 x 4096, which take 11 ms to send."""

    threshold: DeviceArray
    terms: tuple[DeviceArray, ...]
    gain: DeviceArray
    read_noise: DeviceArray
    dq: DeviceArray


class KeptReferences:
    """The references of all calibrations that there are; the next exposure of a detector finds them on the device.

    Those of a calibration that is gone, as the thinned one of a picture is with its exposure, are gone, too.

    Parameters
    ----------
    device : Device
    """

    def __init__(self, device: Device) -> None:
        self._device, self._lock = device, Lock()
        # By the identity of their calibration, which is no other one's as long as this one is there.
        self._kept: dict[int, References] = {}
        self._there: WeakValueDictionary[int, References] = WeakValueDictionary()

    def of(self, calibration: Calibration) -> References:
        """The planes of a calibration; errors as those of `Device.empty`."""
        identity = id(calibration)
        with self._lock:
            found = self._there.get(identity)
            if found is None:
                found = self._there[identity] = self._sent(calibration)
                finalize(calibration, self._give_up, identity)
            self._kept[identity] = found
            return found

    def forget(self) -> None:
        """Give the memory of those back that no exposure uses."""
        self._kept.clear()

    def _give_up(self, identity: int) -> None:
        self._kept.pop(identity, None)
        self._there.pop(identity, None)

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
