"""The objects of a store, past the system's own code: as files, or as a plain S3 client sees them."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from minio import Minio


class Shelf(Protocol):
    """The objects of a store, past the system's own code."""

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        ...

    def read(self, key: str) -> bytes:
        """The bytes of an object, whatever they are."""
        ...

    def place(self, key: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Lay down an object."""
        ...


@dataclass(frozen=True, slots=True)
class DirectoryShelf:
    """Objects as files under a folder."""

    root: Path

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        files = (self.root / prefix).rglob("*") if (self.root / prefix).is_dir() else ()
        return [str(path.relative_to(self.root)) for path in files if path.is_file()]

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        return (self.root / key).read_bytes()

    def place(self, key: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Lay down an object."""
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)


@dataclass(frozen=True, slots=True)
class S3Shelf:
    """Objects of a bucket."""

    client: Minio
    bucket: str

    def keys(self, prefix: str) -> list[str]:
        """All keys that begin so."""
        found = self.client.list_objects(self.bucket, prefix, recursive=True)
        return [one.object_name for one in found if one.object_name is not None]

    def read(self, key: str) -> bytes:
        """The bytes of an object."""
        answer = self.client.get_object(self.bucket, key)
        try:
            return answer.read()
        finally:
            answer.close()
            answer.release_conn()

    def place(self, key: str, data: bytes, metadata: Mapping[str, str]) -> None:
        """Lay down an object."""
        self.client.put_object(self.bucket, key, io.BytesIO(data), len(data), metadata=dict(metadata))
