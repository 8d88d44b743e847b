"""What another CRDS server has published, kept in the cache of this host."""

import asyncio
import contextlib
import json
import time
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

import structlog
from pydantic import TypeAdapter, ValidationError

from irisdrs.crds_proxy.holdings import Catalogue, Change, ChangeKind, Published
from irisdrs.crds_proxy.upstream.arrival import Arrival, Place
from irisdrs.crds_proxy.upstream.retention import Uses, references_of, remove_left, to_give_up
from irisdrs.crds_proxy.upstream.server import CrdsServer, ServerInfo
from irisdrs.crds_proxy.verification import Unusable, Verifier
from irisdrs.shared.crds.cache import (
    FileFacts,
    add_to_manifest,
    read_manifest,
    remove_from_manifest,
    write_atomically,
)
from irisdrs.shared.crds.names import is_context_name, is_mapping_name, is_safe_name
from irisdrs.shared.crds.registration import OBSERVATORY
from irisdrs.shared.errors import MissingReference, Outage

_log = structlog.get_logger(__name__)

#: How old an answer may be before the server is asked again: which context is in force; all files.
_FRESH_S, _WHOLE_S = 1.0, 60.0

#: How often a server that is away is asked again, seconds; nobody waits for that.
_AWAY_S = 5.0

#: How long a failure is remembered, seconds: those who wait for a server that fails do not all ask it again.
_FAILED_S = 5.0

_CATALOGUE = TypeAdapter(Catalogue)


class UpstreamHoldings:
    """Contexts and files of a CRDS server. For one event loop; `close` it there.

    Several processes may share the cache: each file is fetched by one of them.

    Parameters
    ----------
    server : CrdsServer
    files : Verifier
        Of the local cache.
    bound : int
        Bytes that references may take.
    """

    def __init__(self, server: CrdsServer, files: Verifier, *, bound: int) -> None:
        cache = files.cache
        cache.prepare()
        self._server = server
        self._cache = cache
        self._bound = bound
        self._locks = cache.config / "locks"
        self._locks.mkdir(exist_ok=True)
        self.files = files
        self._uses = Uses(cache)
        files.on_use = self._use
        self._info: ServerInfo | None = None
        self._known: Catalogue | None = None
        self._asked_whole = self._asked = 0.0
        self._asking = asyncio.Lock()
        self._again: asyncio.Task[Catalogue] | None = None
        self._arrivals: dict[str, Arrival] = {}
        self._admitting = asyncio.Lock()
        self._failed: dict[str, tuple[float, Outage]] = {}

    async def close(self) -> None:
        """Give up what is being fetched, and the connections."""
        if self._again is not None:
            self._again.cancel()
        for arrival in list(self._arrivals.values()):
            await arrival.cancel()
        await self._server.close()

    async def catalogue(self) -> Catalogue:
        """What the server has published; while it does not answer, at once what it said before, which is stale."""
        if self._known is not None and self._known.stale:
            if self._again is None and time.monotonic() - self._asked >= _AWAY_S:
                self._again = asyncio.create_task(self._refresh(), name="ask the CRDS server again")
            return self._known
        return await self._refresh()

    async def _refresh(self) -> Catalogue:
        async with self._asking:
            try:
                if self._known is None or self._known.stale or time.monotonic() - self._asked >= _FRESH_S:
                    self._known = await self._ask()
                    self._asked = time.monotonic()
            finally:
                self._again = None
            return self._known

    async def local(self, name: str) -> Path:
        """A published file as a verified file of the cache."""
        known = self.files.recall(name)
        if known is None:
            arrival = await self._begin(name)
            return await arrival.whole() if arrival is not None else self._cache.path(name)
        return known.path

    async def arriving(self, name: str) -> Arrival | None:
        """A file that is on its way, or has to come; None when it is here."""
        return None if self.files.recall(name) is not None else await self._begin(name)

    async def _begin(self, name: str) -> Arrival | None:
        """Have a file fetched unless it is here."""
        published = await self._published(name)
        arrival = self._arrivals.get(name)
        if arrival is not None:
            return arrival
        if await asyncio.to_thread(self._is_here, name, published):
            self._use(name)
            return None
        at, problem = self._failed.get(name, (-_FAILED_S, None))
        if problem is not None and time.monotonic() - at < _FAILED_S:
            raise Outage(problem.message, remedy=problem.remedy)
        return await self._fetch(name, published)

    async def _published(self, name: str) -> Published:
        if not is_safe_name(name):
            raise MissingReference(
                f"{name!r} is no name of a CRDS file.", remedy="They have names such as tmt_iris_dark_0001.fits."
            )
        found = self._known.files.get(name) if self._known else None
        if found is None:
            found = (await self.catalogue()).files.get(name)
        if found is None:
            raise MissingReference(
                f"The CRDS server {self._server.shown} has published no {name}.", remedy="See `iris crds list`."
            )
        return found

    def _is_here(self, name: str, published: Published) -> bool:
        facts = read_manifest(self._cache).get(name)
        if facts is None or (facts.size, facts.sha1sum) != (published.size, published.sha1sum):
            return False
        with contextlib.suppress(Unusable):
            self.files.verify(name)
            return True
        return False

    async def _fetch(self, name: str, published: Published) -> Arrival:
        async with self._admitting:
            if (begun := self._arrivals.get(name)) is not None:
                return begun  # by another task, meanwhile
            if not is_mapping_name(name):
                await self._make_room(published.size)
            self._info = info = self._info or await self._server.info()
            folder = (info.mapping_url if is_mapping_name(name) else info.reference_url)[OBSERVATORY]
            place = Place(self._cache.path(name).parent, name, self._locks)
            arrival = self._arrivals[name] = Arrival(
                place, published, lambda start: self._server.download(folder, name, start), self._keep
            )
            arrival.when_done(lambda: self._ended(name, arrival))
            return arrival

    def _ended(self, name: str, arrival: Arrival) -> None:
        self._arrivals.pop(name, None)
        problem = arrival.problem
        if problem is None:
            self._failed.pop(name, None)
            self._use(name)
        elif isinstance(problem, Outage):
            self._failed[name] = (time.monotonic(), problem)

    async def _make_room(self, wanted: int) -> None:
        """Make room for a reference beside those that come already."""
        coming = {name: arrival.size for name, arrival in self._arrivals.items() if not is_mapping_name(name)}
        await asyncio.to_thread(self._give_up, wanted + sum(coming.values()), coming)

    def _give_up(self, wanted: int, coming: Collection[str]) -> None:
        remove_left(self._cache.references)
        here = references_of(read_manifest(self._cache), self._cache.references)
        here = {name: facts for name, facts in here.items() if name not in coming}
        for name in to_give_up(here, {name: self._uses.last(name) for name in here}, wanted, self._bound):
            _log.info("reference is given up", name=name, bytes=here[name].size)
            remove_from_manifest(self._cache, name)
            (self._cache.references / name).unlink(missing_ok=True)
            self._uses.forget(name)

    def _keep(self, name: str, facts: FileFacts) -> None:
        add_to_manifest(self._cache, {name: facts})

    def _use(self, name: str) -> None:
        if not is_mapping_name(name):
            self._uses.note(name)

    async def _ask(self) -> Catalogue:
        try:
            is_recent = self._known is not None and time.monotonic() - self._asked_whole < _WHOLE_S
            if self._known and is_recent and await self._server.context_in_force() == self._known.context:
                return _asked_now(self._known)
            found = await self._ask_whole()
        except Outage:
            before = self._known or await asyncio.to_thread(self._remembered)
            if before is None:
                raise
            if not before.stale:
                _log.warning("the CRDS server is away, what it said before goes on", server=self._server.shown)
            return Catalogue(before.changes, before.files, before.asked_at, stale=True)
        self._asked_whole = time.monotonic()
        if self._known is None or found.files != self._known.files or found.changes != self._known.changes:
            await asyncio.to_thread(self._remember, found)
        return found

    async def _ask_whole(self) -> Catalogue:
        self._info = info = await self._server.info()
        sums = await asyncio.to_thread(self._server.files, info)  # of many files, it takes a while
        files = {name: Published(one.size, one.sha1sum) for name, one in sums.items() if is_safe_name(name)}
        now, known = datetime.now(UTC), self._known
        seen = known.changes[-1].at if known and known.context == info.operational_context else now
        changes = changes_of(await self._server.history(), info.operational_context, files, seen)
        return Catalogue(changes, files, now)

    @property
    def _memory(self) -> Path:
        return self._cache.config / "upstream.json"

    def _remember(self, found: Catalogue) -> None:
        try:
            write_atomically(self._memory, _CATALOGUE.dump_json(found))
        except OSError as problem:  # a full disk costs no answer
            _log.error("what the CRDS server says cannot be kept for the next start", problem=str(problem))

    def _remembered(self) -> Catalogue | None:
        try:
            return _CATALOGUE.validate_json(self._memory.read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, json.JSONDecodeError) as error:
            _log.error("what the CRDS server said before is damaged, and passed over", problem=str(error)[:300])
            return None


def changes_of(
    history: list[tuple[str, str, str]], in_force: str, files: Mapping[str, Published], seen: datetime
) -> tuple[Change, ...]:
    """Changes of the context that a server tells: start date, context, description; oldest first.

    What is no context, or has no date, is passed over. A context in force that the history does not end with has been
    in force since it was seen first, as far as anybody can tell. A server does not say since when there are
    files: since ever.
    """
    found: list[tuple[datetime, str, str]] = []
    for date, context, description in history:
        with contextlib.suppress(ValueError):
            moment = datetime.fromisoformat(date)
            if is_context_name(context):
                found.append((moment if moment.tzinfo else moment.replace(tzinfo=UTC), context, description))
    found.sort()
    if is_context_name(in_force) and (not found or found[-1][1] != in_force):
        found.append((max([seen, *(moment for moment, _, _ in found[-1:])]), in_force, ""))
    return tuple(
        Change(
            number=number,
            kind=ChangeKind.UPSTREAM,
            context=context,
            at=moment,
            by="upstream",
            reason=description or "The CRDS server gives no reason.",
            files=files if number == 1 else {},
        )
        for number, (moment, context, description) in enumerate(found, 1)
    )


def _asked_now(known: Catalogue) -> Catalogue:
    return Catalogue(known.changes, known.files, datetime.now(UTC))
