"""What another context chooses otherwise, and who changed the contexts, as facts for tables and programs."""

from dataclasses import dataclass
from pathlib import Path

from irisdrs.shared.crds.mappings import load_context, reference_mappings, rows_of


@dataclass(frozen=True, slots=True)
class Difference:
    """A row that two contexts have differently.

    Attributes
    ----------
    type : str
        Reference type.
    values : str
        Of the keys that are matched.
    useafter : str
    old, new : str
        Names of the files that are chosen; empty where a context has no such row.
    """

    type: str
    values: str
    useafter: str
    old: str
    new: str


def differences(folder: Path, old: str, new: str) -> list[Difference]:
    """Rows in which two contexts differ, by type, values and time.

    Parameters
    ----------
    folder : Path
        With all mappings of both.
    old, new : str
        Names of contexts.

    Raises
    ------
    Fatal
        If one is absent or damaged.
    """
    before, after = (reference_mappings(load_context(folder, name)) for name in (old, new))
    found = []
    for kind in sorted({*before, *after}):
        rows = [rows_of(each[kind]) if kind in each else {} for each in (before, after)]
        for place in sorted(rows[0].keys() | rows[1].keys()):
            names = [each.get(place, "") for each in rows]
            if names[0] != names[1]:
                found.append(Difference(kind, " ".join(place[0]), place[1], *names))
    return found
