"""The local CRDS cache: where its files lie, and the manifest by which they are verified.

Layout of the `crds` client: ``config/tmt/``, ``mappings/tmt/``, ``references/tmt/`` (``references/tmt/iris/`` in the
layout ``instrument``). Mappings and references are written once and never changed.
"""

import ast
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from irisdrs.shared.crds.names import MAPPING_SUFFIXES, is_context_name
from irisdrs.shared.errors import Fatal

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class FileFacts:
    """Size in bytes and checksums (hex) of a file."""

    size: int
    sha1sum: str
    sha256: str


Manifest = Mapping[str, FileFacts]


@dataclass(frozen=True, slots=True)
class Cache:
    """Paths of a CRDS cache."""

    root: Path

    @property
    def config(self) -> Path:
        """Folder of the cache's own facts."""
        return self.root / "config" / "tmt"

    @property
    def mappings(self) -> Path:
        """Folder of contexts (pmap), instrument mappings (imap) and reference mappings (rmap)."""
        return self.root / "mappings" / "tmt"

    @property
    def references(self) -> Path:
        """Folder of the reference files."""
        folder = self.root / "references" / "tmt"
        return folder if self._subdir_mode() == "flat" else folder / "iris"

    def path(self, name: str) -> Path:
        """Where a mapping or reference of this name lies."""
        return (self.mappings if name.endswith(MAPPING_SUFFIXES) else self.references) / name

    @property
    def manifest(self) -> Path:
        """File with the size and checksums of every file."""
        return self.config / "manifest.json"

    @property
    def server_config(self) -> Path:
        """File that names the context in force."""
        return self.config / "server_config"

    def prepare(self) -> None:
        """Make the folders of a new cache."""
        self.config.mkdir(parents=True, exist_ok=True)
        self.mappings.mkdir(parents=True, exist_ok=True)
        mode = self.config / "ref_cache_subdir_mode"
        if not mode.exists():
            write_atomically(mode, b"instrument")
        self.references.mkdir(parents=True, exist_ok=True)

    def _subdir_mode(self) -> str:
        try:
            return (self.config / "ref_cache_subdir_mode").read_text().strip()
        except FileNotFoundError:
            return "instrument"  # what the client assumes


def read_manifest(cache: Cache) -> dict[str, FileFacts]:
    """Facts of every file of a cache, by name; empty if it has no manifest.

    Raises
    ------
    Fatal
        If the manifest cannot be read.
    """
    try:
        entries = json.loads(cache.manifest.read_bytes())
        return {name: FileFacts(**facts) for name, facts in entries["files"].items()}
    except FileNotFoundError:
        return {}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Fatal(
            f"The manifest {cache.manifest} of the CRDS cache is damaged: {error}.",
            remedy="Restore it, or build the cache anew.",
        ) from error


def write_manifest(cache: Cache, manifest: Manifest) -> None:
    """Replace the manifest."""
    files = {name: asdict(facts) for name, facts in sorted(manifest.items())}
    write_atomically(cache.manifest, json.dumps({"files": files}, indent=1).encode() + b"\n")


def add_to_manifest(cache: Cache, files: Manifest) -> None:
    """Add the facts of files; other processes may do so at the same time."""
    if files.items() <= read_manifest(cache).items():
        return
    with building(cache):
        write_manifest(cache, {**read_manifest(cache), **files})


def remove_from_manifest(cache: Cache, name: str) -> None:
    """Forget a file's facts, if there are any; other processes may do so at the same time."""
    with building(cache):
        write_manifest(cache, {known: facts for known, facts in read_manifest(cache).items() if known != name})


def context_in_force(cache: Cache) -> str | None:
    """Name of the default context; None if the cache holds none yet.

    Raises
    ------
    Fatal
        If the cache's ``server_config`` cannot be read.
    """
    try:
        info = ast.literal_eval(cache.server_config.read_text())
        context = info.get("latest_context", info["operational_context"])
    except FileNotFoundError:
        return None
    except (ValueError, SyntaxError, KeyError, TypeError, AttributeError) as error:
        raise Fatal(f"{cache.server_config} names no CRDS context: {error}.", remedy="Build the cache anew.") from error
    if not isinstance(context, str) or not is_context_name(context):
        raise Fatal(f"{cache.server_config} names {context!r}, which is no CRDS context.", remedy="Mend that file.")
    return context


def facts_of(path: Path) -> FileFacts:
    """Size and checksums of a file, in one pass."""
    with path.open("rb") as file:
        return _copy(file, lambda chunk: None)


def admit(
    source: Path, folder: Path, choose_name: Callable[[FileFacts], str], *, take: bool = False
) -> tuple[str, FileFacts]:
    """Copy a file into a folder under the name that its facts decide; whole or not at all.

    A file of that name that is already there is replaced by the same bytes, which mends a damaged one.

    Parameters
    ----------
    source, folder : Path
    choose_name : callable
    take : bool
        Move the file instead of copying it.
    """
    with staged(folder) as temporary:
        if take:
            shutil.move(source, temporary)
            facts = facts_of(temporary)
        else:
            with source.open("rb") as reader, temporary.open("wb") as writer:
                facts = _copy(reader, writer.write)
        _sync(temporary)
        temporary.chmod(0o444)
        name = choose_name(facts)
        temporary.replace(folder / name)
    return name, facts


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a small file: a reader sees the old or the new one."""
    with staged(path.parent) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """Temporary file in a folder, gone afterwards unless it was renamed."""
    handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=".part")
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


@contextmanager
def building(cache: Cache) -> Iterator[None]:
    """Let one process at a time change manifest and context in force; the lock ends with the process."""
    with (cache.config / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _copy(reader: BinaryIO, write: Callable[[bytes], object]) -> FileFacts:
    size, sha1, sha256 = 0, hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    while chunk := reader.read(_CHUNK_BYTES):
        size += len(chunk)
        sha1.update(chunk)
        sha256.update(chunk)
        write(chunk)
    return FileFacts(size, sha1.hexdigest(), sha256.hexdigest())
