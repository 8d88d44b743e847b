"""Where the reads of a ramp wait for its fit: in memory as far as a process may use it, else in files.

Such a file has no name from the beginning, so that nothing of it stays behind, however the process ends. Its room on
the disk is taken beforehand: a disk that is full says so then, and does not end the process when a page is written.
"""

import itertools
import mmap
import os
import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Offsets
from irisdrs.shared.errors import Outage

#: Memory for reads that wait, bytes, of all detectors of a process: what a machine of 8 GB has left beside references,
#: sums and a frame of four detectors of 4096 x 4096. Enough for 59 reads of one of them, or 14 of each of four.
DEFAULT_BYTES = 2_000_000_000

#: Arrays in one piece begin at multiples of it, bytes: those of any number.
_ALIGNED = 16

T = TypeVar("T", bound=np.generic)


class Room:
    """What all detectors of a process share to keep arrays in; an array is given back when nobody holds it any more.

    Parameters
    ----------
    limit_bytes : int
        Memory that it takes at most; arrays for which it is not enough are files.
    folder : Path
        Where these files are.
    """

    def __init__(self, limit_bytes: int, folder: Path) -> None:
        self._limit_bytes, self._folder = limit_bytes, folder
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._in_memory: weakref.WeakValueDictionary[int, NDArray[np.generic]] = weakref.WeakValueDictionary()

    @property
    def in_memory_bytes(self) -> int:
        """Memory that is taken now."""
        return sum(array.nbytes for array in list(self._in_memory.values()))

    def array(self, shape: tuple[int, ...], kind: type[T]) -> NDArray[T]:
        """An array with any content, the same to work with wherever it is.

        Raises
        ------
        Outage
            If it must be a file, and the disk has no room for it.
        """
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(kind).itemsize
        with self._lock:
            if self.in_memory_bytes + size <= self._limit_bytes:
                found = np.empty(shape, kind)
                self._in_memory[next(self._numbers)] = found
                return found
        return np.frombuffer(self._mapped(size), kind).reshape(shape)

    def copies(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """Copies of arrays, in one piece: each file takes a descriptor, of which a process has few.

        Errors as those of `array`.
        """
        starts = list(itertools.accumulate((-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays), initial=0))
        piece = self.array((starts[-1],), np.uint8)
        found = tuple(
            piece[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            for array, start in zip(arrays, starts[:-1], strict=True)
        )
        for copy, array in zip(found, arrays, strict=True):
            copy[...] = array
        return found

    def _mapped(self, size: int) -> mmap.mmap:
        try:
            with tempfile.TemporaryFile(dir=self._folder) as file:
                os.posix_fallocate(file.fileno(), 0, size)
                return mmap.mmap(file.fileno(), size)
        except OSError as error:
            raise Outage(
                f"There is no room in {self._folder} for {size} bytes that wait for the end of an exposure: "
                f"{os.strerror(error.errno or 0)}.",
                remedy="Free space on its disk, or allow more memory with IRIS_READOUT_RING_BYTES.",
            ) from error


class Ring:
    """The reads of the current ramp of one detector, in the order in which they came.

    A read that never came is not in it: the times of those that did decide.

    Parameters
    ----------
    room : Room
    reads : int
        Of a whole ramp.
    shape : (rows, columns)
        Of a read.
    stripes : int
        Stripes of columns whose rows have offsets of their own.

    Raises
    ------
    Outage
        If there is no room for it.
    """

    def __init__(self, room: Room, reads: int, shape: tuple[int, int], stripes: int = 1) -> None:
        rows, columns = shape
        self._counts = room.array((reads, rows, columns), np.uint16)
        self._column_offset = np.zeros((reads, columns), np.float32)
        self._row_offset = np.zeros((reads, rows, stripes), np.float32)
        self._times_s: list[float] = []

    def take(self, read: NDArray[np.uint16], time_s: float, offsets: Offsets) -> None:
        """Keep a read.

        Parameters
        ----------
        read : uint16 (rows, columns)
            Raw counts, DN.
        time_s : float
            End of the read since the reset.
        offsets : float32 (columns,), (rows,) or (rows, stripes)
            What its reference pixels take off its columns and rows, DN.
        """
        at = len(self._times_s)
        self._counts[at] = read
        of_columns, of_rows = offsets
        self._column_offset[at], self._row_offset[at] = of_columns, of_rows.reshape(len(of_rows), -1)
        self._times_s.append(time_s)

    def clear(self) -> None:
        """Forget the reads: the next ramp takes their place."""
        self._times_s = []

    @property
    def reads(self) -> NDArray[np.uint16]:
        """The reads (reads, rows, columns), DN."""
        return self._counts[: len(self._times_s)]

    @property
    def times_s(self) -> NDArray[np.float64]:
        """Ends of the reads since the reset (reads,), s."""
        return np.array(self._times_s, np.float64)

    @property
    def column_offset(self) -> NDArray[np.float32]:
        """What is taken off the columns of each read (reads, columns), DN."""
        return self._column_offset[: len(self._times_s)]

    @property
    def row_offset(self) -> NDArray[np.float32]:
        """What is taken off the rows of each read (reads, rows, stripes), DN."""
        return self._row_offset[: len(self._times_s)]
