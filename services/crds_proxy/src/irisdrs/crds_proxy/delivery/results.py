"""What comes of a delivery or a roll-back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from irisdrs.crds_proxy.holdings import Published
from irisdrs.shared.errors import Fatal

#: What every reference is put to before it is published.
CHECKS = (
    "header: type, keys and USEAFTER say where the reference stands",
    f"crds certify {version('crds')}: reference and new mappings",
    "overlap: no exposure has two references that match it equally well",
    "SHA-1 of every mapping of the new context",
)


class Refused(Fatal):
    """References that cannot be delivered as they are. Nothing was changed.

    Parameters
    ----------
    problems : mapping of str to sequence of str
        By file, as the deliverer named it.
    """

    consequence = "The contexts are as they were."

    def __init__(self, problems: Mapping[str, Sequence[str]]) -> None:
        self.problems = problems
        listed = "; ".join(f"{name}: {', '.join(said)}".rstrip(".") for name, said in problems.items())
        super().__init__(f"{listed}.", remedy="Correct the files and deliver them again; nothing was changed.")


@dataclass(frozen=True, slots=True)
class Accepted:
    """A reference that was certified.

    Attributes
    ----------
    path : Path
        Where it came from.
    name : str
        Its name in CRDS.
    type : str
        Reference type.
    published : Published
        Size and checksums.
    """

    path: Path
    name: str
    type: str
    published: Published


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delivery or a roll-back that was carried out, or would be.

    Attributes
    ----------
    old_context : str, optional
        The context that was in force.
    new_context : str
        The one that is in force now; the old one if nothing had to be changed.
    number : int, optional
        Of the change in the history; None if there is none.
    references : sequence of Accepted
    mappings : sequence of str
        Names of the new mappings.
    """

    old_context: str | None
    new_context: str
    number: int | None
    references: Sequence[Accepted] = field(default=())
    mappings: Sequence[str] = field(default=())
