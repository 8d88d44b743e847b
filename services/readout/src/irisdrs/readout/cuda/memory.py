"""Host memory that the device reads and writes by itself (pinned).

It takes long to get, so that it is kept for the next who wants some.
"""

import threading
import weakref
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Fewest bytes that are taken: a page of memory.
_LEAST_BYTES = 4096


class _Lease:
    """What arrays stand on: it lives as long as one of them does."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__


class PinnedPool:
    """Arrays in pinned memory, which is taken anew when nobody holds an array in it any more.

    Pieces are powers of two, as planes of whole detectors are: those of windows, however many sizes there are, and of
    tables that grow with every read, take each other's places.

    Parameters
    ----------
    allocate : callable (bytes)
        Gives fresh pinned memory, uint8.

    Attributes
    ----------
    bytes : int
        That it has taken, in use or not.
    """

    def __init__(self, allocate: Callable[[int], NDArray[np.uint8]]) -> None:
        self._allocate = allocate
        self._lock = threading.Lock()
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self.bytes = 0

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any content."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        taken = 1 << (max(size, _LEAST_BYTES) - 1).bit_length()
        with self._lock:
            free = self._free[taken]
            memory = free.pop() if free else None
        if memory is None:
            memory = self._allocate(taken)
            with self._lock:
                self.bytes += taken
        lease = _Lease(memory)
        weakref.finalize(lease, free.append, memory)
        return np.asarray(lease)[:size].view(dtype).reshape(shape)
