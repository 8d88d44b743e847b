"""What a service is to its host: handlers by queue, an optional web application, and something to close."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client.registry import Collector

from irisdrs.shared.events.event import Event
from irisdrs.shared.references import References
from irisdrs.shared.store.port import Store

#: One event in, events out. A handler never publishes, acknowledges or calls another handler. Its parameter is the
#: one event type under which it is registered, which `Callable` cannot express without `Any`.
Handler = Callable[[Any], Awaitable[Sequence[Event]]]

#: Handlers of one queue, by the type of event.
Handlers = Mapping[type[Event], Handler]


#: Gives the ids of the events that wait for a person, or were discarded by one: nobody tells them again.
Held = Callable[[], Awaitable[Collection[str]]]


async def none_held() -> Collection[str]:
    """No event waits for a person."""
    return ()


@dataclass(frozen=True, slots=True)
class Platform:
    """What a host lends to the services that it runs.

    Attributes
    ----------
    store, references
        The ports.
    data_dir : Path
        Where a service may keep local files of its own (catalogue, caches); exists.
    scratch : Path
        For temporary files; emptied at start; exists.
    threads : Executor
        For heavy work that releases the GIL or is short; bounded to the host's cores.
    held : Held
    """

    store: Store
    references: References
    data_dir: Path
    scratch: Path
    threads: Executor
    held: Held = field(default=none_held)


@dataclass(frozen=True, slots=True)
class Round:
    """Something that a service looks at again and again, and the events that come of it.

    Attributes
    ----------
    name : str
    look : callable
        Gives the events to be told; called once for every round. It may raise `Outage`: the next round tries again.
    every_s : float, optional
        From the beginning of one round to that of the next, seconds. None: only a host that begins with an empty bus
        has it done, once, before anything else.
    first_s : float
        From the start of the service to the first round, seconds.
    """

    name: str
    look: Callable[[], AsyncIterator[Event]]
    every_s: float | None
    first_s: float = 0.0


async def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Service:
    """A composed service.

    Attributes
    ----------
    name : str
        ``readout``, ``calibrate``, ``crds_proxy`` or ``archive``.
    handlers : mapping of queue name to `Handlers`
        Queue names are those of the topology table.
    web : FastAPI, optional
        The service's web application.
    close : coroutine function
        Ends worker processes and connections.
    prepare : coroutine function
        Does beforehand what the first event would wait for: it may be called once, before or beside the first event.
    rounds : tuple of Round
        What it looks at by itself, beside the events that it takes.
    collectors : tuple of Collector
        Figures of its own, for the host's metrics.
    """

    name: str
    handlers: Mapping[str, Handlers]
    web: FastAPI | None = None
    close: Callable[[], Awaitable[None]] = field(default=_nothing)
    prepare: Callable[[], Coroutine[Any, Any, None]] = field(default=_nothing)
    rounds: tuple[Round, ...] = ()
    collectors: tuple[Collector, ...] = ()


#: The entry point `irisdrs.services` of every service: reads its settings, builds its adapters and handlers.
Compose = Callable[[Platform], Service]
