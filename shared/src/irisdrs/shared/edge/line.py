"""The line from the edge to the system: RabbitMQ and the store that the settings name, or `iris up` on this machine."""

import contextlib
import math
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from irisdrs.shared.adapters import open_bus, open_store
from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.intake import EventIntake
from irisdrs.shared.edge.drain import Tell
from irisdrs.shared.events.event import Event
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import Store


@dataclass(frozen=True, slots=True)
class Line:
    """Where the edge puts and tells.

    Attributes
    ----------
    store : Store
    tell : Tell
    where : str
        For people.
    """

    store: Store
    tell: Tell
    where: str


@contextlib.asynccontextmanager
async def open_line(settings: HostSettings, url: str, patience_s: float = math.inf) -> AsyncIterator[Line]:
    """Open the line: over RabbitMQ where ``IRIS_AMQP_URL`` is set, else to `iris up` at a URL.

    Raises
    ------
    Outage
        If a server stays away for longer than `patience_s`.
    Fatal
        If a server refuses us, or something is not set.
    """
    if settings.amqp_url is None:
        intake = EventIntake(url, "edge")
        try:
            yield Line(DirectoryStore(settings.store_dir), intake.tell_now, url)
        finally:
            await intake.close()
        return
    with tempfile.TemporaryDirectory(prefix="iris-edge-") as scratch:
        async with (
            open_store(settings, Path(scratch), patience_s) as store,
            open_bus(settings, "edge", patience_s) as bus,
        ):

            async def tell(events: Sequence[Event]) -> None:
                await publish(bus, "edge", events)

            yield Line(store, tell, "RabbitMQ")
