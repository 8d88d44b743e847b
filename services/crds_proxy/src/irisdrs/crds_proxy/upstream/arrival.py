"""One file on its way: fetched by one process of the host, verified, then renamed; readers follow while it comes.

The bytes gather in a partial file whose name follows from the file's own, so that a download that was cut, or whose
process was killed, goes on where it ended. Whoever holds the lock downloads; the others watch the partial file grow.
The last byte is held back until the checksum holds: nobody gets a whole file that is a wrong one.
"""

import asyncio
import contextlib
import fcntl
import os
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

import structlog

from irisdrs.crds_proxy.holdings import Published
from irisdrs.crds_proxy.upstream.server import Stream
from irisdrs.shared.crds.cache import FileFacts, facts_of
from irisdrs.shared.errors import Outage

_log = structlog.get_logger(__name__)

#: Gives the bytes of the file from a position on.
Download = Callable[[int], AbstractAsyncContextManager[Stream]]

#: How often a process looks how far another one has come, seconds: short against the fetching.
_LOOK_S = 0.05

#: Times that one download is begun or gone on with before it counts as failed.
_ATTEMPTS = 3

#: Bytes that are read at once for a reader.
_CHUNK_BYTES = 1 << 20


class WrongBytes(Exception):
    """What arrived is not what was announced."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file and its parts lie; locks have a folder of their own."""

    folder: Path
    name: str
    locks: Path

    @property
    def final(self) -> Path:
        """The whole file."""
        return self.folder / self.name

    @property
    def part(self) -> Path:
        """What has arrived of it."""
        return self.folder / f".{self.name}.part"

    @property
    def lock(self) -> Path:
        """Held by the process that downloads."""
        return self.locks / self.name


class Arrival:
    """A file on its way. For the tasks of one event loop.

    Parameters
    ----------
    place : Place
    expected : Published
    download : callable
    keep : callable
        Told the facts of the verified file, before it appears under its name.
    """

    def __init__(
        self, place: Place, expected: Published, download: Download, keep: Callable[[str, FileFacts], object]
    ) -> None:
        self.size = expected.size
        self._place = place
        self._expected = expected
        self._download = download
        self._keep = keep
        self._arrived = 0
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"fetch {place.name}")

    async def whole(self) -> Path:
        """The verified file, once it is there.

        Raises
        ------
        Outage
            If the server is away or sends wrong bytes, or the disk is full.
        """
        return await asyncio.shield(self._task)  # who gives up does not take the file away from the others

    @property
    def problem(self) -> BaseException | None:
        """Why it did not arrive; None while it may, and when it has."""
        if not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    def when_done(self, act: Callable[[], object]) -> None:
        """Act when it has arrived, or failed."""
        self._task.add_done_callback(lambda _: act())

    async def cancel(self) -> None:
        """Give it up; what has arrived stays for the next time."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The bytes, while they come; the last one only when all of them are verified.

        Raises
        ------
        Outage
            If they turn out to be wrong, or the rest does not come.
        """
        position = 0
        while self._readable <= 0 and not self._task.done():
            await self._progress()
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(await asyncio.to_thread(self._open))
            inode = os.fstat(file.fileno()).st_ino
            while position < self.size:
                if self._readable <= position:
                    await self._progress()
                    continue
                if self._readable == self.size and inode != self._place.final.stat().st_ino:
                    raise Outage(f"{self._place.name} arrived damaged, and was fetched again.", remedy="Ask again.")
                wanted = min(self._readable - position, _CHUNK_BYTES)
                chunk = await asyncio.to_thread(file.read, wanted)
                if not chunk:  # a partial file that was begun anew
                    raise Outage(f"{self._place.name} is being fetched again.", remedy="Ask again.")
                position += len(chunk)
                yield chunk

    @property
    def _readable(self) -> int:
        done = self._task.done() and not self._task.cancelled() and self.problem is None
        return self.size if done else min(self._arrived, self.size - 1)

    async def _progress(self) -> None:
        """Wait until more bytes are there, or it has ended; raise what it ended with."""
        if self._task.done():
            await self.whole()
        news = asyncio.create_task(self._news.wait())
        try:
            await asyncio.wait({news, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            news.cancel()
        if self._task.done():
            await self.whole()

    def _open(self) -> FileIO:
        with contextlib.suppress(FileNotFoundError):
            return self._place.part.open("rb", buffering=0)
        return self._place.final.open("rb", buffering=0)

    def _grown(self, arrived: int) -> None:
        self._arrived = arrived
        self._news.set()
        self._news = asyncio.Event()

    async def _run(self) -> Path:
        try:
            while True:
                with _attempted(self._place.lock) as is_ours:
                    if await asyncio.to_thread(self._is_there):
                        return self._place.final
                    if is_ours:
                        await self._fetch()
                        return self._place.final
                await asyncio.sleep(_LOOK_S)
                self._grown(_size_of(self._place.part))
        except OSError as error:
            raise Outage(
                f"The folder {self._place.folder} cannot take {self._place.name}: {error.strerror}.",
                remedy="Free or mend its disk, or make it writable.",
            ) from error

    def _is_there(self) -> bool:
        """Whether another process has finished it, or somebody has put it there; then it is in the manifest, too."""
        path = self._place.final
        if _size_of(path) != self._expected.size or not self._matches(facts := facts_of(path)):
            return False
        path.chmod(0o444)
        self._keep(self._place.name, facts)
        return True

    async def _fetch(self) -> None:
        """Download, going on where it was cut; bytes that turn out to be wrong are fetched once more from the start."""
        problem: Exception | None = None
        for attempt in range(_ATTEMPTS):
            try:
                await self._fetch_once()
            except (Outage, WrongBytes) as error:
                problem = error
                _log.warning("did not arrive", name=self._place.name, problem=str(error), attempt=attempt + 1)
            except OSError:
                self._place.part.unlink(missing_ok=True)  # a full disk gets its room back
                raise
            else:
                return
        if isinstance(problem, Outage):
            raise problem
        raise Outage(
            f"{self._place.name} arrived damaged, {_ATTEMPTS} times: {problem}.",
            remedy="Compare it with the file on the CRDS server; look at what lies between. It is asked for again.",
        ) from problem

    async def _fetch_once(self) -> None:
        start = min(_size_of(self._place.part), self.size)
        free = shutil.disk_usage(self._place.folder).free
        if free < self.size - start:
            raise OSError(28, f"{self.size - start} bytes are missing, {free} are free")
        if start < self.size or self.size == 0:
            await self._receive(start)
        facts = await asyncio.to_thread(facts_of, self._place.part)
        if not self._matches(facts):
            self._place.part.unlink()
            raise WrongBytes(f"{facts.size} bytes with SHA-1 {facts.sha1sum} instead of {self._expected}")
        await asyncio.to_thread(self._publish, facts)

    async def _receive(self, start: int) -> None:
        async with self._download(start) as stream:
            if stream.start not in (0, start):
                raise WrongBytes(f"asked from byte {start} on, it came from {stream.start} on")
            if stream.start < start:
                self._place.part.unlink()  # readers keep the old one, and notice
            position = stream.start
            with self._place.part.open("ab" if position else "wb", buffering=0) as file:
                async for chunk in stream.chunks:
                    position += len(chunk)
                    if position > self.size:
                        self._place.part.unlink()
                        raise WrongBytes(f"it has more than the announced {self.size} bytes")
                    await asyncio.to_thread(_write, file.fileno(), chunk)
                    self._grown(position)
        if position < self.size:
            raise Outage(f"{self._place.name} was cut after {position} of {self.size} bytes.", remedy="Ask again.")

    def _matches(self, facts: FileFacts) -> bool:
        wanted = self._expected
        return (facts.size, facts.sha1sum) == (wanted.size, wanted.sha1sum) and wanted.sha256 in ("", facts.sha256)

    def _publish(self, facts: FileFacts) -> None:
        """Make the verified file appear: durable, read-only and in the manifest first."""
        with self._place.part.open("rb") as file:
            os.fsync(file.fileno())
        self._place.part.chmod(0o444)
        self._keep(self._place.name, facts)
        self._place.part.replace(self._place.final)


def _write(handle: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(handle, view) :]


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@contextmanager
def _attempted(path: Path) -> Iterator[bool]:
    """Try to take a lock that ends with the process, however it ends; whether it was taken."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
