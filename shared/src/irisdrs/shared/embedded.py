"""All services in one process: memory bus, directory store, one web server on loopback.

Services are found through their entry points, so that this module knows none of them. A service that dies is
composed anew, and the bus gives it again what it had not settled.
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import entry_points

import structlog
from fastapi import FastAPI, HTTPException, Request, Response

from irisdrs.shared.adapters import local_references
from irisdrs.shared.bus.dispatch import Dispatcher
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.topology import RECIRCULATE_S, RETRY_DELAYS_S
from irisdrs.shared.data_lock import hold
from irisdrs.shared.dead_letters.office import DeadLetters
from irisdrs.shared.dead_letters.web import dead_letter_routes
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events.envelope import CONTENT_TYPE, MAX_BYTES, decode
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.rounds import do_round, run_rounds
from irisdrs.shared.service import Compose, Platform, Round, Service
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.status import SystemStatus, of_process
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.web_guard import WebGuard
from irisdrs.shared.web_server import serving
from irisdrs.shared.web_together import Together

_log = structlog.get_logger(__name__)

#: Pause before a service that died is composed anew, seconds: long enough not to spin, short against the budget.
RESTART_PAUSE_S = 0.2


@dataclass(slots=True)
class EmbeddedSystem:
    """A running system.

    Attributes
    ----------
    settings, bus, platform
    identity : str
        Of this process as the holder of the data folder.
    webs : list of FastAPI
        Web applications of the services.
    services : dict
        The services as they are composed now, by name.
    restarts : dict
        How often each service has died and was composed anew.
    dispatchers : dict
        The present dispatcher of each service.
    """

    settings: HostSettings
    bus: MemoryBus
    platform: Platform
    identity: str
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S
    recirculate_s: float = RECIRCULATE_S
    webs: list[FastAPI] = field(default_factory=list)
    services: dict[str, Service] = field(default_factory=dict)
    restarts: dict[str, int] = field(default_factory=dict)
    _metrics: Metrics = field(default_factory=Metrics)
    dispatchers: dict[str, Dispatcher] = field(default_factory=dict)

    async def status(self) -> SystemStatus:
        """How the services are, and what lies in the queues."""
        services = {name: (one.ready, one.in_flight) for name, one in self.dispatchers.items()}
        return await of_process(self.bus, services, self.restarts)

    async def begin(self) -> int:
        """Tell what an earlier process left undone: the bus is empty. Gives the number of events.

        Whatever a round meets, the system starts: the periodic rounds tell what this one did not come to.
        """
        told = 0
        for service, one in self._rounds(lambda one: one.every_s is None):
            try:
                told += await do_round(self.bus, service, one, self._metrics)
            except Exception as problem:  # noqa: BLE001 - a system that does not start can tell nothing at all
                _log.error("round failed at the start: the next ones try again", round=one.name, exc_info=problem)
        return told

    async def do_rounds(self, name: str) -> int:
        """Do the rounds of this name now, not when they are due. Gives the number of events that were told."""
        told = 0
        for service, one in self._rounds(lambda one: one.name == name):
            told += await do_round(self.bus, service, one, self._metrics)
        return told

    def _rounds(self, wanted: Callable[[Round], bool]) -> list[tuple[Service, Round]]:
        return [(service, one) for service in self.services.values() for one in service.rounds if wanted(one)]

    async def supervise(self, name: str, compose: Compose, started: asyncio.Event) -> None:
        """Run a service; when it dies, compose it anew."""
        while True:
            service = compose(self.platform)
            if service.web is not None and name not in self.restarts:
                self.webs.append(service.web)
            preparing = None if name in self.restarts else asyncio.create_task(service.prepare())
            self.restarts.setdefault(name, 0)
            started.set()
            dispatcher = Dispatcher(
                self.bus, service, retry_delays_s=self.retry_delays_s, recirculate_s=self.recirculate_s
            )
            self.services[name] = service
            self.dispatchers[name] = dispatcher
            try:
                await self._live(service, dispatcher)
            except asyncio.CancelledError:
                raise
            except BaseException as death:
                if _is_exit(death):
                    raise
                self.restarts[name] += 1
                _log.error("service died, composing it anew", service=name, exc_info=death)
            finally:
                if preparing is not None:
                    (problem,) = await asyncio.gather(preparing, return_exceptions=True)
                    if isinstance(problem, Exception):
                        _log.error("could not prepare for the first event", service=name, exc_info=problem)
                await service.close()
            await asyncio.sleep(RESTART_PAUSE_S)

    async def _live(self, service: Service, dispatcher: Dispatcher) -> None:
        async with asyncio.TaskGroup() as group:
            rounds = group.create_task(run_rounds(self.bus, service, self._metrics))
            await dispatcher.run()
            rounds.cancel()


def _is_exit(death: BaseException) -> bool:
    members = death.exceptions if isinstance(death, BaseExceptionGroup) else (death,)
    return any(
        _is_exit(member)
        if isinstance(member, BaseExceptionGroup)
        else isinstance(member, KeyboardInterrupt | SystemExit)
        for member in members
    )


@contextlib.asynccontextmanager
async def run(
    settings: HostSettings,
    *,
    retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
    recirculate_s: float = RECIRCULATE_S,
) -> AsyncIterator[EmbeddedSystem]:
    """Run all installed services until the context is left.

    What earlier nights are missing is told first, so that nothing that an earlier process left undone is lost.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    scratch = settings.data_dir / "scratch"
    workers = settings.threads or os.cpu_count() or 1
    bus = MemoryBus()
    async with contextlib.AsyncExitStack() as opened:
        identity = opened.enter_context(hold(settings.data_dir))
        threads = opened.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="iris"))
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        store = DirectoryStore(settings.store_dir)
        references = await opened.enter_async_context(local_references(settings, store))
        platform = Platform(
            store=store,
            references=references,
            data_dir=settings.data_dir.resolve(),
            scratch=scratch.resolve(),
            threads=threads,
            held=DeadLetters(bus, store).held,
        )
        system = EmbeddedSystem(settings, bus, platform, identity, retry_delays_s, recirculate_s)
        supervisors = []
        try:
            for entry in sorted(entry_points(group="irisdrs.services"), key=lambda entry: entry.name):
                started = asyncio.Event()
                task = asyncio.create_task(system.supervise(entry.name, entry.load(), started), name=entry.name)
                supervisors.append(task)
                await _first(task, started)
            await system.begin()
            yield system
        finally:
            for task in supervisors:
                task.cancel()
            await asyncio.gather(*supervisors, return_exceptions=True)
            bus.close()


async def _first(task: asyncio.Task[None], started: asyncio.Event) -> None:
    """Wait until a service has started; raise what kept it from starting."""
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        await task


def web_application(system: EmbeddedSystem) -> FastAPI:
    """The services' web applications and the intake of events from other processes on this machine.

    The intake takes structured CloudEvents only: a page of another origin cannot send that content type without
    asking first, and is never allowed to. One that has its own name point here is refused by that name.
    """
    app = FastAPI(title="IRIS DRS", docs_url=None, redoc_url=None, openapi_url=None)
    settings = system.settings
    app.add_middleware(WebGuard, bound_to=settings.archive_host, names=settings.names)

    @app.post("/bus/events", status_code=202)
    async def take_event(request: Request) -> Response:
        if request.headers.get("content-type", "").partition(";")[0] != CONTENT_TYPE:
            raise HTTPException(415, f"Send one CloudEvent as {CONTENT_TYPE}.")
        if int(request.headers.get("content-length", MAX_BYTES + 1)) > MAX_BYTES:
            raise HTTPException(413, f"At most {MAX_BYTES} bytes, with their Content-Length.")
        body = await request.body()
        try:
            _, event = decode(body)
        except BadMessage as error:
            raise HTTPException(422, str(error)) from error
        await system.bus.publish(event.routing_key, body, mandatory=event.mandatory)
        return Response(status_code=202)

    @app.get("/bus/status")
    async def tell_status() -> SystemStatus:
        return await system.status()

    @app.get("/bus/identity")
    async def tell_identity() -> dict[str, str]:
        return {"data": system.identity}

    app.include_router(dead_letter_routes(DeadLetters(system.bus, system.platform.store)))
    app.mount("/", Together(system.webs))
    return app


@contextlib.asynccontextmanager
async def serve_web(system: EmbeddedSystem) -> AsyncIterator[str]:
    """Serve the web application; gives its URL (with the real port where port 0 was asked for)."""
    settings = system.settings
    async with serving(web_application(system), settings.archive_host, settings.archive_port) as url:
        yield url
