"""Who tells that another context is in force: the service, of every change that it finds in the store.

A delivery may come as an event, from a command, or from another host: in each case the change in the store is what
counts, and whoever made it may have died after that. A marker beside it says that it was told.
"""

from collections.abc import AsyncIterator

import structlog

from irisdrs.crds_proxy.exchange import bring_mappings, keep_up, publish_built
from irisdrs.crds_proxy.holdings import Catalogue, Change
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import ContextChanged, Event
from irisdrs.shared.file_signature import Signature, signature_of
from irisdrs.shared.service import Round
from irisdrs.shared.store.port import JSON, Store

_log = structlog.get_logger(__name__)

TOLD = "crds/told/"

#: How often the store is asked for another context, seconds.
EVERY_S = 1.0

#: What an event says of the context before the first one.
_NO_CONTEXT = "NONE"


class Announcements:
    """Tells of changes, and keeps the cache of this host and the store in step.

    Parameters
    ----------
    store : Store
    holdings : StoreHoldings
    cache : Cache
    """

    def __init__(self, store: Store, holdings: StoreHoldings, cache: Cache) -> None:
        self._store, self._holdings, self._cache = store, holdings, cache
        self._told = 0
        self._refused: Signature | None = None

    def rounds(self) -> tuple[Round, ...]:
        """What the service looks at by itself."""
        return (Round("crds-contexts", self.look, every_s=EVERY_S),)

    async def look(self) -> AsyncIterator[Event]:
        """One round: publish what was built here, tell what changed, put the context in force here, too."""
        await self.prepare()
        catalogue = await self._holdings.refreshed()
        if self._holdings.has_history and not catalogue.stale:
            for change in catalogue.changes[self._told :]:
                marker = f"{TOLD}{change.number:08d}.json"
                if await self._store.head(marker) is None:
                    yield await self._event(catalogue, change)
                    await self._store.put(marker, b"{}\n", media_type=JSON)
                self._told = change.number
            await keep_up(self._holdings, self._cache)

    async def prepare(self) -> None:
        """Publish what was built in the cache of this host; what cannot be published is said once."""
        built = signature_of(self._cache.server_config)
        if built is None or built == self._refused:
            return
        try:
            await publish_built(self._store, self._holdings.states, self._cache)
        except Fatal as problem:
            _log.error("what was built here is not published", problem=str(problem))
            self._refused = built

    async def _event(self, catalogue: Catalogue, change: Change) -> ContextChanged:
        old = catalogue.changes[change.number - 2].context if change.number > 1 else _NO_CONTEXT
        types = await self._types(old, change.context)
        return ContextChanged(old_context=old, new_context=change.context, number=change.number, types=types)

    async def _types(self, old: str, new: str) -> tuple[str, ...]:
        """Reference types whose mappings differ; all of them where the old context cannot be had."""
        try:
            before, after = [
                set(await bring_mappings(self._holdings, name)) if name != _NO_CONTEXT else set() for name in (old, new)
            ]
        except Fatal as problem:
            _log.error("a context cannot be compared", problem=str(problem))
            return tuple(sorted(reference_types()))
        differing = {name.split("_")[2] for name in before ^ after if name.endswith(".rmap")}
        return tuple(sorted(differing & set(reference_types())))
