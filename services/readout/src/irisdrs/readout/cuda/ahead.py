"""Reads of a ramp on the device before its last one comes: then only that one has to be sent."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Rows
from irisdrs.readout.cuda.device import Device, DeviceArray

#: Reads that are on their way at a time.
_UNDER_WAY = 2


class ReadsAhead:
    """The reads of the current ramp of one detector, on a device; it is a `backend.Ahead`.

    What fails here costs time alone: the reads are with the caller, too.

    Parameters
    ----------
    device : Device
    reads : int
        Of a whole ramp.
    shape : (rows, columns)
    share : callable (rows, work)
        Calls work(start, stop) for bands of rows.
    """

    def __init__(self, device: Device, reads: int, shape: tuple[int, int], share: Rows) -> None:
        self._device, self._share = device, share
        self._reads: DeviceArray = device.empty((reads, *shape), np.uint16)
        self._stream = device.stream()
        self._slots: list[NDArray[np.uint16]] = [device.pinned.array(shape, np.uint16) for _ in range(_UNDER_WAY)]
        self._sent = [device.event() for _ in range(_UNDER_WAY)]
        self._count = 0
        self._whole = True

    def take(self, read: NDArray[np.uint16]) -> None:
        """Send the next read."""
        self._whole = self._whole and self._tried(lambda: self._send(read))
        self._count += 1

    def clear(self) -> None:
        """Forget the reads: the next ramp takes their place."""
        self._count, self._whole = 0, True

    def of(self, reads: int) -> DeviceArray | None:
        """All reads of the ramp on the device; None if these are not so many."""
        if not self._whole or self._count != reads:
            return None
        self._stream.synchronize()
        return self._reads[:reads]

    def _send(self, read: NDArray[np.uint16]) -> None:
        slot, sent = self._slots[self._count % _UNDER_WAY], self._sent[self._count % _UNDER_WAY]
        if self._count >= _UNDER_WAY:
            sent.synchronize()

        def copy_rows(start: int, stop: int) -> None:
            slot[start:stop] = read[start:stop]

        self._share(len(read), copy_rows)
        self._reads[self._count].copy_to_device(slot, stream=self._stream)
        sent.record(self._stream)

    def _tried(self, work: Callable[[], object]) -> bool:
        try:
            with self._device.here():
                work()
        except Exception:  # noqa: BLE001 - the fit meets the same problem, and says so
            return False
        return True
