"""A local folder of reference files that were fetched from elsewhere: whole, verified, read-only, shared by processes.

A file lies under its SHA-256, ``{sha256[:2]}/{sha256}/{name}``, so it never changes and is never stale. It appears by
a rename after its bytes were verified: nobody sees a part of it, whoever is killed.
"""

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import structlog

from irisdrs.shared.crds.cache import staged
from irisdrs.shared.errors import Outage, Retryable
from irisdrs.shared.fetch_lock import WAIT_S, one_fetcher
from irisdrs.shared.file_signature import Signature, signature, signature_of
from irisdrs.shared.reference_wire import FoundReference

_log = structlog.get_logger(__name__)

#: Gives the bytes of a reference. Raises `Outage` if its server is away.
Download = Callable[[FoundReference], AsyncGenerator[bytes, None]]

#: Age at which a temporary file is one that a killed process left, seconds: no download takes that long.
_LEFT_S = 86_400.0


class _Damaged(Exception):
    """The bytes that came are not those that were announced."""


class ReferenceFiles:
    """Fetches each file once, and hands out only what it has verified. For the tasks of one event loop.

    Parameters
    ----------
    folder : Path
        Made when it is needed. Other processes may use it at the same time.
    wait_s : float
        How long to wait for another process that fetches the same file, seconds. Then both fetch it, and one file
        takes the other's place.
    """

    def __init__(self, folder: Path, *, wait_s: float = WAIT_S) -> None:
        self._folder = folder.absolute()
        self._wait_s = wait_s
        self._verified: dict[Path, Signature] = {}
        self._running: dict[Path, asyncio.Task[Path]] = {}

    def recall(self, found: FoundReference) -> Path | None:
        """A file that was verified and not touched since: one `stat`."""
        path = self._path(found)
        known = self._verified.get(path)
        return path if known is not None and signature_of(path) == known else None

    async def fetch(self, found: FoundReference, download: Download) -> Path:
        """The verified local file; all who want it at the same time share one download.

        Raises
        ------
        Outage
            If the server is away, or the folder cannot take the file.
        Retryable
            If other bytes than the announced ones came, twice.
        """
        path = self._path(found)
        task = self._running.get(path)
        if task is None:
            task = self._running[path] = asyncio.create_task(self._fetch(path, found, download), name=found.name)
            task.add_done_callback(lambda _: self._running.pop(path))
        return await asyncio.shield(task)  # who gives up does not take the file away from the others

    async def close(self) -> None:
        """Give up what is being fetched."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _path(self, found: FoundReference) -> Path:
        return self._folder / found.sha256[:2] / found.sha256 / found.name

    async def _fetch(self, path: Path, found: FoundReference, download: Download) -> Path:
        try:
            if not await asyncio.to_thread(self._verify, path, found):
                path.parent.mkdir(parents=True, exist_ok=True)
                async with one_fetcher(path.parent / ".lock", self._wait_s):
                    _remove_leftovers(path.parent)
                    if not await asyncio.to_thread(self._verify, path, found):
                        await self._download(path, found, download)
        except OSError as error:
            raise Outage(
                f"The folder {self._folder} cannot take the reference {found.name}: {error.strerror}.",
                remedy="Free or mend its disk, or make it writable.",
            ) from error
        return path

    def _verify(self, path: Path, found: FoundReference) -> bool:
        """Whether the file is there with the right bytes; reads all of it."""
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                right = stat.st_size == found.size and hashlib.file_digest(file, "sha256").hexdigest() == found.sha256
        except FileNotFoundError:
            return False
        if right:
            self._verified[path] = signature(stat)
        else:
            _log.error("local reference is damaged, fetching it again", path=str(path))
        return right

    async def _download(self, path: Path, found: FoundReference, download: Download) -> None:
        """Download and verify; once more if that fails, because a line may have been cut."""
        try:
            await self._download_once(path, found, download)
        except (Outage, _Damaged) as error:
            _log.warning("reference did not arrive, fetching it again", name=found.name, problem=str(error))
            try:
                await self._download_once(path, found, download)
            except _Damaged as again:
                raise Retryable(
                    f"The reference {found.name} arrived damaged, twice: {again}.",
                    remedy="Compare it with the file in the cache of crds_proxy; look at what lies between.",
                ) from again

    async def _download_once(self, path: Path, found: FoundReference, download: Download) -> None:
        with staged(path.parent) as temporary:
            await _write(temporary, found, download)
            await asyncio.to_thread(_publish, temporary, path)
        known = signature_of(path)
        if known is not None:
            self._verified[path] = known


async def _write(temporary: Path, found: FoundReference, download: Download) -> None:
    digest, size = hashlib.sha256(), 0
    with temporary.open("wb") as file:
        async with contextlib.aclosing(download(found)) as chunks:
            async for chunk in chunks:
                size += len(chunk)
                if size > found.size:
                    raise _Damaged(f"it has more than the announced {found.size} bytes")
                await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(digest.update, chunk)
    if size != found.size:
        raise _Damaged(f"it has {size} bytes, announced were {found.size}")
    if digest.hexdigest() != found.sha256:
        raise _Damaged(f"its SHA-256 is {digest.hexdigest()}, announced was {found.sha256}")


def _publish(temporary: Path, path: Path) -> None:
    """Make a complete file appear: durable and read-only first."""
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.chmod(0o444)
    temporary.replace(path)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if part.stat().st_mtime < time.time() - _LEFT_S:
                part.unlink()
