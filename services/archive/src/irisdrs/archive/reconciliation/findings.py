"""What a comparison finds."""

from dataclasses import dataclass, field

from irisdrs.shared.events.event import Event
from irisdrs.shared.identifiers import ExposureId


@dataclass(frozen=True, slots=True)
class Wanted:
    """An event that somebody has missed.

    Attributes
    ----------
    kind : type of Event
    key : str
        Object that it announces, or fact that it is built from.
    exposure : ExposureId, optional
        None for an event of the observation.
    at_once : bool
        Of `ExposureDue`: whether there is nothing to wait for, whatever its deadline.
    why : str
        What is wrong without it, for people.
    """

    kind: type[Event]
    key: str
    exposure: ExposureId | None = None
    at_once: bool = field(default=False, compare=False)
    why: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Orphan:
    """A row without its object, or an object that belongs to nothing."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """A version that is never used: a read with two different contents is in it."""

    product_id: str
    version: str
    key: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """One observation, or some of its exposures.

    Attributes
    ----------
    wanted : tuple of Wanted
        In the order in which the events were told first.
    open : tuple of ExposureId
        Exposures that have begun and neither ended nor come to a frame.
    absent : tuple of str
        Keys of rows whose objects were not listed: a listing proves nothing, each must be asked for.
    strays : tuple of Orphan
        Objects that belong to nothing.
    conflicts : tuple of Conflict
    whole : bool
        Whether the observation has ended and everything is there and catalogued.
    """

    wanted: tuple[Wanted, ...]
    open: tuple[ExposureId, ...]
    absent: tuple[str, ...]
    strays: tuple[Orphan, ...]
    conflicts: tuple[Conflict, ...]
    whole: bool
