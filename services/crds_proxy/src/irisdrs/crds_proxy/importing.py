"""Take over what a CRDS cache of the first form chooses: its files and a context, in the words of now."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from irisdrs.crds_proxy.former_cache import Row, read_former_cache
from irisdrs.shared.crds.context import Described
from irisdrs.shared.crds.former_names import DETECTORS
from irisdrs.shared.crds.reference_types import ReferenceType
from irisdrs.shared.data.fits import headers, write_with_cards
from irisdrs.shared.errors import CorruptObject

#: Publishes reference files at their places, and puts the context that chooses them in force; says its name.
Publish = Callable[[Sequence[Described]], str]


class Fate(StrEnum):
    """What becomes of a row."""

    TAKEN = "taken"
    ABSENT = "absent"
    LEFT = "left"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, or would do.

    Attributes
    ----------
    source : str
        Context that was read.
    context : str
        Context that is in force now; empty where nothing was written.
    rows : list of Row
    """

    source: str
    context: str
    rows: list[Row]

    @property
    def complete(self) -> bool:
        """Whether every row was taken."""
        return all(fate_of(row) is Fate.TAKEN for row in self.rows)


def fate_of(row: Row) -> Fate:
    """Whether a row is taken: it has a place among the types of now, and its file is there."""
    if row.description is None:
        return Fate.LEFT
    return Fate.ABSENT if row.path is None else Fate.TAKEN


def import_cache(directory: Path, publish: Publish, context: str = "", *, dry_run: bool = False) -> Imported:
    """Publish all that a cache chooses and has, by one context.

    Parameters
    ----------
    directory : Path
        The cache; it stays as it is.
    publish : callable
    context : str
        Its context; empty for the one in force in it.
    dry_run : bool
        Only say what would be done.

    Raises
    ------
    CorruptObject
        If a file is no FITS file, or cut short; nothing is published then.
    Fatal
        If the cache cannot be read, or chooses two files for one place now; nothing is published then.
    """
    source, rows = read_former_cache(directory, context)
    taken = [(row.path, row.description) for row in rows if row.path is not None and row.description is not None]
    if dry_run or not taken:
        return Imported(source, "", rows)
    with _translated(taken) as described:
        return Imported(source, publish(described), rows)


@contextmanager
def _translated(taken: Sequence[Described]) -> Iterator[list[Described]]:
    """The files with headers in the words of now, for as long as they are published."""
    with tempfile.TemporaryDirectory(prefix="iris-import-") as folder:
        translated: dict[tuple[Path, str], Path] = {}  # one file may be chosen for several configurations
        for path, description in taken:
            key = (path, description.type.name)
            if key not in translated:
                translated[key] = Path(folder) / f"{len(translated)}{path.suffix}"
                _translate(path, translated[key], description.type)
        yield [(translated[path, description.type.name], description) for path, description in taken]


def _translate(path: Path, target: Path, kind: ReferenceType) -> None:
    if path.suffix != ".fits":
        target.symlink_to(path)  # has no FITS keywords
        return
    try:
        write_with_cards(path, target, _cards(path, kind), f"Imported from {path.name}")
    except CorruptObject as error:
        raise CorruptObject(f"{path} cannot be imported: {error.message}", remedy=error.remedy) from error


def _cards(path: Path, kind: ReferenceType) -> dict[str, str]:
    """What the header must say for the data models and `crds`, as far as the type decides it."""
    said = headers(path)[0]["cards"]
    former = str(said.get("DETECTOR", "")) if isinstance(said, dict) else ""
    cards = {"TELESCOP": "TMT", "INSTRUME": "IRIS", "REFTYPE": kind.name}
    if kind.model:
        cards["DATAMODL"] = kind.model
    if former in DETECTORS:
        cards["DETECTOR"] = DETECTORS[former]
    return cards
