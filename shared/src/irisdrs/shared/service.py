"""What a service is to its host: handlers by queue, an optional web application, and something to close."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from irisdrs.shared.events.event import Event
from irisdrs.shared.references import References
from irisdrs.shared.store.port import Store

#: One event in, events out. A handler never publishes, acknowledges or calls another handler. Its parameter is the
#: one event type under which it is registered, which `Callable` cannot express without `Any`.
Handler = Callable[[Any], Awaitable[Sequence[Event]]]

#: Handlers of one queue, by the type of event.
Handlers = Mapping[type[Event], Handler]


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
    """

    store: Store
    references: References
    data_dir: Path
    scratch: Path
    threads: Executor


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
    """

    name: str
    handlers: Mapping[str, Handlers]
    web: FastAPI | None = None
    close: Callable[[], Awaitable[None]] = field(default=_nothing)
    prepare: Callable[[], Coroutine[Any, Any, None]] = field(default=_nothing)


#: The entry point `irisdrs.services` of every service: reads its settings, builds its adapters and handlers.
Compose = Callable[[Platform], Service]
