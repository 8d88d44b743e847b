"""Which adapters a process uses: the only reader of the settings that name servers."""

import contextlib
import math
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.metadata import entry_points
from pathlib import Path

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_delay, wait_exponential

from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.errors import Fatal, Outage
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.references import References
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import Store
from irisdrs.shared.store.s3 import s3_store

_log = structlog.get_logger(__name__)

#: Longest pause between two tries to reach a server at the start, seconds.
TRY_AGAIN_MAX_S = 5.0


@contextlib.asynccontextmanager
async def open_bus(settings: HostSettings, name: str, patience_s: float = math.inf) -> AsyncIterator[RabbitMQBus]:
    """The bus that the settings name; waits for a broker that is away, for so long.

    Raises
    ------
    Outage
        If it stays away.
    Fatal
        If none is named, it refuses us, or has another topology.
    """
    if settings.amqp_url is None:
        raise Fatal("No broker is named.", remedy="Set IRIS_AMQP_URL: amqp://user:password@host:port/vhost.")
    bus = RabbitMQBus(settings.amqp_url.get_secret_value(), name)
    try:
        await patiently(bus.open, patience_s)
        yield bus
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def open_store(settings: HostSettings, scratch: Path, patience_s: float = math.inf) -> AsyncIterator[Store]:
    """The store that the settings name; waits for a server that is away, for so long.

    Raises
    ------
    Outage
        If it stays away.
    Fatal
        If it refuses us, or cannot keep what it must.
    """
    if settings.store_url is None:
        yield DirectoryStore(settings.store_dir)
        return
    store = s3_store(settings, scratch)
    try:
        await patiently(store.open, patience_s)
        yield store
    finally:
        await store.close()


@contextlib.asynccontextmanager
async def open_references(settings: HostSettings, store: Store) -> AsyncIterator[References]:
    """References from crds_proxy where its URL is set, else as `local_references`."""
    if settings.crds_url is None:
        async with local_references(settings, store) as local:
            yield local
        return
    references = HttpReferences(settings.crds_url, settings.data_dir / "reference-files")
    try:
        yield references
    finally:
        await references.close()


@contextlib.asynccontextmanager
async def local_references(settings: HostSettings, store: Store) -> AsyncIterator[References]:
    """References from the cache in the data folder, by whatever distribution reads them.

    What is not in it comes from the CRDS server upstream if one is set, else from the store.
    """
    (entry,) = entry_points(group="irisdrs.references")
    settings.crds_dir.mkdir(parents=True, exist_ok=True)
    references = entry.load()(settings.crds_dir, store, settings.crds_upstream, bound=settings.crds_cache_bytes)
    try:
        yield references
    finally:
        await references.close()


def empty_scratch(settings: HostSettings, name: str) -> Path:
    """An empty folder for temporary files of one service of this host."""
    scratch = settings.data_dir / "scratch" / name
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch.resolve()


async def patiently(reach: Callable[[], Awaitable[None]], patience_s: float = math.inf) -> None:
    """Do what needs a server, again and again while it is away, for so long."""
    async for attempt in AsyncRetrying(
        retry=retry_if_exception_type(Outage),
        wait=wait_exponential(0.1, max=TRY_AGAIN_MAX_S),
        stop=stop_after_delay(patience_s),
        reraise=True,
    ):
        with attempt:
            try:
                await reach()
            except Outage as problem:
                _log.warning("waiting for a server", problem=str(problem))
                raise
