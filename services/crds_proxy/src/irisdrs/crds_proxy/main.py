"""Compose crds_proxy: for the services of this process, or as a service that others ask over HTTP."""

from pathlib import Path

from irisdrs.crds_proxy.announcements import Announcements
from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.cache_holdings import CacheHoldings
from irisdrs.crds_proxy.delivery.deliveries import Deliveries
from irisdrs.crds_proxy.delivery.process import CrdsProcess
from irisdrs.crds_proxy.handlers import handlers, handlers_upstream
from irisdrs.crds_proxy.holdings import Holdings
from irisdrs.crds_proxy.preload import preloading
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings
from irisdrs.crds_proxy.upstream.server import CrdsServer
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.bus.topology import CRDS, CRDS_PRELOAD
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.service import Platform, Service
from irisdrs.shared.settings import CACHE_BYTES, HostSettings
from irisdrs.shared.store.port import Store


def compose(platform: Platform) -> Service:
    """Build the service: it answers from the store or from a server upstream, and publishes what is delivered."""
    settings = HostSettings()
    register()
    files = Verifier(Cache(platform.data_dir / "crds"))
    if settings.crds_upstream is not None:
        return _in_front_of(settings.crds_upstream, files, settings.crds_cache_bytes)
    holdings = StoreHoldings(platform.store, files)
    references = LocalReferences(holdings, files)
    process = CrdsProcess()
    deliveries = Deliveries(platform.store, holdings, files.cache, process)
    announcements = Announcements(platform.store, holdings, files.cache)
    return Service(
        name="crds_proxy",
        handlers={CRDS: handlers(platform.store, deliveries), CRDS_PRELOAD: preloading(references)},
        web=application(references),
        close=process.close,
        prepare=announcements.prepare,
        rounds=announcements.rounds(),
        collectors=references.figures.collectors(),
    )


def _in_front_of(url: str, files: Verifier, bound: int) -> Service:
    """The service before another CRDS server, to which alone references are delivered."""
    references = LocalReferences(UpstreamHoldings(CrdsServer(url), files, bound=bound), files)
    return Service(
        name="crds_proxy",
        handlers={CRDS: handlers_upstream(), CRDS_PRELOAD: preloading(references)},
        web=application(references),
        close=references.close,
        collectors=references.figures.collectors(),
    )


def open_references(
    cache_dir: Path, store: Store | None = None, upstream: str | None = None, *, bound: int = CACHE_BYTES
) -> LocalReferences:
    """Answer in this process, from a local CRDS cache and what is behind it: a CRDS server, the store or nothing.

    The cache may be empty, and may grow while it is open. No environment variable is needed: mappings and files are
    read by absolute path, so that several caches can be open in one process.

    Parameters
    ----------
    cache_dir : Path
        Root of the cache, as `irisdrs.shared.crds.context.build_context` makes it.
    store : Store, optional
        Where deliveries are published. None: there is nothing but the cache.
    upstream : str, optional
        A CRDS server, as in CRDS_SERVER_URL, whose contexts and files count instead of the store's. `close` it then.
    bound : int
        Bytes that references of that server may take in the cache.
    """
    register()
    files = Verifier(Cache(cache_dir.absolute()))
    holdings: Holdings
    if upstream is not None:
        holdings = UpstreamHoldings(CrdsServer(upstream), files, bound=bound)
    else:
        holdings = CacheHoldings(files) if store is None else StoreHoldings(store, files)
    return LocalReferences(holdings, files)
