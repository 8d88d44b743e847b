"""How a running system is: its services, what waits in its queues, what is parked."""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, Field

from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import QUEUES, Queue
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events import ServiceStatus, decode


class ServiceState(BaseModel):
    """One service, or one process of it."""

    service: str
    state: str = Field(description="starting, ready, outage or stopping")
    in_flight: int = Field(description="Events in handlers")
    restarts: int | None = Field(
        description="How often it died and was started anew; None where nobody counts", default=None
    )
    lag_s: float | None = Field(description="Worst delay of its event loop in the last 5 s, seconds", default=None)
    instance: str | None = Field(description="Host and process id", default=None)


class QueueState(BaseModel):
    """One queue."""

    queue: str
    waiting: int = Field(description="Messages that wait; in one process also those in handlers")
    parked: int = Field(description="Messages that wait for a person")
    consumers: int | None = Field(description="Processes that consume it; None in one process", default=None)


class SystemStatus(BaseModel):
    """The whole system."""

    services: list[ServiceState]
    queues: list[QueueState]

    def problems(self) -> list[str]:
        """What somebody should look at, one line each."""
        found = [f"{one.service} is not ready ({one.state})" for one in self.services if one.state != "ready"]
        if not self.services:
            found.append("no service has told how it is")
        for one in self.queues:
            if one.parked:
                found.append(f"{one.parked} parked in {one.queue}: iris dead-letters list")
            if one.waiting and one.consumers == 0:
                found.append(f"{one.waiting} wait in {one.queue}, which nobody consumes")
        return found


async def of_broker(bus: RabbitMQBus, listen_s: float, queues: Iterable[Queue] = QUEUES) -> SystemStatus:
    """What the processes at a broker tell while one listens, and what lies in its queues.

    Parameters
    ----------
    bus : RabbitMQBus
    listen_s : float
        How long to listen, seconds; each process tells every 5 s how it is.
    queues : iterable of Queue, optional

    Raises
    ------
    BusOutage
        If the broker is away.
    """
    heard: dict[str, ServiceState] = {}
    async with bus.listen(ServiceStatus.topic()) as messages:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(listen_s):
                async for message in messages:
                    _hear(message, heard)
    states = []
    for queue in queues:
        waiting, consumers = await bus.depth(queue.name)
        parked, _ = await bus.depth(queue.parking)
        states.append(QueueState(queue=queue.name, waiting=waiting, parked=parked, consumers=consumers))
    return SystemStatus(services=sorted(heard.values(), key=lambda one: (one.service, one.instance)), queues=states)


def _hear(message: bytes, heard: dict[str, ServiceState]) -> None:
    with contextlib.suppress(BadMessage):  # a process of a later major version
        _, event = decode(message)
        if isinstance(event, ServiceStatus):
            heard[event.instance] = ServiceState(
                service=event.service,
                state=event.state,
                in_flight=event.in_flight,
                lag_s=event.lag_s,
                instance=event.instance,
            )


async def of_process(
    bus: MemoryBus, services: Mapping[str, tuple[bool, int]], restarts: Mapping[str, int]
) -> SystemStatus:
    """All services of one process.

    Parameters
    ----------
    bus : MemoryBus
    services : mapping of service to (whether it is ready, events in its handlers)
    restarts : mapping of service to int
    """
    depths = bus.depths()
    return SystemStatus(
        services=[
            ServiceState(
                service=name,
                state="ready" if ready else "outage",
                in_flight=in_flight,
                restarts=restarts.get(name, 0),
            )
            for name, (ready, in_flight) in sorted(services.items())
        ],
        queues=[
            QueueState(queue=queue.name, waiting=depths[queue.name], parked=len(await bus.parked(queue)))
            for queue in QUEUES
            if queue.name in depths
        ],
    )
