"""How a running system is, in one process and at a broker."""

import asyncio
from datetime import UTC, datetime

from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.port import ParkingReason
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import ARCHIVE, QUEUES
from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.events import ObservationStarted, ServiceStatus
from irisdrs.shared.status import QueueState, ServiceState, SystemStatus, of_broker, of_process

QUEUE = next(queue for queue in QUEUES if queue.name == ARCHIVE)
STARTED = next(event for event in EXAMPLES if isinstance(event, ObservationStarted))


def report(instance: str, state: str = "ready") -> ServiceStatus:
    facts = {"service": "archive", "instance": instance, "software_version": "0", "state": state, "in_flight": 2}
    return ServiceStatus.model_validate(facts | {"device": "cpu", "lag_s": 0.003, "reported_at": datetime.now(UTC)})


async def test_processes_are_heard_and_queues_counted(amqp_url: str) -> None:
    bus = RabbitMQBus(amqp_url, queues=(QUEUE,))
    await bus.open()
    try:
        await publish(bus, "edge", [STARTED, STARTED])
        async with bus.consume(QUEUE) as deliveries:
            await (await anext(deliveries)).park(ParkingReason("CorruptObject", "truncated"))
        told = asyncio.create_task(_tell_until_cancelled(bus))
        status = await of_broker(bus, 2.0, (QUEUE,))
        told.cancel()
    finally:
        await bus.close()
    assert [(one.instance, one.state, one.in_flight) for one in status.services] == [
        ("a:1", "ready", 2),
        ("b:2", "outage", 2),
    ]
    (queue,) = status.queues
    assert (queue.parked, queue.consumers) == (1, 0)
    assert status.problems()[0] == "archive is not ready (outage)"
    assert "1 parked in iris.q.archive" in status.problems()[1]


async def _tell_until_cancelled(bus: RabbitMQBus) -> None:
    while True:
        await publish(bus, "archive", [report("a:1"), report("b:2", "outage")])
        await asyncio.sleep(0.05)


async def test_one_process_knows_its_services() -> None:
    bus = MemoryBus()
    await publish(bus, "edge", [STARTED])
    status = await of_process(bus, {"readout": (True, 1), "archive": (False, 0)}, {"readout": 3})
    assert [(one.service, one.state, one.in_flight, one.restarts) for one in status.services] == [
        ("archive", "outage", 0, 0),
        ("readout", "ready", 1, 3),
    ]
    assert next(one for one in status.queues if one.queue == ARCHIVE).waiting == 1
    assert {one.queue for one in status.queues} == {queue.name for queue in QUEUES}
    bus.close()


def test_what_somebody_should_look_at() -> None:
    ready = ServiceState(service="archive", state="ready", in_flight=0)
    assert SystemStatus(services=[ready], queues=[QueueState(queue="q", waiting=3, parked=0)]).problems() == []
    silent = SystemStatus(services=[], queues=[QueueState(queue="q", waiting=3, parked=0, consumers=0)])
    assert silent.problems() == ["no service has told how it is", "3 wait in q, which nobody consumes"]
