"""Which references a bounded cache gives up: those that nobody has asked for longest.

When a reference was last handed out is the time of an empty file of its name, so that all processes of a host and the
next start know it. Mappings stay; so does what was handed out within the last hour, because somebody may be reading it.
"""

import contextlib
import time
from pathlib import Path

import structlog

from irisdrs.shared.crds.cache import Cache, Manifest
from irisdrs.shared.errors import Outage

_log = structlog.get_logger(__name__)

#: Age of a use after which nobody reads the file any more, seconds: far more than a reduction takes.
_IN_USE_S = 3600.0

#: Age at which a part of a file is one that nobody goes on with, seconds.
_LEFT_S = 86_400.0

#: Uses are noted at most so often, seconds: far less than what is in use.
_NOTED_S = 60.0


class Uses:
    """When each reference was last handed out."""

    def __init__(self, cache: Cache) -> None:
        self._folder = cache.config / "uses"
        self._noted: dict[str, float] = {}

    def note(self, name: str) -> None:
        """A reference is handed out now; where that cannot be noted, it is handed out all the same."""
        now = time.time()
        if now - self._noted.get(name, 0.0) < _NOTED_S:
            return
        self._noted[name] = now
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            (self._folder / name).touch()
        except OSError as problem:
            _log.warning("a use cannot be noted: the reference may be given up early", name=name, problem=str(problem))

    def last(self, name: str) -> float:
        """When it was handed out last, seconds since 1970; 0 if never."""
        try:
            return (self._folder / name).stat().st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return 0.0

    def forget(self, name: str) -> None:
        """It is given up."""
        self._noted.pop(name, None)
        (self._folder / name).unlink(missing_ok=True)


def to_give_up(references: Manifest, last: dict[str, float], wanted: int, bound: int) -> list[str]:
    """References that make room, the longest unused first; none if there is room.

    Parameters
    ----------
    references : mapping of str to FileFacts
        What the cache has.
    last : dict of str to float
        When each was handed out last, seconds since 1970.
    wanted : int
        Bytes of the file that comes.
    bound : int
        Bytes that all references may have.

    Raises
    ------
    Outage
        If what is not in use does not suffice.
    """
    excess = sum(facts.size for facts in references.values()) + wanted - bound
    chosen: list[str] = []
    now = time.time()
    for name in sorted(references, key=lambda name: (last[name], name)):
        if excess <= 0:
            return chosen
        if now - last[name] > _IN_USE_S:
            chosen.append(name)
            excess -= references[name].size
    if excess > 0:
        raise Outage(
            f"The CRDS cache has no room for {wanted} bytes: its bound is {bound}, and all it holds is in use.",
            remedy="Raise IRIS_CRDS_CACHE_BYTES, or wait until references have not been used for an hour.",
        )
    return chosen


def references_of(manifest: Manifest, folder: Path) -> Manifest:
    """Of a manifest, the references whose files are there."""
    return {name: facts for name, facts in manifest.items() if (folder / name).is_file()}


def remove_left(folder: Path) -> None:
    """Remove what came in part, and was not gone on with for a day."""
    for part in folder.glob(".*.part"):
        with contextlib.suppress(FileNotFoundError):  # another process has removed or finished it
            if part.stat().st_mtime < time.time() - _LEFT_S:
                part.unlink()
