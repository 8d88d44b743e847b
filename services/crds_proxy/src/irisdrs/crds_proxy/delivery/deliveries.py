"""Deliver references and roll back: prepare a whole new context, publish its files, and commit it by one object.

The order of steps makes a crash harmless: what is published before the commit is part of nothing, the next delivery
of the same files adopts it, and that of others passes its names over. Of two deliverers the second one finds the
number of its change taken, and derives once more, from what the first one has put in force.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from irisdrs.crds_proxy.delivery import inspection
from irisdrs.crds_proxy.delivery.process import CrdsProcess
from irisdrs.crds_proxy.delivery.results import Accepted, Outcome, Refused
from irisdrs.crds_proxy.delivery.staging import Incoming, lay_out, staging_area, take_in
from irisdrs.crds_proxy.exchange import bring_mappings, media_type_of, moment_after, publish_built
from irisdrs.crds_proxy.holdings import Change, ChangeKind, Published
from irisdrs.crds_proxy.states import file_key
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.shared.crash_points import reach
from irisdrs.shared.crds.cache import Cache, FileFacts
from irisdrs.shared.crds.context import Overlap, next_name, refuse_ambiguity
from irisdrs.shared.crds.mappings import load_context
from irisdrs.shared.crds.names import is_context_name, is_reference_name
from irisdrs.shared.errors import Fatal, Outage
from irisdrs.shared.store.port import Store

_log = structlog.get_logger(__name__)

#: What is published after what: a mapping after all that it names.
_RANKS = {".rmap": 1, ".imap": 2, ".pmap": 3}


class Deliveries:
    """Changes what is in force in a store.

    Parameters
    ----------
    store : Store
    holdings : StoreHoldings
        On that store.
    cache : Cache
        Of this host; deliveries are prepared beside it.
    process : CrdsProcess
        Where the `crds` client works.
    """

    def __init__(self, store: Store, holdings: StoreHoldings, cache: Cache, process: CrdsProcess) -> None:
        self._store, self._holdings, self._cache, self._process = store, holdings, cache, process

    async def deliver(
        self, paths: Sequence[Path], by: str, reason: str, *, kind: str | None = None, dry_run: bool = False
    ) -> Outcome:
        """Certify references, and put a context in force that chooses them.

        Parameters
        ----------
        paths : sequence of Path
            FITS files with INSTRUME, REFTYPE, USEAFTER and the keywords of the type's keys. They are copied.
        by, reason : str
            For the history.
        kind : str, optional
            Reference type that all of them must be.
        dry_run : bool
            Change nothing.

        Raises
        ------
        Refused
            If a file is no reference that can be used; nothing is changed then.
        Outage
            If the store is away or full, or the disk of this host is.
        Retryable
            If the process of the client died.
        """
        try:
            async with staging_area(self._cache) as staging:
                incoming = await self._take_in(staging, paths, kind)
                taken: set[str] = set()
                while True:
                    outcome = await self._attempt(staging, incoming, taken, by, reason, dry_run=dry_run)
                    if outcome is not None:
                        return outcome
        except OSError as error:
            raise Outage(
                f"The delivery cannot be prepared in {self._cache.root}: {error.strerror or error}.",
                remedy="Free or mend its disk; nothing was changed.",
            ) from error

    async def roll_back(self, context: str, by: str, reason: str) -> Outcome:
        """Put an earlier context in force; deliveries derive from it from then on.

        Raises
        ------
        Fatal
            If there is no such context, or it is damaged.
        Outage
            If the store is away.
        """
        while True:
            changes = await self._changes()
            published = {name for change in changes for name in change.files}
            if not is_context_name(context) or context not in published:
                raise Fatal(f"There is no context {context!r}.", remedy="`iris crds history` shows which there are.")
            old = changes[-1].context
            if context == old:
                return Outcome(old, old, None)
            await bring_mappings(self._holdings, context)
            await asyncio.to_thread(load_context, self._cache.mappings, context)
            if await self._commit(changes, ChangeKind.ROLLBACK, context, by, reason, {}):
                return Outcome(old, context, len(changes) + 1)

    async def published(self, sha256: str, size: int) -> tuple[str, Change] | None:
        """Name of a reference of this content, and the change that published it; None if none has."""
        for change in await self._changes():
            for name, facts in change.files.items():
                if (facts.sha256, facts.size) == (sha256, size) and is_reference_name(name):
                    return name, change
        return None

    async def _changes(self) -> tuple[Change, ...]:
        """The history; it begins with what was built on this host."""
        states = self._holdings.states
        if not await states.changes():
            await publish_built(self._store, states, self._cache)
        return await states.changes()

    async def _take_in(self, staging: Cache, paths: Sequence[Path], kind: str | None) -> list[Incoming]:
        unreadable = {str(path): [problem] for path in paths if (problem := _unreadable(path))}
        if unreadable or not paths:
            raise Refused(unreadable or {"nothing": ["no file is named"]})
        copies = await asyncio.to_thread(take_in, staging, paths)
        described = await self._process.call(inspection.describe, [copy for _, copy, _ in copies])
        incoming: list[Incoming] = []
        problems: dict[str, list[str]] = {}
        for (path, copy, facts), description in zip(copies, described, strict=True):
            if isinstance(description, str):
                problems[str(path)] = [description.replace(str(copy), path.name)]
            elif kind not in (None, description.type.name):
                problems[str(path)] = [f"it was announced as {kind}, and its REFTYPE is {description.type.name}"]
            else:
                incoming.append(Incoming(path, copy, facts, description))
        if problems:
            raise Refused(problems)
        try:
            refuse_ambiguity([(one.path, one.description) for one in incoming])
        except Fatal as error:
            raise Refused({"the delivery": [error.message]}) from error
        reach("crds.stage.after")
        return incoming

    async def _attempt(
        self, staging: Cache, incoming: Sequence[Incoming], taken: set[str], by: str, reason: str, *, dry_run: bool
    ) -> Outcome | None:
        """Deliver on top of what is in force now; None if somebody else was faster, or has taken a name."""
        changes = await self._changes()
        parent = changes[-1].context if changes else None
        published = {name: facts for change in changes for name, facts in change.files.items()}
        names = await self._names(incoming, published, taken)
        accepted = [
            Accepted(one.path, name, one.description.type.name, published_of(one.facts)) for name, one in names.items()
        ]
        derived = await self._derive(staging, parent, names, {*published, *taken})
        if derived is None:
            assert parent is not None
            return Outcome(parent, parent, None, accepted)
        await self._certify(staging, derived, names)
        number = None if dry_run else len(changes) + 1
        outcome = Outcome(parent, derived.context, number, accepted, sorted(derived.mappings))
        if dry_run:
            return outcome
        facts = {name: one.facts for name, one in names.items()} | dict(derived.mappings)
        files = {name: published_of(each) for name, each in facts.items() if name not in published}
        if conflict := await self._publish(staging, files):
            taken.add(conflict)
            return None
        reach("crds.commit.before")
        if not await self._commit(changes, ChangeKind.DELIVERY, derived.context, by, reason, files):
            return None
        reach("crds.commit.after")
        _log.info("references delivered", context=derived.context, references=sorted(names), by=by)
        return outcome

    async def _names(
        self, incoming: Sequence[Incoming], published: Mapping[str, Published], taken: set[str]
    ) -> dict[str, Incoming]:
        """References by their names: that of an equal one, else the next number of its type."""
        names: dict[str, Incoming] = {}
        for one in incoming:
            prefix = f"tmt_iris_{one.description.type.name}"
            equal = [
                name
                for name, facts in published.items()
                if facts == published_of(one.facts) and name.startswith(f"{prefix}_")
            ]
            names[equal[0] if equal else await self._free_name(one, prefix, {*published, *names}, taken)] = one
        return names

    async def _free_name(self, one: Incoming, prefix: str, used: set[str], taken: set[str]) -> str:
        """The next name; what a delivery that died has left there is passed over unless it is this very file."""
        while True:
            name = next_name({*used, *taken}, prefix, one.path.suffix)
            left = await self._store.head(file_key(name))
            if left is None or left.ref.sha256 == one.facts.sha256:
                return name
            taken.add(name)

    async def _derive(
        self, staging: Cache, parent: str | None, names: dict[str, Incoming], used: set[str]
    ) -> inspection.Derived | None:
        """The new context in the staging area, with names that are free in the store, or hold the same bytes."""
        below = await bring_mappings(self._holdings, parent) if parent is not None else []
        descriptions = {name: one.description for name, one in names.items()}
        while True:
            await asyncio.to_thread(lay_out, staging, self._cache, below, names)
            try:
                derived = await self._process.call(inspection.derive, staging, parent, descriptions, used)
            except Overlap as error:
                raise Refused({"the delivery": [_in_words(error.message, names)]}) from error
            left = (
                [name for name, facts in derived.mappings.items() if await self._left(name, facts)] if derived else []
            )
            if not left:
                return derived
            used |= set(left)

    async def _left(self, name: str, facts: FileFacts) -> bool:
        """Whether a delivery that died, or is under way, has put something else there."""
        stored = await self._store.head(file_key(name))
        return stored is not None and stored.ref.sha256 != facts.sha256

    async def _certify(self, staging: Cache, derived: inspection.Derived, names: Mapping[str, Incoming]) -> None:
        judged = [*names, *sorted(derived.mappings.keys() - set(derived.spared))]
        problems = await self._process.call(inspection.certify, staging, derived.context, judged)
        reach("crds.certify.after")
        if problems:
            raise Refused(
                {
                    str(names[name].path) if name in names else name: [_in_words(each, names) for each in said]
                    for name, said in problems.items()
                }
            )

    async def _publish(self, staging: Cache, files: Mapping[str, Published]) -> str | None:
        """Put references, then mappings, those that others name first; gives a name that another file has taken."""
        for name in sorted(files, key=lambda name: (_RANKS.get(Path(name).suffix, 0), name)):
            put = await self._store.put_file(file_key(name), staging.path(name), media_type=media_type_of(name))
            if put.stored.ref.sha256 != files[name].sha256:
                return name
            reach("crds.publish.after", name)
        return None

    async def _commit(
        self,
        changes: Sequence[Change],
        kind: ChangeKind,
        context: str,
        by: str,
        reason: str,
        files: Mapping[str, Published],
    ) -> bool:
        change = Change(len(changes) + 1, kind, context, moment_after(tuple(changes)), by, reason, files)
        return await self._holdings.states.commit(change)


def published_of(facts: FileFacts) -> Published:
    """What a file of these facts is when it is published."""
    return Published(facts.size, facts.sha1sum, facts.sha256)


def _unreadable(path: Path) -> str:
    """Why a file cannot be taken in; empty if it can."""
    if not path.is_file():
        return "there is no such file"
    if not os.access(path, os.R_OK):
        return "it may not be read"
    return "" if is_reference_name(f"x{path.suffix}") else "references are .fits, .asdf or .json files"


def _in_words(text: str, names: Mapping[str, Incoming]) -> str:
    """A text about references under the names that the deliverer knows."""
    for name, one in names.items():
        text = text.replace(str(one.staged), one.path.name).replace(name, one.path.name)
    return text
