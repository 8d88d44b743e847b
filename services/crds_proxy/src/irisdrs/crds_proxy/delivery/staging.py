"""Where a delivery is prepared: a small cache of its own on the disk of the cache of the host, gone afterwards."""

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from irisdrs.shared.crds.cache import Cache, FileFacts, admit
from irisdrs.shared.crds.description import Description

#: Age at which a folder is one that a killed process left, seconds: no delivery takes that long.
_LEFT_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Incoming:
    """A reference that is to be delivered.

    Attributes
    ----------
    path : Path
        Where it came from.
    staged : Path
        A copy that nobody else changes.
    facts : FileFacts
    description : Description
    """

    path: Path
    staged: Path
    facts: FileFacts
    description: Description


@contextlib.asynccontextmanager
async def staging_area(cache: Cache) -> AsyncIterator[Cache]:
    """An empty cache beside what is in the cache of a host."""
    staging = await asyncio.to_thread(_make, cache)
    try:
        yield staging
    finally:
        await asyncio.to_thread(shutil.rmtree, staging.root, ignore_errors=True)


def take_in(staging: Cache, paths: Sequence[Path]) -> list[tuple[Path, Path, FileFacts]]:
    """Copy files into the staging area; gives path, copy and facts of each, those of equal contents once."""
    folder = staging.root / "incoming"
    folder.mkdir()
    taken: dict[str, tuple[Path, Path, FileFacts]] = {}
    for number, path in enumerate(paths):
        name = f"{number}{path.suffix}"
        _, facts = admit(path, folder, lambda _, name=name: name)  # type: ignore[misc]
        taken.setdefault(facts.sha256, (path, folder / name, facts))
    return list(taken.values())


def lay_out(staging: Cache, cache: Cache, mappings: Sequence[str], references: Mapping[str, Incoming]) -> None:
    """Lay out the mappings that a new context derives from, and the references under the names that they will have."""
    for folder in (staging.mappings, staging.references):
        shutil.rmtree(folder)
        folder.mkdir()
    for name in mappings:
        shutil.copy(cache.path(name), staging.path(name))
    for name, incoming in references.items():
        staging.path(name).hardlink_to(incoming.staged)


def _make(cache: Cache) -> Cache:
    folder = cache.root / "deliveries"
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < time.time() - _LEFT_S:
                shutil.rmtree(left, ignore_errors=True)
    staging = Cache(Path(tempfile.mkdtemp(dir=folder)))
    staging.prepare()
    return staging
