"""What the host keeps of an exposure on a device, so that the processor can go on should the device fail.

A copy of the planes, taken every so many reads, and the reads since: in pinned memory, from where the device fetches
them anyway.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.accumulation import Offsets, Ramp, Rows, Sums
from irisdrs.readout.backend import Backend, ExposureState
from irisdrs.readout.cuda.memory import PinnedPool

T = TypeVar("T", bound=np.generic)

#: Entries between copies. A copy of the planes takes as long as sending 20 reads and holds the folding up: with 32
#: reads it costs less than they do. For a detector of 4096 x 4096 they are 1 GB of the host's memory.
MOST_ENTRIES = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """A read in pinned memory; offsets are those of its columns and rows."""

    read: NDArray[np.uint16]
    time_s: float
    offsets: Offsets


class Journal:
    """Entries since the last copy; None is the end of a ramp.

    Parameters
    ----------
    pinned : PinnedPool
    share : callable (rows, work)
        Calls work(start, stop) for bands of rows: one thread copies a read more slowly than the
        device fetches it.
    """

    def __init__(self, pinned: PinnedPool, share: Rows) -> None:
        self._pinned, self._share = pinned, share
        self._entries: list[Entry | None] = []
        self._ramp: Ramp | None = None
        self._sums: Sums | None = None

    @property
    def is_full(self) -> bool:
        """Whether it is time for a copy."""
        return len(self._entries) >= MOST_ENTRIES

    def entry(self, read: NDArray[np.uint16], time_s: float, offsets: Offsets) -> Entry:
        """A read in pinned memory, not yet in the journal."""
        columns, rows = offsets
        return Entry(self._copy(read), time_s, (self._copy(columns), self._copy(rows)))

    def note(self, entry: Entry | None) -> None:
        """Append a read that was folded, or the end of a ramp."""
        self._entries.append(entry)

    def begin_with(self, ramp: Ramp | None, sums: Sums | None) -> None:
        """Begin anew with a copy of the planes, in which all entries are."""
        self._ramp, self._sums, self._entries = ramp, sums, []

    def replay(self, backend: Backend, state: ExposureState) -> None:
        """Bring a state on the processor to where the exposure is."""
        state.ramp, state.sums = self._ramp, self._sums
        for entry in self._entries:
            if entry is None:
                backend.end_ramp(state)
            else:
                backend.fold(state, entry.read, entry.time_s, entry.offsets)

    def _copy(self, values: NDArray[T]) -> NDArray[T]:
        copy: NDArray[T] = self._pinned.array(values.shape, values.dtype)

        def copy_rows(start: int, stop: int) -> None:
            copy[start:stop] = values[start:stop]

        self._share(len(values), copy_rows)
        return copy
