"""Holdings in the object store: contexts from its numbered changes, files brought into the local cache as asked for."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import structlog

from irisdrs.crds_proxy.cache_holdings import CacheHoldings
from irisdrs.crds_proxy.holdings import Catalogue, Published
from irisdrs.crds_proxy.states import States, object_of
from irisdrs.crds_proxy.verification import Unusable, Verifier
from irisdrs.shared.crds.cache import FileFacts, add_to_manifest, admit, read_manifest
from irisdrs.shared.crds.names import is_safe_name
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference, Outage
from irisdrs.shared.fetch_lock import one_fetcher
from irisdrs.shared.store.port import Store

_log = structlog.get_logger(__name__)

#: How long the store is not asked again, seconds: half of what an observatory may wait for a new context.
FRESH_S = 0.5


class StoreHoldings:
    """`Holdings` of a store and the cache of this host, which other processes may use too. For one event loop.

    What was built in the cache itself can be had on this host whether or not it is in the store; it is all that there
    is as long as the store has no history.

    Parameters
    ----------
    store : Store
    files : Verifier
        Of the cache, which is made if it is absent.
    fresh_s : float
        How long the store is not asked again, seconds.
    """

    def __init__(self, store: Store, files: Verifier, *, fresh_s: float = FRESH_S) -> None:
        self.states = States(store)
        self._store = store
        self._files = files
        self._built = CacheHoldings(files)
        self._fresh_s = fresh_s
        self._known: Catalogue | None = None
        self._asked_s = -float("inf")
        self._turn = asyncio.Lock()
        self._running: dict[str, asyncio.Task[Path]] = {}

    @property
    def has_history(self) -> bool:
        """Whether the store had one when it was asked last; else there is what was built here."""
        return self._known is not None and bool(self._known.changes)

    async def catalogue(self) -> Catalogue:
        """What is published; see `irisdrs.crds_proxy.holdings.Holdings`."""
        async with self._turn:
            if self._known is None or time.monotonic() - self._asked_s > self._fresh_s:
                self._known = await self._ask(self._known)
                self._asked_s = time.monotonic()
            return self._known if self._known.changes else await self._built.catalogue()

    async def refreshed(self) -> Catalogue:
        """What is published now: the store is asked, however short ago it was."""
        self._asked_s = -float("inf")
        return await self.catalogue()

    async def local(self, name: str) -> Path:
        """A published file in the local cache; see `irisdrs.crds_proxy.holdings.Holdings`."""
        if not is_safe_name(name):
            raise MissingReference(
                f"{name!r} is no name of a CRDS file.", remedy="They have names such as tmt_iris_dark_0001.fits."
            )
        known = self._files.recall(name)
        if known is not None:
            return known.path
        task = self._running.get(name)
        if task is None:
            task = self._running[name] = asyncio.create_task(self._bring(name), name=name)
            task.add_done_callback(lambda _: self._running.pop(name))
        return await asyncio.shield(task)  # who gives up does not take the file away from the others

    async def arriving(self, name: str) -> None:
        """None: the store verifies files before it hands them out."""

    async def close(self) -> None:
        """Nothing is open: the store belongs to who has opened it."""

    async def _ask(self, known: Catalogue | None) -> Catalogue:
        try:
            changes = await self.states.changes()
        except Outage as problem:
            if known is None:
                raise
            if not known.stale:
                _log.warning("contexts as they were when the store was asked last", problem=str(problem))
            return replace(known, stale=True)
        now = datetime.now(UTC)
        if known is not None and len(known.changes) == len(changes):
            return replace(known, asked_at=now, stale=False)
        files = {name: published for change in changes for name, published in change.files.items()}
        return Catalogue(changes, files, now)

    async def _bring(self, name: str) -> Path:
        published = await self._published(name)
        if published is None:
            return await self._built.local(name)
        cache, facts = self._files.cache, FileFacts(published.size, published.sha1sum, published.sha256)
        try:
            await asyncio.to_thread(cache.prepare)
            # Into the manifest first: a file that is there can be verified, whoever dies in between.
            await asyncio.to_thread(add_to_manifest, cache, {name: facts})
            if (path := await self._verified(name)) is not None:
                return path
            locks = cache.config / "locks"
            locks.mkdir(exist_ok=True)
            async with one_fetcher(locks / name):
                if (path := await self._verified(name)) is not None:
                    return path
                async with self._store.local(object_of(name, published)) as source:
                    await asyncio.to_thread(_admit, source, cache.path(name), facts)
        except CorruptObject as error:
            raise MissingReference(f"{name} cannot be brought: {error.message}", remedy=error.remedy) from error
        except OSError as error:
            raise Outage(
                f"The CRDS cache {cache.root} cannot take {name}: {error.strerror}.",
                remedy="Free or mend its disk, or make it writable.",
            ) from error
        return cache.path(name)

    async def _published(self, name: str) -> Published | None:
        """What a file must be; None if it was built in the cache of this host, and nobody has published it."""
        try:
            known = (await self.catalogue()).files.get(name)
        except (Outage, Fatal):  # of a history that is damaged now, what was published before stays published
            known = self._known.files.get(name) if self._known else None
        if known is not None or name in await asyncio.to_thread(read_manifest, self._files.cache):
            return known
        now = await self.refreshed()
        if name in now.files:
            return now.files[name]
        if now.stale:
            raise Outage(f"The store is away, and {name} was not published before.", remedy="Start or mend the store.")
        raise MissingReference(
            f"Nothing of the name {name} was published.", remedy="`iris crds history` shows what was."
        )

    async def _verified(self, name: str) -> Path | None:
        """The file, if it is in the cache with the right bytes."""
        try:
            return (await asyncio.to_thread(self._files.verify, name)).path
        except Unusable as problem:
            if self._files.cache.path(name).exists():
                _log.error("a file of the CRDS cache is brought again", problem=str(problem))
            return None


def _admit(source: Path, path: Path, facts: FileFacts) -> None:
    def name_for(found: FileFacts) -> str:
        if found != facts:
            raise CorruptObject(f"{path.name} has {found}, published were {facts}.", remedy="Restore the object.")
        return path.name

    admit(source, path.parent, name_for)
