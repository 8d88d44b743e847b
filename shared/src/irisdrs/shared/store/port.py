"""The store port: objects that are written once, whole, and verified by their SHA-256."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

FITS = "application/fits"
JSON = "application/json"

#: A key is slash-separated segments that begin with a letter or digit: no dot files, no `..`, nothing absolute.
KEY_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$"

#: Names and values of an object's metadata together: S3 carries 2 KiB of them, and the SHA-256 lies there too.
METADATA_MAX_BYTES = 1900


class ObjectRef(BaseModel):
    """Where an object is and what its bytes must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(description="Key in the store", max_length=512, pattern=KEY_PATTERN)
    sha256: str = Field(description="SHA-256 of the bytes, hex", pattern="^[0-9a-f]{64}$")
    size: int = Field(description="Size in bytes", ge=0)
    media_type: str = Field(description="Media type", default=FITS)


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is in the store.

    `metadata` holds text only (names ``[a-z0-9-]+``, values of printable ASCII without a space at the ends, at most
    `METADATA_MAX_BYTES` in all), so that every field of the event that announces the object can be rebuilt from it.
    """

    ref: ObjectRef
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """Result of a conditional put: the object now under the key, and whether this call created it."""

    stored: StoredObject
    created: bool


class Store(Protocol):
    """Objects by key. Two implementations: a directory, and S3."""

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        media_type: str = FITS,
        metadata: Mapping[str, str] | None = None,
        contested: bool = False,
    ) -> Put:
        """Write an object unless the key exists; then adopt what is there.

        Parameters
        ----------
        key : str
        data : bytes
        media_type : str
        metadata : mapping, optional
        contested : bool
            Others may want the key for something else, and the first one has it. If not, other bytes under the key
            are an error, which is logged: the same job makes the same bytes.

        Raises
        ------
        ValueError
            If the key is not a safe relative key, or the metadata are not as `StoredObject` says.
        Outage
            If the store is away or full.
        """
        ...

    async def put_file(
        self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
    ) -> Put:
        """Like `put`, with a local file, which must not be written to any more: it may become the object itself."""
        ...

    async def head(self, key: str) -> StoredObject | None:
        """Facts of an object, or None when there is none."""
        ...

    async def get(self, ref: ObjectRef) -> bytes:
        """Bytes of an object, verified.

        Raises
        ------
        CorruptObject
            If it is absent, or its size or SHA-256 is not the reference's.
        Outage
            If the store is away.
        """
        ...

    def local(self, ref: ObjectRef) -> AbstractAsyncContextManager[Path]:
        """Verified read-only local file of an object, valid inside the context, named as its key ends.

        Raises as `get`.
        """
        ...

    async def keys(self, prefix: str) -> list[str]:
        """Sorted keys that begin with a prefix (complete objects only)."""
        ...
