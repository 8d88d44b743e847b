"""What a demonstration plays on: the embedded system, or an observatory of processes."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from irisdrs.shared.adapters import open_bus, open_store
from irisdrs.shared.bus.port import Bus
from irisdrs.shared.embedded import run, serve_web
from irisdrs.shared.health import LoopLag
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.port import Store
from irisdrs.simulator.observatory import Observatory, StoreKind


@dataclass(frozen=True, slots=True)
class Stage:
    """A running system.

    Attributes
    ----------
    settings : HostSettings
    bus, store
    url : str
        Where the archive answers.
    environment : mapping
        Environment of a process that tells it a night.
    idle : coroutine function
        Whether nothing is left to do, as far as can be told.
    loop_lag : callable
        Worst delay of this process's event loop, where the services are in it, seconds; processes tell theirs.
    """

    settings: HostSettings
    bus: Bus
    store: Store
    url: str
    environment: Mapping[str, str]
    idle: Callable[[], Awaitable[bool]]
    loop_lag: Callable[[], dict[str, float]] = dict


@contextlib.asynccontextmanager
async def embedded_stage(settings: HostSettings) -> AsyncIterator[Stage]:
    """All services in this process."""
    lag = LoopLag(Metrics())
    async with run(settings) as system, serve_web(system) as url:
        measuring = asyncio.create_task(lag.run())

        async def idle() -> bool:
            return not any(system.bus.depths().values())

        try:
            yield Stage(
                settings, system.bus, system.platform.store, url, os.environ, idle, lambda: {"system": lag.report()}
            )
        finally:
            measuring.cancel()


@contextlib.asynccontextmanager
async def distributed_stage(data_dir: Path, store: StoreKind) -> AsyncIterator[Stage]:
    """Private servers, and every service as a process that is started anew when it dies."""
    observatory = Observatory(data_dir, store)
    await asyncio.to_thread(observatory.start)
    supervising = asyncio.create_task(observatory.supervise())
    try:
        async with visiting(observatory) as stage:
            yield stage
    finally:
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await asyncio.to_thread(observatory.stop)


@contextlib.asynccontextmanager
async def visiting(observatory: Observatory) -> AsyncIterator[Stage]:
    """Bus and store of a running observatory."""
    settings = HostSettings.model_validate(
        {name.removeprefix("IRIS_").lower(): value for name, value in observatory.settings().items()}
    )
    scratch = observatory.data_dir / "scratch" / "visitor"
    scratch.mkdir(parents=True, exist_ok=True)

    async def idle() -> bool:
        return False  # a broker does not say what its consumers hold

    async with open_bus(settings, "visitor") as bus, open_store(settings, scratch) as store:
        yield Stage(settings, bus, store, observatory.archive_url, observatory.environment(), idle)
