"""What may change in the contract inside a major version: additions that nobody needs.

Messages go both ways: a new service reads what an old one told (and what lies in queues and in the store), and an old
service, which is replaced later, reads what a new one tells. So a range, a pattern or an enumeration may become neither
narrower nor wider: the one parks old messages, the other new ones.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from irisdrs.shared.contract.schemas import Document

#: Words for people; they decide nothing.
_ANNOTATIONS = {"$comment", "$id", "$schema", "$defs", "description", "examples", "title"}

_OLD_MESSAGES = "this version would park messages of the version before"
_OLD_READERS = "services of the version before would park the messages"


@dataclass(frozen=True, slots=True)
class Break:
    """A change that must not be made inside a major version.

    Attributes
    ----------
    where : str
        The exact place: event, then field.
    what : str
        What was changed, and why that breaks somebody.
    """

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


@dataclass(frozen=True, slots=True)
class Contract:
    """What is compared of a contract.

    Attributes
    ----------
    schemas : mapping of message name to JSON Schema
    asyncapi : the AsyncAPI document
    """

    schemas: Mapping[str, Document]
    asyncapi: Document


def breaks(released: Contract, current: Contract) -> list[Break]:
    """Everything in which a contract breaks what was released."""
    found: list[Break] = []
    for name, schema in released.schemas.items():
        if name in current.schemas:
            found += schema_breaks(name, schema, current.schemas[name])
            found += _channel_breaks(name, released.asyncapi, current.asyncapi)
        elif _next_major(name) not in current.schemas:
            found.append(Break(name, "the event was removed, and the next major version of it is not there"))
    return found


def _next_major(name: str) -> str:
    event, _, number = name.rpartition(".v")
    return f"{event}.v{int(number) + 1}"


def _channel_breaks(name: str, released: Document, current: Document) -> Iterator[Break]:
    for part, ends in (
        ("routing key", ("address",)),
        ("exchange", ("bindings", "amqp", "exchange")),
    ):
        old, new = _at(released, "channels", name, *ends), _at(current, "channels", name, *ends)
        if old != new:
            yield Break(name, f"the {part} was {old!r} and is {new!r}: consumers are bound to the old one")


def _at(document: object, *path: str) -> object:
    for step in path:
        document = document.get(step) if isinstance(document, Mapping) else None
    return document


def schema_breaks(where: str, released: Document, current: Document) -> list[Break]:
    """Everything in which the JSON Schema of a message breaks the one that was released."""
    return list(_Comparison(released, current).differences(where, released, current))


class _Comparison:
    """Walks two schemas side by side."""

    def __init__(self, released: Document, current: Document) -> None:
        self._released, self._current = released, current

    def differences(self, where: str, old: object, new: object) -> Iterator[Break]:
        """Compare two schemas of one place."""
        if not isinstance(old, dict) or not isinstance(new, dict):
            if old != new:
                yield Break(where, f"{old!r} became {new!r}")
            return
        old, new = _resolved(self._released, old), _resolved(self._current, new)
        yield from self._fields(where, old, new)
        for keyword in sorted((old.keys() | new.keys()) - _ANNOTATIONS - {"properties", "required"}):
            yield from self._keyword(where, keyword, old.get(keyword), new.get(keyword))

    def _fields(self, where: str, old: Document, new: Document) -> Iterator[Break]:
        old_fields, new_fields = _mapping(old, "properties"), _mapping(new, "properties")
        old_required, new_required = _names(old), _names(new)
        for name, schema in old_fields.items():
            place = f"{where}.{name}"
            if name not in new_fields:
                yield Break(place, f"the field was removed or renamed: {_OLD_READERS}, or miss what it says")
                continue
            if name in new_required - old_required:
                yield Break(place, f"the field became required: {_OLD_MESSAGES}")
            if name in old_required - new_required:
                yield Break(place, f"the field became optional: {_OLD_READERS} without it")
            yield from self.differences(place, schema, new_fields[name])
        for name in sorted(new_required - old_fields.keys()):
            yield Break(f"{where}.{name}", f"a new field is required: {_OLD_MESSAGES}")

    def _keyword(self, where: str, keyword: str, old: object, new: object) -> Iterator[Break]:
        if keyword == "enum":
            yield from _choices(where, old, new)
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for number, (one, other) in enumerate(zip(old, new, strict=True)):
                yield from self.differences(f"{where}[{number}]", one, other)
        elif isinstance(old, dict) and isinstance(new, dict):
            yield from self.differences(f"{where}[]", old, new)
        elif old != new:
            yield Break(where, f"{keyword} was {_said(old)} and is {_said(new)}: {_OLD_MESSAGES}, or {_OLD_READERS}")


def _choices(where: str, old: object, new: object) -> Iterator[Break]:
    before, after = set(_strings(old)), set(_strings(new))
    if old is None or new is None:
        yield Break(where, f"enum was {_said(old)} and is {_said(new)}: {_OLD_MESSAGES}, or {_OLD_READERS}")
        return
    if gone := sorted(before - after):
        yield Break(where, f"{', '.join(gone)} may no longer be told: {_OLD_MESSAGES}")
    if come := sorted(after - before):
        yield Break(where, f"{', '.join(come)} may be told now: {_OLD_READERS}")


def _resolved(root: Document, schema: Document) -> Document:
    """A schema with its reference into the document replaced by what it refers to."""
    target = schema.get("$ref")
    if not isinstance(target, str):
        return schema
    found = _at(root, *target.removeprefix("#/").split("/"))
    return cast(Document, found) | {name: value for name, value in schema.items() if name != "$ref"}


def _mapping(schema: Document, keyword: str) -> Document:
    found = schema.get(keyword, {})
    return found if isinstance(found, dict) else {}


def _names(schema: Document) -> set[str]:
    return set(_strings(schema.get("required")))


def _strings(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _said(value: object) -> str:
    return "not limited" if value is None else repr(value)
