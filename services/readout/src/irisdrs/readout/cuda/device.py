"""One CUDA device: its memory, bounded and counted, its streams, and the launching of kernels.

Everything that touches the device goes through here. Without one, numba's simulator takes its place, behind the same
calls.
"""

import threading
import weakref
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irisdrs.readout.cuda.compilation import COMPILES, SIMULATED, Kernel, cuda
from irisdrs.readout.cuda.memory import PinnedPool

#: Threads that a kernel is launched with at a time, along a row: enough to hide what memory lets them wait for.
BLOCK_THREADS = 256

#: Of the device's memory, what it may take unless another bound is given: the driver and others need a little, too.
_MOST_OF_MEMORY = 0.9

#: An array (rows, columns) or (count, rows, columns) in the memory of a device; numba has no types for it.
DeviceArray = Any


class DeviceFull(Exception):
    """The device has no room for what was to be there."""


class Device:
    """A CUDA device.

    Several threads may use it at once.

    Parameters
    ----------
    number : int
    limit_bytes : int, optional
        Memory of the device that it takes at most [default: nine tenths of what is there].

    Attributes
    ----------
    name : str
    """

    def __init__(self, number: int = 0, limit_bytes: int | None = None) -> None:
        self.number = number
        self._lock = threading.RLock()
        self._taken_bytes = 0
        # What garbage collection gives back, in whichever thread it runs: it may wait for no lock.
        self._given_back: deque[int] = deque()
        with self.here():
            found = cuda.current_context()
            total = found.get_memory_info().total
            name = getattr(found.device, "name", "simulator")
        self.name: str = name.decode() if isinstance(name, bytes) else str(name)
        self.limit_bytes = limit_bytes if limit_bytes is not None else _MOST_OF_MEMORY * total
        self.pinned = PinnedPool(self._pin)

    @property
    def bytes_in_use(self) -> int:
        """Memory of the device that is taken now."""
        with self._lock:
            while self._given_back:
                self._taken_bytes -= self._given_back.popleft()
            return self._taken_bytes

    @contextmanager
    def here(self) -> Iterator[None]:
        """Within it, this is the device of the thread."""
        with cuda.gpus[self.number]:
            self._give_back()
            yield

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """An array with any content.

        Raises
        ------
        DeviceFull
            If it would take more than the bound. The driver has errors of its own.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self._lock:
            taken = self.bytes_in_use
            if taken + size > self.limit_bytes:
                raise DeviceFull(
                    f"{self.name} has {taken} of {self.limit_bytes:.0f} bytes taken; {size} more do not fit"
                )
            found = cuda.device_array(shape, np.dtype(dtype))
            self._taken_bytes += size
        weakref.finalize(found, self._given_back.append, size)
        return found

    def holding(self, values: NDArray[Any], stream: Any) -> DeviceArray:
        """A copy of an array on the device; it is there when the stream comes to it."""
        found = self.empty(values.shape, values.dtype)
        if values.size:
            found.copy_to_device(np.require(values, requirements=["C", "W"]), stream=stream)
        return found

    def plain(self, array: DeviceArray) -> DeviceArray:
        """An array as functions take it that work on arrays; those of the simulator are of NumPy."""
        return getattr(array, "_ary", array)

    def stream(self) -> Any:
        """A new stream: what is given to it happens one after another, beside all other streams."""
        return cuda.stream()

    def event(self) -> Any:
        """A new event: recorded in one stream, others can wait for it."""
        return cuda.event()

    def wait(self) -> None:
        """Wait until everything is done that it was given, in all streams."""
        cuda.synchronize()

    def launch(self, kernel: Kernel, shape: tuple[int, int], stream: Any, *arguments: Any) -> None:
        """Have a kernel called for every pixel of (rows, columns)."""
        rows, columns = shape
        threads = min(BLOCK_THREADS, columns)
        with self._lock:
            kernel[(-(-columns // threads), rows), (threads, 1), stream](*arguments)

    def _give_back(self) -> None:
        """Give back what was dropped since, in whichever thread: it takes the context that the device's thread has."""
        if COMPILES:
            context = cuda.current_context()
            with self._lock:
                context.memory_manager.deallocations.clear()
                context.deallocations.clear()

    def _pin(self, size: int) -> NDArray[np.uint8]:
        found: NDArray[np.uint8] = cuda.pinned_array(size, np.uint8)
        return found


def is_full(problem: BaseException) -> bool:
    """Whether an error says that memory has run out: it passes, where others stay."""
    return isinstance(problem, (DeviceFull, MemoryError)) or "OUT_OF_MEMORY" in str(problem)


def is_simulated() -> bool:
    """Whether devices are simulated."""
    return SIMULATED
