"""The port to what an observatory has published: its contexts, their history, and the files.

Three implementations: a local cache that is never asked to grow, the object store in which deliveries are kept, and
another CRDS server upstream. Whichever it is, what is asked for ends as a verified file of the local cache.
"""

from bisect import bisect_right
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol


class ChangeKind(StrEnum):
    """Why another context came into force."""

    IMPORT = "import"
    DELIVERY = "delivery"
    ROLLBACK = "rollback"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Published:
    """What a published file must be; never changes.

    Attributes
    ----------
    size : int
        Bytes.
    sha1sum : str
        SHA-1, hex: the checksum of the CRDS protocol.
    sha256 : str
        SHA-256, hex; empty where nobody has told it (an upstream server).
    """

    size: int
    sha1sum: str
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """A context came into force.

    Attributes
    ----------
    number : int
        From 1 on, without gaps.
    kind : ChangeKind
    context : str
        Of the pmap that is in force from then on.
    at : datetime
        When (UTC); never before the change before.
    by, reason : str
        Who changed it, and why.
    files : mapping of str to Published
        Mappings and references that were published with it, by name.
    """

    number: int
    kind: ChangeKind
    context: str
    at: datetime
    by: str
    reason: str
    files: Mapping[str, Published]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that is published at one moment.

    Attributes
    ----------
    changes : tuple of Change
        Oldest first.
    files : mapping of str to Published
        Every mapping and reference of all changes.
    asked_at : datetime
        When the source was asked last (UTC).
    stale : bool
        Whether the source did not answer, and this is what it said before.
    """

    changes: tuple[Change, ...]
    files: Mapping[str, Published]
    asked_at: datetime
    stale: bool = False

    @property
    def context(self) -> str | None:
        """The context in force; it is also the one that deliveries derive from. None before the first change."""
        return self.changes[-1].context if self.changes else None

    def context_at(self, moment: datetime) -> str | None:
        """The context that was in force then (UTC); None before the first change."""
        place = bisect_right([change.at for change in self.changes], moment)
        return self.changes[place - 1].context if place else None


class Arriving(Protocol):
    """A file on its way to the local cache."""

    size: int

    def pieces(self) -> AsyncGenerator[bytes, None]:
        """Its bytes, while they come; the last one only when all of them are verified.

        Raises
        ------
        Outage
            If they turn out to be wrong, or the rest does not come.
        """
        ...


class Holdings(Protocol):
    """Contexts and files of an observatory."""

    async def catalogue(self) -> Catalogue:
        """What is published; at most one second old, or stale.

        Raises
        ------
        Outage
            If the source is away and was never asked before.
        Fatal
            If what it says is damaged.
        """
        ...

    async def local(self, name: str) -> Path:
        """A published file as a verified, read-only file of the local cache, fetched once however many ask.

        Raises
        ------
        MissingReference
            If nothing of this name is published, or the name is none of a CRDS file.
        Outage
            If it is not in the cache, and the source is away, damaged it on the way, or the disk is full.
        """
        ...

    async def arriving(self, name: str) -> Arriving | None:
        """A published file that is on its way, or has to come; None when it is here, or comes whole only.

        Raises as `local`.
        """
        ...

    async def close(self) -> None:
        """Give up what is being fetched, and connections."""
        ...
