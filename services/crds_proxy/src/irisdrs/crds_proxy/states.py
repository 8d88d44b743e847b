"""The history of contexts in the object store: numbered changes, each written once; the highest number is in force.

Beside the changes, ``crds/states/00000007.json``, lie the files that they publish, ``crds/mappings/NAME`` and
``crds/references/NAME``. A file counts as published from the change on that names it: what a delivery that died has
left is no part of anything.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from itertools import count, takewhile

from pydantic import TypeAdapter, ValidationError

from irisdrs.crds_proxy.holdings import Change, Published
from irisdrs.shared.crds.names import is_context_name, is_mapping_name, is_safe_name
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.store.port import JSON, ObjectRef, Store

STATES = "crds/states/"

#: Changes that are read at the same time when a process starts.
_AT_ONCE = 16

_CHANGE = TypeAdapter(Change)


def state_key(number: int) -> str:
    """Key of a change."""
    return f"{STATES}{number:08d}.json"


def file_key(name: str) -> str:
    """Key of a mapping or reference."""
    return f"crds/{'mappings' if is_mapping_name(name) else 'references'}/{name}"


def object_of(name: str, published: Published) -> ObjectRef:
    """The object that holds a published file."""
    return ObjectRef(key=file_key(name), sha256=published.sha256, size=published.size)


class States:
    """The changes of a store. For one event loop.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._changes: list[Change] = []
        self._files: dict[str, Published] = {}
        self._turn = asyncio.Lock()

    async def changes(self) -> tuple[Change, ...]:
        """All changes, oldest first. What is known is not read again: one question if there is nothing new.

        Raises
        ------
        Outage
            If the store is away.
        Fatal
            If a change is damaged, or does not follow the one before.
        """
        async with self._turn:
            if not self._changes:
                await self._read_listed()
            while (ref := await self._look(len(self._changes) + 1)) is not None:
                self._take(await self._read(ref))
            return tuple(self._changes)

    async def commit(self, change: Change) -> bool:
        """Put the next change in force, whole or not at all; False if somebody else has taken its number.

        Raises
        ------
        Outage
            If the store is away: whether the change is in force shows when it is back.
        ValueError
            If it is none that may follow what is known here.
        """
        if change.number <= len(self._changes):
            return False
        if problem := _problem(change, self._changes[-1] if self._changes else None, self._files):
            raise ValueError(problem)
        data = _CHANGE.dump_json(change, indent=1)
        put = await self._store.put(state_key(change.number), data, media_type=JSON, contested=True)
        # An answer that got lost on its way lets a store say that the object is there: it may be this one.
        return put.created or put.stored.ref.sha256 == hashlib.sha256(data).hexdigest()

    async def _read_listed(self) -> None:
        """Read what a listing shows, many at a time. It may lag: what it does not show is asked for by its key."""
        listed = set(await self._store.keys(STATES))
        places = asyncio.Semaphore(_AT_ONCE)

        async def read(number: int) -> Change:
            async with places:
                ref = await self._look(number)
                if ref is None:
                    raise _damaged(state_key(number), "it is listed, and gone")
                return await self._read(ref)

        numbers = takewhile(lambda number: state_key(number) in listed, count(1))
        for change in await asyncio.gather(*map(read, numbers)):
            self._take(change)

    async def _look(self, number: int) -> ObjectRef | None:
        stored = await self._store.head(state_key(number))
        return None if stored is None else stored.ref

    async def _read(self, ref: ObjectRef) -> Change:
        try:
            return _CHANGE.validate_json(await self._store.get(ref))
        except (ValidationError, CorruptObject) as error:
            raise _damaged(ref.key, str(error)) from error

    def _take(self, change: Change) -> None:
        number = len(self._changes) + 1
        problem = _problem(change, self._changes[-1] if self._changes else None, self._files)
        if problem:
            raise _damaged(state_key(number), problem)
        self._changes.append(change)
        self._files |= change.files


def _problem(change: Change, before: Change | None, files: Mapping[str, Published]) -> str:
    """Why a change cannot follow what was before it; empty if it can."""
    number = before.number + 1 if before else 1
    unsafe = [name for name in change.files if not is_safe_name(name)]
    altered = [name for name, published in change.files.items() if files.get(name, published) != published]
    checks = {
        f"its number is {change.number}, not {number}": change.number == number,
        f"its time {change.at} has no time zone": change.at.tzinfo is not None,
        f"{change.context!r} is no name of a context": is_context_name(change.context),
        f"nothing has published its context {change.context}": change.context in {**files, **change.files},
        f"{unsafe} are no names of CRDS files": not unsafe,
        f"it changes {altered}, which were published before": not altered,
    }
    if failed := [what for what, holds in checks.items() if not holds]:
        return "; ".join(failed)
    return f"its time {change.at} is before that of the change before" if before and change.at < before.at else ""


def _damaged(key: str, reason: str) -> Fatal:
    return Fatal(
        f"The history of CRDS contexts is damaged: {key}: {reason}.", remedy="Restore this object of the store."
    )
