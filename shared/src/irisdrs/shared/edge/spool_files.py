"""The files of a spool: an entry is on the disk whole or not at all, whenever the process dies.

An entry is a descriptor (JSON: the event and, where there is one, the object to put first) and a payload (the object's
bytes, which are sent as they are however often). The payload is written and flushed first; renaming the descriptor
into its place commits the entry.

``000000000012.json``, ``000000000012.payload``: an entry; ``damaged/``: what can never be sent, with the reason beside.
"""

import contextlib
import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import structlog
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from irisdrs.shared.crash_points import reach
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events.envelope import Envelope, decode
from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import ObjectRef

_log = structlog.get_logger(__name__)

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


class SpoolFiles:
    """Entries in a folder of a local disk.

    Parameters
    ----------
    folder : Path
        Created if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._damaged = folder / "damaged"
        self._damaged.mkdir(parents=True, exist_ok=True)

    @property
    def damaged(self) -> set[int]:
        """Numbers of the entries that were put aside."""
        return set(_numbers(self._damaged)) if self._damaged.exists() else set()

    def take_over(self) -> Iterator[tuple[Entry, int]]:
        """Entries of an earlier process, in order, with the bytes of both their files.

        What is damaged is put aside; what was left half-written is removed in the end.
        """
        whole = set[int]()
        for number in sorted(_numbers(self.folder, ".json")):
            try:
                entry = _read(self._descriptor(number))
                size = self._descriptor(number).stat().st_size + _check_size(entry, self._payload(number))
            except CorruptObject as error:
                self.set_aside(number, str(error))
                continue
            whole.add(number)
            yield entry, size
        for path in _files(self.folder):
            if path.suffix == ".part" or (path.suffix == ".payload" and int(path.stem) not in whole):
                path.unlink()

    def write(self, entry: Entry, text: bytes, payload: bytes) -> None:
        """Write an entry, whose descriptor is the text; it is there when this returns, and else not at all."""
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

    def load(self, number: int) -> tuple[Entry, Path]:
        """An entry and the file of its payload, verified.

        Raises
        ------
        CorruptObject
            If its descriptor cannot be read or its payload is not what the descriptor says.
        """
        entry, payload = _read(self._descriptor(number)), self._payload(number)
        _check_size(entry, payload)
        if entry.object is not None:
            with _readable(payload), payload.open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            if sha256 != entry.object.sha256:
                raise CorruptObject(f"The spooled bytes of {entry.object.key} have changed: SHA-256 {sha256}.")
        return entry, payload

    def remove(self, number: int) -> None:
        """Remove an entry."""
        self._descriptor(number).unlink(missing_ok=True)  # first: a payload alone is removed at the next start
        reach("edge.remove.half")
        self._payload(number).unlink(missing_ok=True)

    def set_aside(self, number: int, reason: str) -> None:
        """Put an entry into ``damaged``, with the reason beside."""
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

    def _descriptor(self, number: int) -> Path:
        return self.folder / f"{number:012d}.json"

    def _payload(self, number: int) -> Path:
        return self.folder / f"{number:012d}.payload"


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
