"""An event that announces an object can be rebuilt from the object: its fields lie in the object's metadata."""

import json
from typing import TypeVar

from pydantic import ValidationError

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import StoredObject

Announcement = TypeVar("Announcement", bound=Event)


def to_metadata(fields: dict[str, object]) -> dict[str, str]:
    """Object metadata from an event's fields, all but `object` (JSON, ASCII, `_` as `-`).

    Parameters
    ----------
    fields : dict
        What `Event.model_dump(mode="json")` gives, with or without `object`.
    """
    return {
        name.replace("_", "-"): json.dumps(value, separators=(",", ":"), sort_keys=True)
        for name, value in fields.items()
        if name != "object"
    }


def from_metadata(kind: type[Announcement], stored: StoredObject) -> Announcement:
    """The event that announces a stored object, which a newer minor version or the major version before may have put.

    Raises
    ------
    CorruptObject
        If the metadata are not those of such an event.
    """
    try:
        fields = {name.replace("-", "_"): json.loads(value) for name, value in stored.metadata.items()}
        fields["object"] = stored.ref.model_dump(mode="json")
        return kind.at_rest(fields)
    except (ValidationError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptObject(
            f"The metadata of {stored.ref.key} are not those of a {kind.__name__}.",
            remedy="Was the object put by hand? Remove it; it will be made again.",
        ) from error
