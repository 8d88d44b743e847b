"""The spool: what the edge has to put and to tell lies on a local disk (`spool_files`), in order, until it is done."""

import asyncio
import contextlib
import errno
import fcntl
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from irisdrs.shared.edge.gauge import Gauge, Level
from irisdrs.shared.edge.spool_files import Entry, SpoolFiles
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events.envelope import Envelope, encode
from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import ObjectRef

#: How long to wait before a disk that took nothing is tried again, seconds, unless an entry was removed before.
DISK_RETRY_S = 1.0

#: Errors of a disk that takes nothing now and may later: the entry waits.
_NOT_NOW = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}


@dataclass(frozen=True, slots=True)
class _Held:
    size: int
    spooled_at: datetime
    key: str | None


class Spool:
    """A bounded queue of entries in a folder of a local disk, for one process at a time.

    Parameters
    ----------
    folder : Path
        Created if it is not there. Entries of an earlier process are taken over; what it left half-written is
        removed, what is damaged is put aside.
    max_bytes : int
        Bound on descriptors and payloads.

    Raises
    ------
    Fatal
        If another process uses the folder.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._files = SpoolFiles(folder)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(_only_process(folder))
        self._held: dict[int, _Held] = {}
        self._gauge = Gauge(max_bytes)
        self._turn = asyncio.Lock()
        self._closed = False
        self._changed = asyncio.Event()
        #: Bytes of all entries.
        self.bytes = 0
        self._last = 0
        for entry, size in self._files.take_over():
            self._hold(entry.number, _Held(size, entry.spooled_at, entry.object.key if entry.object else None))
        self._last = max(self._last, *self._files.damaged, 0)

    @property
    def depth(self) -> int:
        """Entries that wait."""
        return len(self._held)

    @property
    def damaged(self) -> int:
        """Entries that were put aside and wait for a person."""
        return len(self._files.damaged)

    @property
    def oldest_age_s(self) -> float:
        """How long the oldest entry has waited, seconds; 0 when there is none."""
        oldest = next(iter(self._held.values()), None)
        return 0.0 if oldest is None else max((datetime.now(UTC) - oldest.spooled_at).total_seconds(), 0.0)

    @property
    def level(self) -> Level:
        """How full it is."""
        return self._gauge.level

    def minutes_left(self) -> float | None:
        """Minutes until it is full at the present rate; None while it does not grow."""
        return self._gauge.minutes_left()

    def keys(self) -> list[str]:
        """Keys of the objects that wait to be put."""
        return [held.key for held in self._held.values() if held.key is not None]

    async def append(
        self,
        event: Event,
        ref: ObjectRef | None = None,
        payload: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> int:
        """Add an entry; waits while there is no room for it. Gives its number, once it is safe on the disk.

        Parameters
        ----------
        event : Event
        ref : ObjectRef, optional
            The object to put before the event is told.
        payload : bytes
            Its content.
        metadata : mapping of str to str, optional
            Its metadata.

        Raises
        ------
        Fatal
            If it is larger than the whole spool may become.
        """
        async with self._turn:
            entry = Entry(
                number=self._last + 1,
                spooled_at=datetime.now(UTC),
                envelope=Envelope.model_validate_json(encode(event, "edge")),
                object=ref,
                metadata=dict(metadata or {}),
            )
            text = entry.model_dump_json().encode()
            held = _Held(len(text) + len(payload), entry.spooled_at, ref.key if ref else None)
            await self._room(held.size, event)
            while not await self._commit(entry, held, text, payload):
                await self._change(DISK_RETRY_S)
            return entry.number

    async def following(self, number: int) -> int:
        """Number of the first entry after another; waits until there is one."""
        while (found := next((held for held in self._held if held > number), None)) is None:
            await self._change()
        return found

    async def emptied(self) -> None:
        """Wait until there is no entry."""
        while self._held:
            await self._change()

    async def load(self, number: int) -> tuple[Entry, Path]:
        """An entry and the file of its payload, verified.

        Raises
        ------
        CorruptObject
            If its descriptor cannot be read or its payload is not what the descriptor says.
        """
        return await asyncio.to_thread(self._files.load, number)

    async def remove(self, number: int) -> None:
        """Forget an entry: it is put and told."""
        await asyncio.to_thread(self._files.remove, number)
        self._forget(number)

    async def set_aside(self, number: int, reason: str) -> None:
        """Put an entry into ``damaged``: it can never be sent as it is."""
        await asyncio.to_thread(self._files.set_aside, number, reason)
        self._forget(number)

    def close(self) -> None:
        """Let go of the folder, and remove it if nothing is left in it; the second time does nothing."""
        if not self._closed and not self._held and not self.damaged:
            shutil.rmtree(self.folder, ignore_errors=True)
        self._lock.close()
        self._closed = True

    async def _room(self, size: int, event: Event) -> None:
        if size > self.max_bytes:
            raise Fatal(
                f"{event.told_as} {event.subject} has {size} bytes, the spool {self.folder} holds at most "
                f"{self.max_bytes}.",
                remedy="Raise IRIS_SPOOL_MAX_BYTES.",
            )
        while self.bytes + size > self.max_bytes:
            self._gauge.block(self.bytes, f"{size} bytes more are over its bound (IRIS_SPOOL_MAX_BYTES).")
            await self._change()

    async def _commit(self, entry: Entry, held: _Held, text: bytes, payload: bytes) -> bool:
        """Write an entry; False if the disk cannot take it now."""
        writing = asyncio.ensure_future(asyncio.to_thread(self._files.write, entry, text, payload))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            self._gauge.block(self.bytes, f"The disk of {self.folder} cannot be written: {error.strerror}.")
            return False
        finally:  # a caller that is cancelled meanwhile, or twice, must not leave an entry that only the disk knows
            while not writing.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({writing})
            if writing.exception() is None:
                self._hold(entry.number, held)
        return True

    def _hold(self, number: int, held: _Held) -> None:
        self._held[number] = held
        self._last = number
        self.bytes += held.size
        self._gauge.show(self.bytes)
        self._changed.set()

    def _forget(self, number: int) -> None:
        self.bytes -= self._held.pop(number).size
        self._gauge.show(self.bytes)
        self._changed.set()

    async def _change(self, timeout_s: float | None = None) -> None:
        """Wait until an entry is added or removed; all who wait wake up and look for themselves."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()


@contextlib.contextmanager
def _only_process(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock ends with the process, however it ends."""
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fatal(
                f"Another process uses the spool {folder}.",
                remedy="Stop it, or name another folder with IRIS_SPOOL_DIR.",
            ) from None
        yield
