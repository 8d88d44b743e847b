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


class _Lease:
    """What arrays stand on: it lives as long as one of them does."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self.__array_interface__ = memory.__array_interface__


class PinnedPool:
    """Arrays in pinned memory, which is taken anew when nobody holds an array in it any more.

    Parameters
    ----------
    allocate : callable (bytes)
        Gives fresh pinned memory, uint8.
    """

    def __init__(self, allocate: Callable[[int], NDArray[np.uint8]]) -> None:
        self._allocate = allocate
        self._lock = threading.Lock()
        self._free: defaultdict[int, list[NDArray[np.uint8]]] = defaultdict(list)
        self.bytes = 0

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array with any content."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        with self._lock:
            memory = self._free[size].pop() if self._free[size] else None
        if memory is None:
            memory = self._allocate(size)
            self.bytes += size
        lease = _Lease(memory)
        weakref.finalize(lease, self._free[size].append, memory)
        return np.asarray(lease).view(dtype).reshape(shape)
