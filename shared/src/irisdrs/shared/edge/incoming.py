"""Takes read files from a folder: checks them, compresses those that are not, and hands them to the edge.

A file is taken when it has been renamed into the folder under a name that ends in ``.fits`` and begins with no dot. It
is removed once its read is in the spool. One that is no read of the plan goes to ``rejected/``, with the reason beside.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from irisdrs.shared.crash_points import reach
from irisdrs.shared.data.fits import check_read, claimed_header, decode_detector_read, encode_read, is_packed
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.progress import Progress
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events.facts import ReadWritten
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.store.keys import fact_key

_log = structlog.get_logger(__name__)

#: How often the folder is looked at, seconds: short against the 0.72 s from one read to the next.
POLL_S = 0.2

#: How long after its planned end an exposure is given up, seconds: reads may wait at the detector for a full spool.
MARGIN_S = 600.0

#: What a file may have beyond its pixels, bytes: headers, and the little that noise grows when it is packed.
_OVERHEAD = 1_000_000

#: Where the header of a read must end, bytes: five times as many blocks as it has.
_HEADER_BYTES = 10 * 2880


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    event: ReadWritten
    data: bytes


@dataclass(frozen=True, slots=True)
class _Refused:
    path: Path
    reason: str
    header: ReadHeader | None


class Incoming:
    """The folder that detectors move their reads into.

    Parameters
    ----------
    folder : Path
    edge : Edge
    progress : Progress
        Of the edge's plan.
    threads : int
        Files that are read and compressed at the same time; each takes three times the size of its pixels in memory.
    """

    def __init__(self, folder: Path, edge: Edge, progress: Progress, threads: int) -> None:
        self._folder, self._edge, self._progress, self._threads = folder, edge, progress, threads

    async def take_all(self) -> None:
        """Take reads until all of the plan are in; exposures start with their first read and end when all are in."""
        if not self._progress.begun:
            await self._edge.start_observation()
        for exposure in self._edge.plan.exposure_ids():
            await self._end_if_all_in(exposure)  # a process that died may have come to the last read, no further
        while (found := await asyncio.to_thread(self._found)) or not self._progress.complete:
            if not found:
                await asyncio.sleep(POLL_S)
            await self._take(found)
        await self._edge.end_observation()

    def _found(self) -> list[Path]:
        """Files to take, in the order in which they were written."""
        found = []
        for path in self._folder.glob("*.fits"):
            with contextlib.suppress(FileNotFoundError):
                if not path.name.startswith(".") and (path.is_symlink() or path.is_file()):
                    found.append((path.lstat().st_mtime_ns, path))
        return [path for _, path in sorted(found)]

    async def _take(self, paths: Sequence[Path]) -> None:
        """Prepare files side by side, and hand them on in order."""
        ahead: deque[asyncio.Task[_Read | _Refused | None]] = deque()
        for path in paths:
            ahead.append(asyncio.create_task(asyncio.to_thread(_prepare, path, self._edge)))
            if len(ahead) >= self._threads:
                await self._hand_on(await ahead.popleft())
        while ahead:
            await self._hand_on(await ahead.popleft())

    async def _hand_on(self, prepared: _Read | _Refused | None) -> None:
        match prepared:
            case _Read():
                await self._spool(prepared)
            case _Refused():
                await self._refuse(prepared)

    async def _spool(self, read: _Read) -> None:
        event, exposure = read.event, read.event.exposure_id
        await self._start(exposure)
        if not self._progress.has(event.object.key):
            if self._progress.has_come(exposure, event.ramp, event.read):
                _log.error("a read came twice, with two contents", read=event.subject, file=str(read.path))
            await self._edge.write_packed(event, read.data)
            self._progress.note(event.object.key)
        reach("edge.incoming.spooled")
        read.path.unlink(missing_ok=True)
        await self._end_if_all_in(exposure)

    async def _refuse(self, refused: _Refused) -> None:
        _log.error("a file was rejected", file=str(refused.path), reason=refused.reason)
        header = refused.header
        if header is not None and self._edge.expects(header):
            await self._fail(header, refused.reason)
        await asyncio.to_thread(_reject, refused.path, refused.reason)

    async def _fail(self, header: ReadHeader, reason: str) -> None:
        """Tell that a read will not come, unless it has come or that has been told."""
        exposure, ramp, read = header.exposure_id, header.ramp, header.read
        key = fact_key(header.night, exposure, f"failed-{ramp:04d}-{read:05d}")
        if self._progress.has(key) or self._progress.has_come(exposure, ramp, read):
            return
        await self._start(exposure)
        await self._edge.read_failed(exposure, ramp, read, reason)
        self._progress.note(key)
        await self._end_if_all_in(exposure)

    async def _start(self, exposure: ExposureId) -> None:
        if self._progress.has_started(exposure):
            return
        sampling = self._edge.plan.sampling
        planned = timedelta(seconds=sampling.ramps * sampling.ramp_time_s + MARGIN_S)
        await self._edge.start_exposure(exposure, datetime.now(UTC) + planned)
        self._progress.note(fact_key(self._edge.plan.night, exposure, "started"))

    async def _end_if_all_in(self, exposure: ExposureId) -> None:
        if self._progress.all_in(exposure) and not self._progress.has_ended(exposure):
            await self._edge.end_exposure(exposure)
            self._progress.note(fact_key(self._edge.plan.night, exposure, "ended"))


def _prepare(path: Path, edge: Edge) -> _Read | _Refused | None:
    """Read, check and compress a file; None when it is gone."""
    try:
        data, header = _packed(path, edge)
    except FileNotFoundError:
        return None
    except (Fatal, OSError) as problem:
        return _Refused(path, str(problem), _claim(path))
    return _Read(path, edge.announcement(data, header), data)


def _packed(path: Path, edge: Edge) -> tuple[bytes, ReadHeader]:
    """The compressed read that a file holds; as it is, if the file is one."""
    shape = edge.plan.sampling.shape
    if path.is_symlink():
        raise Fatal("It is a link.", remedy="Move the file itself into the folder.")
    size, most = path.stat().st_size, 2 * shape[0] * shape[1] + _OVERHEAD
    if size > most:
        raise CorruptObject(f"The file has {size} bytes, a read of the plan has at most {most}.")
    data = path.read_bytes()
    if is_packed(data):
        header = check_read(data, shape)
        edge.check(header)
        return data, header
    pixels, header = decode_detector_read(data, shape)
    edge.check(header)
    return encode_read(pixels, header), header


def _claim(path: Path) -> ReadHeader | None:
    """What a file says that it is, if it says so at all."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return claimed_header(file.read(_HEADER_BYTES))
    return None


def _reject(path: Path, reason: str) -> None:
    """Move a file to ``rejected/``, with the reason beside."""
    folder = path.parent / "rejected"
    folder.mkdir(exist_ok=True)
    target, again = folder / path.name, 1
    while target.exists():
        again += 1
        target = folder / f"{path.stem}-{again}{path.suffix}"
    with contextlib.suppress(OSError):  # a full disk: the reason is in the log
        target.with_name(f"{target.name}.txt").write_text(f"{reason}\n", encoding="utf-8")
    path.rename(target)
