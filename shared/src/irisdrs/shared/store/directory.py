"""The store as a directory: every object is a plain file under its key.

Written once: the bytes go to a temporary file, its metadata beside, and an exclusive hard link makes the object
appear, whole or not at all. Metadata lie in ``.metadata/{key}/{sha256}.json``; they are there before the object is,
and are named by its content, so that a writer that lost the race or died leaves nothing that could be taken for the
winner's.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import structlog

from irisdrs.shared.errors import Outage
from irisdrs.shared.store.port import FITS, ObjectRef, Put, StoredObject
from irisdrs.shared.store.rules import absent, check_content, check_key, check_metadata, check_size

_log = structlog.get_logger(__name__)

#: Errors of the operating system that are not the caller's fault and may go away.
_AWAY = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE}


#: Objects whose verification is remembered: some exposures of five detectors, a few hundred bytes each.
REMEMBERED = 10_000

#: What changes when somebody writes to a file: inode, size, time of the last write (ns).
_Stamp = tuple[int, int, int]


class DirectoryStore:
    """A `Store` in a directory of a file system that has hard links.

    Parameters
    ----------
    root : Path
        Created if it is not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._uploads = self._root / ".uploads"
        self._metadata = self._root / ".metadata"
        self._verified: OrderedDict[str, tuple[_Stamp, str]] = OrderedDict()
        self._uploads.mkdir(parents=True, exist_ok=True)

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        media_type: str = FITS,
        metadata: Mapping[str, str] | None = None,
        contested: bool = False,
    ) -> Put:
        """Write an object unless the key exists; then adopt what is there."""
        return await asyncio.to_thread(self._put, key, data, media_type, metadata or {}, contested)

    async def put_file(
        self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
    ) -> Put:
        """Like `put`, with a local file: the object is that file where links allow it, so it becomes read-only."""
        return await asyncio.to_thread(self._put, key, path, media_type, metadata or {}, False)

    async def head(self, key: str) -> StoredObject | None:
        """Facts of an object, or None when there is none."""
        return await asyncio.to_thread(self._head, key)

    async def get(self, ref: ObjectRef) -> bytes:
        """Bytes of an object, verified."""
        return await asyncio.to_thread(self._get, ref)

    @contextlib.asynccontextmanager
    async def local(self, ref: ObjectRef) -> AsyncIterator[Path]:
        """Verified local file of an object: the object itself."""
        path = self._path(ref.key)
        await asyncio.to_thread(self._verify, path, ref)
        yield path

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys that begin with a prefix."""
        return await asyncio.to_thread(self._keys, prefix)

    def _path(self, key: str) -> Path:
        check_key(key)
        return self._root / key

    def _put(
        self, key: str, content: bytes | Path, media_type: str, metadata: Mapping[str, str], contested: bool
    ) -> Put:
        path = self._path(key)
        check_metadata(metadata)
        if path.exists():
            return self._adopt(key, None)
        try:
            linked = self._link(key, path, content, media_type, metadata) if isinstance(content, Path) else None
            return linked or self._write(key, path, content, media_type, metadata, contested)
        except OSError as error:
            if error.errno in _AWAY:
                raise Outage(
                    f"The store {self._root} cannot take {key}: {error.strerror}.", remedy="Free or mend its disk."
                ) from error
            raise

    def _link(self, key: str, path: Path, source: Path, media_type: str, metadata: Mapping[str, str]) -> Put | None:
        """Make a local file the object, without a copy; None where the file system cannot."""
        with source.open("rb") as file:
            os.fsync(file.fileno())
        ref = ObjectRef(key=key, sha256=_sha256(source), size=source.stat().st_size, media_type=media_type)
        self._write_metadata(ref, metadata)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source, path)
        except FileExistsError:
            return self._adopt(key, ref.sha256)
        except OSError as error:
            if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                return None
            raise
        path.chmod(0o444)
        _sync_directory(path.parent)
        self._remember(key, _stamp(path), ref.sha256)
        return Put(StoredObject(ref, dict(metadata)), created=True)

    def _write(
        self,
        key: str,
        path: Path,
        content: bytes | Path,
        media_type: str,
        metadata: Mapping[str, str],
        contested: bool,
    ) -> Put:
        handle, name = tempfile.mkstemp(dir=self._uploads)
        upload = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                sha256, size = _copy(content, file.fileno())
            ref = ObjectRef(key=key, sha256=sha256, size=size, media_type=media_type)
            self._write_metadata(ref, metadata)
            upload.chmod(0o444)
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(upload, path)
            except FileExistsError:
                return self._adopt(key, None if contested else sha256)
            _sync_directory(path.parent)
            self._remember(key, _stamp(path), ref.sha256)
            return Put(StoredObject(ref, dict(metadata)), created=True)
        finally:
            upload.unlink()

    def _adopt(self, key: str, sha256: str | None) -> Put:
        """What is there; it should have this SHA-256, if one is given."""
        stored = self._head(key)
        if stored is None:
            raise Outage(f"{key} was there and is gone.", remedy="Does somebody delete objects from the store?")
        if sha256 is not None and stored.ref.sha256 != sha256:
            _log.error("same key, other bytes: adopted what is there", key=key, stored=stored.ref.sha256, put=sha256)
        return Put(stored, created=False)

    def _write_metadata(self, ref: ObjectRef, metadata: Mapping[str, str]) -> None:
        folder = self._metadata / ref.key
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"ref": ref.model_dump(mode="json"), "metadata": dict(metadata)}, sort_keys=True)
        handle, name = tempfile.mkstemp(dir=self._uploads)
        upload = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            upload.replace(folder / f"{ref.sha256}.json")
        except OSError:  # a full disk must not be left fuller
            upload.unlink(missing_ok=True)
            raise

    def _head(self, key: str) -> StoredObject | None:
        path = self._path(key)
        if (size := _size(path)) is None:
            return None
        known = sorted((self._metadata / key).glob("*.json"))
        if len(known) != 1:  # none: a file put by hand; several: writers raced, only the content tells who won
            sha256 = _sha256(path)
            known = [file for file in known if file.stem == sha256]
            if not known:
                return StoredObject(ObjectRef(key=key, sha256=sha256, size=size))
        facts = json.loads(known[0].read_text(encoding="ascii"))
        return StoredObject(ObjectRef.model_validate(facts["ref"]), facts["metadata"])

    def _get(self, ref: ObjectRef) -> bytes:
        path = self._path(ref.key)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise absent(ref) from None
        check_content(ref, len(data), hashlib.sha256(data).hexdigest())
        return data

    def _verify(self, path: Path, ref: ObjectRef) -> None:
        """Compare a file with what was announced; one that is unchanged since it was hashed is not hashed again."""
        size = _size(path)
        if size is None:
            raise absent(ref)
        check_size(ref, size)
        stamp, known = _stamp(path), self._verified.get(ref.key)
        sha256 = known[1] if known is not None and known[0] == stamp else _sha256(path)
        check_content(ref, size, sha256)
        self._remember(ref.key, stamp, sha256)

    def _remember(self, key: str, stamp: _Stamp, sha256: str) -> None:
        self._verified[key] = stamp, sha256
        while len(self._verified) > REMEMBERED:
            self._verified.popitem(last=False)

    def _keys(self, prefix: str) -> list[str]:
        folder = self._root / prefix.rpartition("/")[0]
        if ".." in prefix.split("/") or not folder.is_dir():
            return []
        found = []
        for parent, folders, files in os.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            relative = Path(parent).relative_to(self._root)
            found += [(relative / name).as_posix() for name in files if not name.startswith(".")]
        return sorted(key for key in found if key.startswith(prefix))


def _copy(content: bytes | Path, target: int) -> tuple[str, int]:
    """Write and flush content to a file descriptor; gives its SHA-256 and size."""
    digest, size = hashlib.sha256(), 0
    with contextlib.ExitStack() as stack:
        if isinstance(content, Path):
            source = stack.enter_context(content.open("rb"))
            chunks = iter(lambda: source.read(1 << 22), b"")
        else:
            chunks = iter([content])
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(target, view) :]
    os.fsync(target)
    return digest.hexdigest(), size


def _size(path: Path) -> int | None:
    """Size of a file in bytes, None where there is none: a folder is none."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
