"""Which event classes read which messages: derived from the classes themselves."""

from collections.abc import Iterable, Mapping

from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events import calibrations, facts, jobs, telemetry
from irisdrs.shared.events.event import Event

#: CloudEvents types, and the class that reads each.
Readers = Mapping[str, type[Event]]

#: Digits of a version at most: more are no version, and Python refuses to read thousands of them.
_VERSION_DIGITS = 9


def _kinds() -> Iterable[type[Event]]:
    """Every event class of the system: those that have a name on the bus."""
    for module in (facts, jobs, calibrations, telemetry):
        for found in vars(module).values():
            own = isinstance(found, type) and issubclass(found, Event) and found.__module__ == module.__name__
            if own and hasattr(found, "entity_verb"):
                yield found


def readers_of(kinds: Iterable[type[Event]]) -> dict[str, type[Event]]:
    """Readers of event classes: each reads its own version and the one before.

    Raises
    ------
    TypeError
        If two classes read one type, or a class from version 2 on does not say how to read the version before.
    """
    readers: dict[str, type[Event]] = {}
    for kind in kinds:
        raised_by = next(one for one in kind.__mro__ if "version" in vars(one))
        if kind.version > 1 and "from_previous" not in vars(raised_by):
            raise TypeError(f"{kind.__name__} is version {kind.version} and has no from_previous of its own.")
        for version in range(max(kind.version - 1, 1), kind.version + 1):
            if readers.setdefault(kind.cloud_type(version), kind) is not kind:
                raise TypeError(f"{kind.__name__} and another class read {kind.cloud_type(version)}.")
    return readers


def reader(cloud_type: str, readers: Readers) -> type[Event]:
    """The class that reads a type.

    Raises
    ------
    BadMessage
        If there is none; says whether this service is too old for the message, or the message too old for it.
    """
    kind = readers.get(cloud_type)
    if kind is not None:
        return kind
    name, _, version = cloud_type.rpartition(".v")
    known = sorted({kind.version for told, kind in readers.items() if told.rpartition(".v")[0] == name})
    if not known or not version.isdecimal() or len(version) > _VERSION_DIGITS:
        raise BadMessage(
            f"Unknown event type {cloud_type!r}.",
            remedy="Is the sender of a newer version? Then upgrade this service and re-drive the event.",
        )
    if int(version) > known[-1]:
        raise BadMessage(
            f"{name} of version {version}: this service reads up to version {known[-1]}.",
            remedy="Upgrade this service, then re-drive the event.",
        )
    raise BadMessage(
        f"{name} of version {version}: this service reads no version before {max(known[0] - 1, 1)}.",
        remedy="Re-drive the event with a service of the release before, or let reconciliation tell it anew.",
    )


#: The event classes by the type under which this version tells them.
EVENT_TYPES: dict[str, type[Event]] = {kind.cloud_type(): kind for kind in _kinds()}

#: What this version reads.
READERS: Readers = readers_of(EVENT_TYPES.values())
