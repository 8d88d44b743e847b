"""The objects of a store, past the system's own code: as files, or as a plain S3 client sees them."""

import io
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

    def overwrite(self, key: str, data: bytes) -> None:
        """Damage an object."""
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

    def overwrite(self, key: str, data: bytes) -> None:
        """Damage an object."""
        (self.root / key).chmod(0o644)
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

    def overwrite(self, key: str, data: bytes) -> None:
        """Damage an object."""
        metadata = self.client.stat_object(self.bucket, key).metadata or {}
        kept = {name: value for name, value in metadata.items() if name.lower().startswith("x-amz-meta-")}
        self.client.put_object(self.bucket, key, io.BytesIO(data), len(data), metadata=dict(kept))
