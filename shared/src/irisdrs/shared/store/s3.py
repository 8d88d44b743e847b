"""The store in a bucket of an S3 server: MinIO, Ceph, AWS or another one that writes conditionally.

Written once: a put carries `If-None-Match: *`, so that the server itself takes the first writer's bytes, whole, and
refuses the others. SHA-256, media type and metadata travel in the same request and lie with the object.
"""

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr
from urllib3.response import BaseHTTPResponse

from irisdrs.shared.errors import Fatal, Outage
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.port import FITS, ObjectRef, Put, StoredObject
from irisdrs.shared.store.rules import (
    SHA256_NAME,
    absent,
    check_content,
    check_key,
    check_metadata,
    check_size,
    is_key,
)
from irisdrs.shared.store.s3_bucket import CONNECTIONS, PIECE_BYTES, NoAnswer, NoSuchObject, S3Bucket

_log = structlog.get_logger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")

#: What S3 takes in one request, bytes (5 GiB).
MAX_BYTES = 5 << 30

#: Where a server shows that it writes once. No key, so that it is never listed.
PROBE = ".probe/write-once"

_SHA256 = re.compile(r"[0-9a-f]{64}")

#: Amazon S3's "Bucket naming rules", less what only Amazon forbids.
_BUCKET_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(slots=True)
class _Copy:
    """A local copy that several may use at once."""

    folder: Path
    users: int = 0
    path: Path | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class S3Store:
    """A `Store` in a bucket. Does not connect before `open`.

    Parameters
    ----------
    bucket : S3Bucket
    scratch : Path
        Where local copies lie while somebody uses them; exists.
    """

    def __init__(self, bucket: S3Bucket, scratch: Path) -> None:
        self._bucket = bucket
        self._scratch = scratch.resolve()
        self._copies: dict[ObjectRef, _Copy] = {}
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="s3")

    async def open(self) -> None:
        """Make the bucket if it is missing, and see that the server writes once.

        Raises
        ------
        Outage
            If the server is away: try again later.
        Fatal
            If the keys do not fit, the bucket cannot be made, or the server overwrites.
        """
        await self._in_thread(self._open)

    async def close(self) -> None:
        """Close connections; calls under way end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._bucket.close()

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
        return await self._in_thread(self._put, key, data, media_type, metadata or {}, contested)

    async def put_file(
        self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
    ) -> Put:
        """Like `put`, with a local file, which is never in memory as a whole."""
        return await self._in_thread(self._put, key, path, media_type, metadata or {}, False)

    async def head(self, key: str) -> StoredObject | None:
        """Facts of an object, or None when there is none."""
        return await self._in_thread(self._head, key)

    async def get(self, ref: ObjectRef) -> bytes:
        """Bytes of an object, verified."""
        return await self._in_thread(self._get, ref)

    @contextlib.asynccontextmanager
    async def local(self, ref: ObjectRef) -> AsyncIterator[Path]:
        """Verified copy of an object in the scratch folder; whoever asks meanwhile shares it, the last removes it."""
        copy = self._copies.get(ref)
        if copy is None:
            copy = self._copies[ref] = _Copy(Path(tempfile.mkdtemp(dir=self._scratch, prefix="s3-")))
        copy.users += 1
        try:
            async with copy.turn:
                if copy.path is None:
                    copy.path = await self._in_thread(self._download, ref, copy.folder)
            yield copy.path
        finally:
            copy.users -= 1
            if not copy.users:
                del self._copies[ref]
                shutil.rmtree(copy.folder, ignore_errors=True)  # a download that was cancelled may still write there

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys that begin with a prefix."""
        names = await self._in_thread(self._bucket.list, prefix)
        return sorted(filter(is_key, names))

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(*args, **kwargs))

    def _open(self) -> None:
        self._bucket.make()
        content = b"An object that nobody can write a second time.\n"
        for _ in range(2):
            written = self._bucket.put_if_absent(
                PROBE, io.BytesIO(content), len(content), hashlib.sha256(content).hexdigest(), "text/plain", {}
            )
        if written:
            raise Fatal(
                f"The store {self._bucket.url} overwrites objects: it does not heed If-None-Match.",
                remedy="Use an S3 server that has conditional writes.",
            )

    def _put(
        self, key: str, content: bytes | Path, media_type: str, metadata: Mapping[str, str], contested: bool
    ) -> Put:
        check_key(key)
        check_metadata(metadata)
        sha256, size = _measured(content)
        ref = ObjectRef(key=key, sha256=sha256, size=size, media_type=media_type)
        if size > MAX_BYTES:
            raise Fatal(f"{key} has {size} bytes: S3 takes {MAX_BYTES} in one request.", remedy="Split the object.")
        facts = {**metadata, SHA256_NAME: sha256}
        with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as body:
            try:
                if self._bucket.put_if_absent(key, body, size, sha256, media_type, facts):
                    return Put(StoredObject(ref, dict(metadata)), created=True)
            except NoAnswer:  # a server may refuse a body before it has come, and hang up
                if (found := self._head(key)) is None:
                    raise
                return _adopted(ref, found, contested)
        return _adopted(ref, self._head(key), contested)

    def _head(self, key: str) -> StoredObject | None:
        check_key(key)
        found = self._bucket.head(key)
        if found is None:
            return None
        metadata = dict(found.metadata)
        sha256 = metadata.pop(SHA256_NAME, "")
        if not _SHA256.fullmatch(sha256):  # put by hand
            return self._examined(key)
        return StoredObject(ObjectRef(key=key, sha256=sha256, size=found.size, media_type=found.media_type), metadata)

    def _examined(self, key: str) -> StoredObject | None:
        """Facts of an object of which only the bytes are known."""
        digest, size = hashlib.sha256(), 0
        try:
            with self._bucket.reading(key) as response:
                for piece in response.stream(PIECE_BYTES, decode_content=False):
                    digest.update(piece)
                    size += len(piece)
        except NoSuchObject:
            return None
        return StoredObject(ObjectRef(key=key, sha256=digest.hexdigest(), size=size))

    def _get(self, ref: ObjectRef) -> bytes:
        with self._reading(ref) as response:
            data = response.read(decode_content=False)
        check_content(ref, len(data), hashlib.sha256(data).hexdigest())
        return data

    def _download(self, ref: ObjectRef, folder: Path) -> Path:
        path = folder / ref.key.rpartition("/")[2]
        digest = hashlib.sha256()
        with (
            self._reading(ref) as response,
            _scratch_space(self._scratch),
            tempfile.NamedTemporaryFile(dir=folder, delete=False) as file,
        ):
            for piece in response.stream(PIECE_BYTES, decode_content=False):
                digest.update(piece)
                file.write(piece)
            size = file.tell()
        check_content(ref, size, digest.hexdigest())
        partial = Path(file.name)
        partial.chmod(0o444)
        return partial.rename(path)

    @contextlib.contextmanager
    def _reading(self, ref: ObjectRef) -> Iterator[BaseHTTPResponse]:
        """An object's bytes, unless already its size is wrong."""
        try:
            with self._bucket.reading(ref.key) as response:
                check_size(ref, int(response.headers["Content-Length"]))
                yield response
        except NoSuchObject:
            raise absent(ref) from None


def s3_store(settings: HostSettings, scratch: Path) -> S3Store:
    """The store that the settings name; not opened yet.

    Parameters
    ----------
    settings : HostSettings
    scratch : Path
        For local copies; exists.

    Raises
    ------
    Fatal
        If a setting is missing or malformed.
    """
    host, bucket, secure = _address(settings.store_url or "")
    return S3Store(
        S3Bucket(
            host,
            bucket,
            _key("IRIS_STORE_ACCESS_KEY", settings.store_access_key),
            _key("IRIS_STORE_SECRET_KEY", settings.store_secret_key),
            secure=secure,
            region=settings.store_region,
        ),
        scratch,
    )


def _address(url: str) -> tuple[str, str, bool]:
    """Host (and port), bucket, and whether to speak TLS."""
    remedy = "Write IRIS_STORE_URL as s3+https://host:port/bucket, or s3+http:// on a private network."
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Fatal(f"The store's URL is malformed: {error}.", remedy=remedy) from error
    if "@" in parts.netloc:
        raise Fatal(
            "The store's URL names a user.", remedy="Keys belong in IRIS_STORE_ACCESS_KEY and IRIS_STORE_SECRET_KEY."
        )
    bucket = parts.path.removeprefix("/").removesuffix("/")
    if parts.scheme not in ("s3+http", "s3+https") or not host or parts.query or parts.fragment:
        raise Fatal(f"{url!r} is no URL of a store.", remedy=remedy)
    if not _BUCKET_NAME.fullmatch(bucket):
        raise Fatal(f"{bucket!r} in {url!r} is no name of a bucket: 3 to 63 of a-z, 0-9, '.' and '-'.", remedy=remedy)
    return parts.netloc, bucket, parts.scheme == "s3+https"


def _key(variable: str, value: SecretStr | None) -> str:
    if value is None or not value.get_secret_value():
        raise Fatal(f"{variable} is not set.", remedy="The store named by IRIS_STORE_URL needs both of its keys.")
    return value.get_secret_value()


def _adopted(ref: ObjectRef, stored: StoredObject | None, contested: bool) -> Put:
    """What is said of a put whose key was there."""
    if stored is None:
        raise Outage(f"{ref.key} was there and is gone.", remedy="Does somebody delete objects from the store?")
    if stored.ref.sha256 != ref.sha256 and not contested:
        _log.error(
            "same key, other bytes: adopted what is there", key=ref.key, stored=stored.ref.sha256, put=ref.sha256
        )
    return Put(stored, created=False)


def _measured(content: bytes | Path) -> tuple[str, int]:
    """SHA-256 and size in bytes."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


@contextlib.contextmanager
def _scratch_space(scratch: Path) -> Iterator[None]:
    """A full disk under the copies is nobody's fault and may go away."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise Outage(f"{scratch} is full: {os.strerror(error.errno)}.", remedy="Free space on its disk.") from error
        raise
