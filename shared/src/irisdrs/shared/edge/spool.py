"""The spool: what the edge has to put and to tell lies on a local disk, in order, until it is done.

An entry is a descriptor (JSON: the event and, where there is one, the object to put first) and a payload (the object's
bytes, which are sent as they are however often). The payload is written and flushed first; renaming the descriptor
into its place commits the entry, so that it is there whole or not at all, whenever the process dies.

``000000000012.json``, ``000000000012.payload``: an entry; ``damaged/``: what can never be sent, with the reason beside.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from irisdrs.shared.crash_points import reach
from irisdrs.shared.edge.gauge import Gauge, Level
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events.envelope import Envelope, decode, encode
from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import ObjectRef

_log = structlog.get_logger(__name__)

#: How long to wait before a disk that took nothing is tried again, seconds, unless an entry was removed before.
DISK_RETRY_S = 1.0

#: Errors of a disk that takes nothing now and may later: the entry waits.
_NOT_NOW = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE}

_NAME = re.compile(r"(\d{12})\.(json|payload|part)")


class Entry(BaseModel):
    """What the descriptor of an entry says.

    Attributes
    ----------
    number : int
        Its place in the order, from 1; numbers never come again while there is an older entry or a damaged one.
    spooled_at : datetime
    envelope : Envelope
        The event to tell.
    object : ObjectRef, optional
        The object to put before: its bytes are the payload.
    metadata : dict of str to str
        The object's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    spooled_at: AwareDatetime
    envelope: Envelope
    object: ObjectRef | None = None
    metadata: dict[str, str] = Field(default_factory=dict)

    def event(self) -> Event:
        """The event to tell.

        Raises
        ------
        BadMessage
            If it is no event of this version.
        """
        return decode(self.envelope.model_dump_json().encode())[1]


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
        self._damaged = folder / "damaged"
        self._damaged.mkdir(parents=True, exist_ok=True)
        self._lock = contextlib.ExitStack()
        self._lock.enter_context(_only_process(folder))
        self._held: dict[int, _Held] = {}
        self._gauge = Gauge(max_bytes)
        self._turn = asyncio.Lock()
        self._closed = False
        self._changed = asyncio.Event()
        #: Bytes of all entries.
        self.bytes = 0
        self._last = max(self._recover(), *_numbers(self._damaged), 0)

    @property
    def depth(self) -> int:
        """Entries that wait."""
        return len(self._held)

    @property
    def damaged(self) -> int:
        """Entries that were put aside and wait for a person."""
        return len(set(_numbers(self._damaged))) if self._damaged.exists() else 0

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
        return await asyncio.to_thread(self._load, number)

    async def remove(self, number: int) -> None:
        """Forget an entry: it is put and told."""
        await asyncio.to_thread(self._unlink, number)
        self._forget(number)

    async def set_aside(self, number: int, reason: str) -> None:
        """Put an entry into ``damaged``: it can never be sent as it is."""
        await asyncio.to_thread(self._set_aside, number, reason)
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
        writing = asyncio.ensure_future(asyncio.to_thread(self._write, entry, text, payload))
        try:
            await asyncio.shield(writing)
        except OSError as error:
            if error.errno not in _NOT_NOW:
                raise
            self._gauge.block(self.bytes, f"The disk of {self.folder} cannot be written: {error.strerror}.")
            return False
        finally:  # a caller that is cancelled meanwhile must not leave an entry that only the disk knows
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

    def _descriptor(self, number: int) -> Path:
        return self.folder / f"{number:012d}.json"

    def _payload(self, number: int) -> Path:
        return self.folder / f"{number:012d}.payload"

    def _write(self, entry: Entry, text: bytes, payload: bytes) -> None:
        descriptor = self._descriptor(entry.number)
        part = descriptor.with_suffix(".part")
        try:
            if entry.object is not None:
                _write_flushed(self._payload(entry.number), payload)
                reach("edge.spool.payload.after")
            _write_flushed(part, text)
            reach("edge.spool.commit.before")
            part.replace(descriptor)
            _flush_folder(self.folder)
        except OSError:
            for path in (descriptor, part, self._payload(entry.number)):
                with contextlib.suppress(OSError):
                    path.unlink()
            raise
        reach("edge.spool.commit.after")

    def _load(self, number: int) -> tuple[Entry, Path]:
        entry, payload = _read(self._descriptor(number)), self._payload(number)
        _check_size(entry, payload)
        if entry.object is not None:
            with _readable(payload), payload.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != entry.object.sha256:
                raise CorruptObject(f"The spooled bytes of {entry.object.key} have changed: SHA-256 {sha256}.")
        return entry, payload

    def _unlink(self, number: int) -> None:
        self._descriptor(number).unlink(missing_ok=True)  # first: a payload alone is removed at the next start
        reach("edge.remove.half")
        self._payload(number).unlink(missing_ok=True)

    def _set_aside(self, number: int, reason: str) -> None:
        for path in (self._payload(number), self._descriptor(number)):  # the descriptor last: it holds the payload
            with contextlib.suppress(FileNotFoundError):
                path.rename(self._damaged / path.name)
        where = self._damaged / f"{number:012d}.json"
        _log.error(
            "an entry of the spool can never be sent: it was put aside, the others go on",
            reason=reason,
            entry=str(where),
            remedy="Mend it, move its files back into the spool and start the edge again.",
        )
        with contextlib.suppress(OSError), where.with_suffix(".txt").open("a", encoding="utf-8") as file:
            file.write(f"{reason}\n")

    def _recover(self) -> int:
        """Take over the entries of an earlier process; gives the highest number."""
        numbers = sorted(_numbers(self.folder, ".json"))
        for number in numbers:
            try:
                entry = _read(self._descriptor(number))
                size = self._descriptor(number).stat().st_size + _check_size(entry, self._payload(number))
            except CorruptObject as error:
                self._set_aside(number, str(error))
                continue
            self._hold(number, _Held(size, entry.spooled_at, entry.object.key if entry.object else None))
        for path in _files(self.folder):
            if path.suffix == ".part" or (path.suffix == ".payload" and int(path.stem) not in self._held):
                path.unlink()
        return max(numbers, default=0)


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn whatever a damaged file raises into `CorruptObject`; a process that has no files left says so itself."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
            raise
        raise CorruptObject(f"{path.name} cannot be read: {error}") from error
    except ValidationError as error:
        raise CorruptObject(f"{path.name} is no descriptor: {error}") from error


def _read(descriptor: Path) -> Entry:
    with _readable(descriptor):
        entry = Entry.model_validate_json(descriptor.read_bytes())
    if f"{entry.number:012d}" != descriptor.stem:
        raise CorruptObject(f"The descriptor {descriptor.name} says that it is number {entry.number}.")
    return entry


def _check_size(entry: Entry, payload: Path) -> int:
    """Size of an entry's payload, bytes, if it is what its descriptor says."""
    if entry.object is None:
        return 0
    size = payload.stat().st_size if payload.exists() else 0
    if size != entry.object.size:
        raise CorruptObject(f"{payload.name} has {size} bytes, its descriptor says {entry.object.size}.")
    return size


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]


def _numbers(folder: Path, suffix: str | None = None) -> list[int]:
    return [int(path.stem) for path in _files(folder) if suffix in (None, path.suffix)]


def _write_flushed(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)  # a file of that name could be an object of the store by now
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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
