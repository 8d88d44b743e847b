"""A bucket of an S3 server: blocking calls, and what the server's refusals mean to the system.

Speaks through the `minio` package, pinned to 7.2.20, because its `put_object` has neither the condition
`If-None-Match` nor a known SHA-256: `S3Bucket.put_if_absent` is the one place that uses what lies below it. Sources:
Amazon S3's "Error responses" and "Conditional writes"; MinIO's and Ceph's own codes.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import BinaryIO, Self, cast
from xml.etree.ElementTree import ParseError

import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.error import InvalidResponseError, MinioException, S3Error, ServerError
from minio.helpers import DictType
from urllib3.connectionpool import ConnectionPool
from urllib3.exceptions import HTTPError, ReadTimeoutError
from urllib3.response import BaseHTTPResponse

from irisdrs.shared.errors import Fatal, IrisError, Outage, Retryable

#: Requests at the same time: a few for each of five detectors and two workers.
CONNECTIONS = 16

#: A server that takes longer to accept a connection, or a piece of a body, is away, seconds.
CONNECT_TIMEOUT_S = 10.0

#: A server that is silent for longer is away, seconds. It may have to write 400 MB to disks before it answers; and a
#: put and the question after it have to end within a handler's time limit (120 s), or the event would be blamed.
READ_TIMEOUT_S = 30.0

#: Bytes read and sent at once.
PIECE_BYTES = 1 << 20

_CONTENT_SHA256 = "x-amz-content-sha256"
_METADATA_PREFIX = "x-amz-meta-"

_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "InsufficientCapacity"}
_LATER = {"SlowDown", "RequestTimeout", "RequestTimeTooSkewed", "ConditionalRequestConflict", "OperationAborted"}

_IS_IT_S3 = "Wait for the server, or see what ails it. Is it an S3 server?"


class NoSuchObject(Exception):
    """There is nothing under the key."""


class NoAnswer(Outage):
    """The server does not answer, or hung up: what it did with the request is not known."""


@dataclass(frozen=True, slots=True)
class ObjectFacts:
    """What a server says of an object: its size in bytes, and the metadata that it was put with."""

    size: int
    media_type: str
    metadata: Mapping[str, str]


class _OneMoreTry(urllib3.Retry):
    """Tries once more, for a connection that the server had closed meanwhile, but not where it was silent."""

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        _pool: ConnectionPool | None = None,
        _stacktrace: TracebackType | None = None,
    ) -> Self:
        if isinstance(error, ReadTimeoutError):
            raise error
        return super().increment(method, url, response, error, _pool, _stacktrace)


class _Client(Minio):
    """A client that signs a body by the SHA-256 that the caller knows, so that none is hashed twice.

    The server refuses bytes that have another one, over TLS too.
    """

    def _build_headers(
        self, host: str, headers: DictType | None = None, body: bytes | None = None, creds: Credentials | None = None
    ) -> tuple[DictType, datetime]:
        known = (headers or {}).get(_CONTENT_SHA256)
        built, date = super()._build_headers(host, headers, None if known else body, creds)
        if known:
            built[_CONTENT_SHA256] = known
        return built, date


class S3Bucket:
    """One bucket. Connects with the first call; usable from `CONNECTIONS` threads.

    Parameters
    ----------
    host : str
        Host, and port where it is not the usual one.
    name : str
        The bucket's.
    access_key, secret_key : str
    secure : bool
        Whether to speak TLS.
    region : str
        What requests are signed for.

    Raises
    ------
    Outage
        By every method: if the server is away, too busy or full.
    Fatal
        By every method: if the keys do not fit, or there is no such bucket.
    """

    def __init__(
        self, host: str, name: str, access_key: str, secret_key: str, *, secure: bool = True, region: str = "us-east-1"
    ) -> None:
        self.name = name
        self.url = f"s3+{'https' if secure else 'http'}://{host}/{name}"
        retries = _OneMoreTry(
            total=1, status_forcelist=(500, 502, 503, 504), raise_on_status=False, respect_retry_after_header=False
        )
        self._http = urllib3.PoolManager(
            maxsize=CONNECTIONS,
            timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            retries=retries,
            blocksize=PIECE_BYTES,
        )
        self._client = _Client(host, access_key, secret_key, secure=secure, region=region, http_client=self._http)

    def make(self) -> None:
        """Make the bucket if it is not there."""
        with self._explained("make the bucket"):
            if self._client.bucket_exists(self.name):
                return
            try:
                self._client.make_bucket(self.name)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):  # another process was faster
                    raise

    def put_if_absent(
        self, key: str, body: BinaryIO, size: int, sha256: str, media_type: str, metadata: Mapping[str, str]
    ) -> bool:
        """Write an object in one request, unless its key exists; whether it was written. The one conditional put."""
        headers: DictType = {
            "If-None-Match": "*",
            "Content-Length": str(size),
            "Content-Type": media_type,
            _CONTENT_SHA256: sha256,
        }
        headers |= {f"{_METADATA_PREFIX}{name}": value for name, value in metadata.items()}
        with self._explained(f"take {key}"):
            try:
                # A file is sent piece by piece, each with a time limit of its own; the annotation knows only of bytes.
                self._client._put_object(self.name, key, cast(bytes, body), headers)
            except MinioException as error:
                if _status(error) != 412:
                    raise
                return False
        return True

    def head(self, key: str) -> ObjectFacts | None:
        """What the server knows of an object, None when there is none."""
        with self._explained(f"be asked for {key}"):
            try:
                found = self._client.stat_object(self.name, key)
            except S3Error as error:
                if error.code != "NoSuchKey":
                    raise
                return None
            metadata = {name.lower(): value for name, value in (found.metadata or {}).items()}
            return ObjectFacts(
                size=found.size or 0,
                media_type=found.content_type or "",
                metadata={
                    name.removeprefix(_METADATA_PREFIX): value
                    for name, value in metadata.items()
                    if name.startswith(_METADATA_PREFIX)
                },
            )

    @contextlib.contextmanager
    def reading(self, key: str) -> Iterator[BaseHTTPResponse]:
        """An object's bytes, as an open response.

        Raises
        ------
        NoSuchObject
            If there is none.
        """
        with self._explained(f"give {key}"):
            try:
                response = self._client.get_object(self.name, key)
            except S3Error as error:
                if error.code != "NoSuchKey":
                    raise
                raise NoSuchObject(key) from None
            try:
                yield response
            finally:
                response.close()  # one that is read to its end has given its connection back already

    def list(self, prefix: str) -> list[str]:
        """All names that begin with a prefix, whatever they are."""
        with self._explained(f"list {prefix}"):
            found = self._client.list_objects(self.name, prefix=prefix or None, recursive=True)
            return [entry.object_name for entry in found if entry.object_name is not None]

    def close(self) -> None:
        """Close the idle connections."""
        self._http.clear()

    @contextlib.contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """Raise what an error of the server or of the network means."""
        try:
            yield
        except HTTPError as error:
            raise NoAnswer(
                f"The store {self.url} could not {what}: {error}.", remedy="Start or mend the server or its network."
            ) from error
        except ParseError as error:
            raise Outage(
                f"The store {self.url} could not {what}: what it answered is no XML.", remedy=_IS_IT_S3
            ) from error
        except MinioException as error:
            raise self._meaning(what, error) from error

    def _meaning(self, what: str, error: MinioException) -> IrisError:
        status, code = _status(error), (error.code or "") if isinstance(error, S3Error) else ""
        reason = f"{code}: {error.message}" if isinstance(error, S3Error) else str(error)
        message = f"The store {self.url} could not {what}: {reason.rstrip('.')}."
        if code in _REFUSED:
            return Fatal(message, remedy="Correct IRIS_STORE_ACCESS_KEY and IRIS_STORE_SECRET_KEY, or what they allow.")
        if code == "NoSuchBucket":
            return Fatal(message, remedy=f"Make the bucket {self.name}, or correct IRIS_STORE_URL.")
        if status == 501:
            return Fatal(message, remedy="Use an S3 server that has conditional writes.")
        if code in _FULL or status == 507:
            return Outage(message, remedy="Free space in the store, or raise the bucket's quota.")
        if code in _LATER or status >= 500 or status == 429 or isinstance(error, InvalidResponseError):
            return Outage(message, remedy=_IS_IT_S3)
        return Retryable(message, remedy="See what the server's log says of it.")


def _status(error: MinioException) -> int:
    """HTTP status of an error, 0 where it has none."""
    if isinstance(error, S3Error):
        return error.response.status
    if isinstance(error, InvalidResponseError):  # an answer without XML
        return error._code
    return error.status_code if isinstance(error, ServerError) else 0
