"""One service as a process of its own: RabbitMQ, the store and crds_proxy are elsewhere, settings say where."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from irisdrs.shared import logs
from irisdrs.shared.adapters import empty_scratch, open_bus, open_references, open_store, patiently
from irisdrs.shared.bus.dispatch import Dispatcher, publish
from irisdrs.shared.bus.port import BusOutage
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.dead_letters.office import DeadLetters
from irisdrs.shared.errors import IrisError
from irisdrs.shared.events import ServiceStatus
from irisdrs.shared.health import LoopLag, health_application
from irisdrs.shared.identity import software_version
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.rounds import run_rounds
from irisdrs.shared.service import Compose, Platform, Service
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.web_server import serving

_log = structlog.get_logger(__name__)

#: How long what is in flight may take when the process is asked to end, seconds; Kubernetes kills after 30 by default.
GRACE_S = 25.0

#: How often a process tells how it is, seconds.
REPORT_S = 5.0

#: How often the watchdog looks at the subscriptions, seconds.
WATCH_S = 10.0


class Unhealthy(IrisError):
    """The process does nothing useful any more: its supervisor should start it anew."""

    consequence = "The process ends; what it had not settled is delivered again."


@dataclass(slots=True)
class _Process:
    """A service process, as far as it has come."""

    name: str
    metrics: Metrics
    dispatcher: Dispatcher | None = None
    stopping: bool = False
    broker_away: bool = False

    @property
    def state(self) -> Literal["starting", "ready", "outage", "stopping"]:
        if self.stopping:
            return "stopping"
        if self.dispatcher is None:
            return "starting"
        return "ready" if self.dispatcher.ready and not self.broker_away else "outage"

    def not_ready(self) -> str | None:
        return (
            None
            if self.state == "ready"
            else {
                "starting": "It waits for the broker, the store or its catalogue: see its log.",
                "outage": "A server that it needs is away: see its log.",
                "stopping": "It is asked to end.",
            }[self.state]
        )


def run_service(name: str, compose: Compose, web: tuple[str, int] | None = None) -> None:
    """Run a service until SIGTERM or SIGINT: the whole of `iris ... serve`.

    Parameters
    ----------
    name : str
        Of this process among the processes of a host, e.g. ``readout-IMG1``.
    compose : Compose
    web : (host, port), optional
        Where the service's web application listens.
    """
    settings = HostSettings()
    logs.configure(settings)
    asyncio.run(serve(settings, name, compose, web))


async def serve(settings: HostSettings, name: str, compose: Compose, web: tuple[str, int] | None = None) -> None:
    """Run a service until the process is asked to end.

    While a server is away at the start, the process lives, is not ready, and keeps trying.

    Raises
    ------
    Fatal
        If a server refuses us, or something is not set.
    Unhealthy
        If the watchdog finds a subscription that gets nothing.
    """
    process = _Process(name, Metrics())
    lag = LoopLag(process.metrics)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    health = health_application(process.metrics.registry, process.not_ready)
    async with serving(health, settings.health_host, settings.health_port) as url:
        _log.info("started", service=name, health=url)
        life = asyncio.create_task(_live(settings, process, compose, web, lag))
        asked = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({life, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not life.done():
                await _end(process, life)
            if not life.cancelled():
                await life
        finally:
            asked.cancel()
    _log.info("ended", service=name)


async def _end(process: _Process, life: "asyncio.Task[None]") -> None:
    """Let what is in flight finish, within reason."""
    _log.info("asked to end", service=process.name)
    process.stopping = True
    if process.dispatcher is None:
        life.cancel()
    else:
        process.dispatcher.stop()
        _, late = await asyncio.wait({life}, timeout=GRACE_S)
        if late:
            _log.warning("not finished in time, will be delivered again", service=process.name)
            life.cancel()
    await asyncio.wait({life})


async def _live(
    settings: HostSettings, process: _Process, compose: Compose, web: tuple[str, int] | None, lag: LoopLag
) -> None:
    """Reach the servers, compose the service, dispatch until stopped."""
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(open_bus(settings, process.name))
        platform = await stack.enter_async_context(_platform(settings, process.name, bus))
        service = await _composed(compose, platform)
        stack.push_async_callback(service.close)
        if service.web is not None and web is not None:
            url = await stack.enter_async_context(serving(service.web, *web))
            _log.info("answers", service=process.name, url=url)
        await service.prepare()
        await asyncio.to_thread(software_version)  # takes a second the first time, which the loop has not got
        for collector in service.collectors:
            process.metrics.registry.register(collector)
        process.dispatcher = dispatcher = Dispatcher(bus, service, metrics=process.metrics)
        await _run(bus, dispatcher, service, process, lag)


async def _run(bus: RabbitMQBus, dispatcher: Dispatcher, service: Service, process: _Process, lag: LoopLag) -> None:
    """Dispatch until stopped; end as soon as anything beside it fails."""
    tasks = [
        asyncio.create_task(work)
        for work in (
            dispatcher.run(),
            run_rounds(bus, service, process.metrics),
            lag.run(),
            _watch(bus, process, dispatcher),
            _report(bus, dispatcher, process, lag),
        )
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def _platform(settings: HostSettings, name: str, bus: RabbitMQBus) -> AsyncIterator[Platform]:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    scratch = empty_scratch(settings, name)
    workers = settings.threads or os.cpu_count() or 1
    with ThreadPoolExecutor(workers, thread_name_prefix="iris") as threads:
        async with open_store(settings, scratch) as store, open_references(settings, store) as references:
            yield Platform(
                store=store,
                references=references,
                data_dir=settings.data_dir.resolve(),
                scratch=scratch,
                threads=threads,
                held=DeadLetters(bus, store).held,
            )


async def _composed(compose: Compose, platform: Platform) -> Service:
    """Compose the service; one that needs a server of its own (a catalogue) may have to wait."""
    made: list[Service] = []

    async def attempt() -> None:
        made.append(compose(platform))

    await patiently(attempt)
    return made[0]


async def _watch(bus: RabbitMQBus, process: _Process, dispatcher: Dispatcher) -> None:
    """End the process when its subscriptions get nothing though there is something."""
    while True:
        await asyncio.sleep(WATCH_S)
        try:
            problem = await bus.stalled()
        except BusOutage:
            process.broker_away = True
            continue
        process.broker_away = False
        if problem and not dispatcher.outage:
            raise Unhealthy(problem, remedy="Its supervisor starts it anew; look into the broker's log.")


async def _report(bus: RabbitMQBus, dispatcher: Dispatcher, process: _Process, lag: LoopLag) -> None:
    """Tell every few seconds how the process is; nobody needs to hear it."""
    instance = f"{socket.gethostname()}:{os.getpid()}"
    version = software_version()
    while True:
        status = ServiceStatus(
            service=process.name,
            instance=instance,
            software_version=version,
            state=process.state,
            in_flight=dispatcher.in_flight,
            device="cpu",
            lag_s=lag.report(),
            reported_at=datetime.now(UTC),
        )
        with contextlib.suppress(BusOutage):
            await publish(bus, process.name, [status])
        await asyncio.sleep(REPORT_S)
