"""The RabbitMQ bus keeps the bus's contract, and some promises of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from irisdrs.shared.bus.declarations import declared_queues, definitions
from irisdrs.shared.bus.port import BusOutage, Busy, TopologyConflict, Unroutable
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import EVENTS, QUEUES, exchange_of
from irisdrs.shared.errors import Fatal
from irisdrs.shared.testing.bus_contract import IMG1, READ, USED, BusContract, next_of
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode


@pytest.fixture
async def bus(amqp_url: str) -> AsyncIterator[RabbitMQBus]:
    bus = RabbitMQBus(amqp_url, queues=USED)
    await bus.open()
    yield bus
    await bus.close()


class TestRabbitMQBus(BusContract):
    pass


async def test_what_was_confirmed_and_not_settled_survives_a_power_cut(
    bus: RabbitMQBus, rabbitmq: RabbitMQNode
) -> None:
    await bus.publish(READ, b"1", mandatory=True)
    async with bus.listen("iris.#") as heard, bus.consume(IMG1) as deliveries:
        held = await next_of(deliveries)
        await asyncio.to_thread(rabbitmq.kill)
        with pytest.raises(BusOutage, match="cut off"):
            await next_of(deliveries)
        assert held.lost
        with pytest.raises(BusOutage):
            await held.ack()
        with pytest.raises(BusOutage, match="does not answer"):
            await bus.publish(READ, b"2", mandatory=True)
        await asyncio.to_thread(rabbitmq.start)
        await _until_it_answers(bus)
        told = asyncio.create_task(_tell_until_heard(bus))
        assert await next_of(heard) == b"2"  # the listener has come back by itself
        told.cancel()
    async with bus.consume(IMG1) as deliveries:
        again = await next_of(deliveries)
        assert again.body == b"1"
        await again.ack()


async def test_a_consumer_whose_queue_is_deleted_says_so(bus: RabbitMQBus) -> None:
    async with bus.consume(IMG1) as deliveries:
        channel = await bus._in.channel()
        await channel.queue_delete(IMG1.name)
        with pytest.raises(BusOutage, match="cut off"):
            await next_of(deliveries)
    async with bus.consume(IMG1) as deliveries:  # which declares it anew
        await bus.publish(READ, b"1", mandatory=True)
        assert (await next_of(deliveries)).body == b"1"


async def test_what_cannot_be_redriven_stays_parked(bus: RabbitMQBus) -> None:
    contract = BusContract()
    bodies = await contract.park_many(bus, 3)
    async with bus.parking(IMG1) as parking:
        channel = await bus._in.channel()
        await channel.queue_delete(IMG1.name)
        with pytest.raises(Unroutable, match=r"iris\.q\.readout\.IMG1 is not there.*re-drive again"):
            await parking.redrive([parked.id for parked in parking.messages], "ada")
        assert [parked.body for parked in parking.messages] == bodies
    async with bus.parking(IMG1) as parking:  # which has declared the queue anew
        assert [parked.body for parked in parking.messages] == bodies
        await parking.redrive([parked.id for parked in parking.messages], "ada")
    async with bus.consume(IMG1) as deliveries:
        assert [(await next_of(deliveries)).body for _ in bodies] == bodies


async def test_two_processes_that_look_wait_for_each_other(bus: RabbitMQBus, amqp_url: str) -> None:
    other = RabbitMQBus(amqp_url, queues=USED)
    bodies = await BusContract().park_many(bus, 50)
    try:
        looks = await asyncio.gather(*(one.parked(IMG1) for one in (bus, other) * 2))
        assert [[parked.body for parked in look] for look in looks] == [bodies] * 4
    finally:
        await other.close()


async def test_who_waits_too_long_for_another_process_is_told(
    bus: RabbitMQBus, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irisdrs.shared.bus.parking.LOOK_WAIT_S", 0.3)
    other = RabbitMQBus(amqp_url, "other", queues=USED)
    try:
        async with bus.parking(IMG1):
            with pytest.raises(Busy, match=r"'other' has waited.*iris\.q\.readout\.IMG1"):
                await other.parked(IMG1)
    finally:
        await other.close()


async def test_the_watchdog_makes_bindings_again_that_somebody_has_removed(bus: RabbitMQBus) -> None:
    async with bus.consume(IMG1) as deliveries:
        channel = await bus._in.channel()
        queue = await channel.get_queue(IMG1.name, ensure=False)
        for key in IMG1.binding_keys():
            await queue.unbind(exchange_of(key), key)
        assert await bus.stalled() is None
        await bus.publish(READ, b"1", mandatory=True)
        assert (await next_of(deliveries)).body == b"1"


async def test_a_publisher_recovers_when_a_queue_that_was_full_takes_messages_again(
    bus: RabbitMQBus, rabbitmq: RabbitMQNode, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    vhost = amqp_url.rpartition("/")[2]
    monkeypatch.setattr("irisdrs.shared.bus.publisher.CONFIRM_S", 1.0)  # give up soon
    await asyncio.to_thread(
        rabbitmq.control, "set_policy", "--vhost", vhost, "full", r"^iris\.q\.archive$", '{"max-length":3}'
    )
    with pytest.raises(BusOutage, match="does not take"):
        for _ in range(50):
            await bus.publish(READ, b"much", mandatory=True)
    await asyncio.to_thread(rabbitmq.control, "clear_policy", "--vhost", vhost, "full")

    async def until_taken() -> None:
        while True:
            try:
                return await bus.publish(READ, b"1", mandatory=True)
            except BusOutage:
                await asyncio.sleep(0.1)

    await asyncio.wait_for(until_taken(), 60.0)


async def test_what_the_broker_refuses_is_sent_again(bus: RabbitMQBus) -> None:
    channel = await bus._in.channel()
    arguments: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    full = await channel.declare_queue("full", durable=True, arguments=arguments)
    await full.bind(EVENTS, "iris.full")
    await bus.publish("iris.full", b"1", mandatory=True)
    waiting = asyncio.create_task(bus.publish("iris.full", b"2", mandatory=True))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.5)
    await full.purge()
    await asyncio.wait_for(waiting, 20.0)
    message = await full.get(no_ack=True)
    assert message is not None
    assert message.body == b"2"


async def test_wrong_credentials_say_what_to_set(rabbitmq: RabbitMQNode) -> None:
    wrong = rabbitmq.url().replace(rabbitmq.password, "guess")
    with pytest.raises(Fatal, match=r"refuses the user 'iris'.*IRIS_AMQP_URL"):
        await RabbitMQBus(wrong).open()


async def test_a_virtual_host_that_is_not_there_is_named(rabbitmq: RabbitMQNode) -> None:
    with pytest.raises(Fatal, match=r"'nowhere'.*Make the virtual host"):
        await RabbitMQBus(rabbitmq.url("nowhere")).open()


async def test_a_user_without_rights_is_told_which(rabbitmq: RabbitMQNode, amqp_url: str) -> None:
    vhost = amqp_url.rpartition("/")[2]
    rabbitmq.control("set_permissions", "--vhost", vhost, rabbitmq.user, "^$", ".*", ".*")
    with pytest.raises(Fatal, match="too few rights"):
        await RabbitMQBus(amqp_url).open()


async def test_an_absent_broker_is_an_outage(unused_tcp_port: int) -> None:
    with pytest.raises(BusOutage, match=r"does not answer.*IRIS_AMQP_URL"):
        await RabbitMQBus(f"amqp://iris:iris@127.0.0.1:{unused_tcp_port}/").open()


async def test_a_broker_with_another_topology_is_reported(amqp_url: str) -> None:
    wide = USED[0].__class__(**{**{name: getattr(IMG1, name) for name in IMG1.__slots__}, "single_active": False})
    before = RabbitMQBus(amqp_url, queues=(wide,))
    await before.open()
    await before.close()
    with pytest.raises(TopologyConflict, match=r"x-single-active-consumer.*iris topology"):
        await RabbitMQBus(amqp_url, queues=USED).open()


async def test_definitions_are_what_the_bus_declares(rabbitmq: RabbitMQNode, tmp_path: Path, amqp_url: str) -> None:
    vhost = amqp_url.rpartition("/")[2]
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(definitions(vhost)), encoding="utf-8")
    rabbitmq.control("import_definitions", str(file))
    bus = RabbitMQBus(amqp_url)
    await bus.open()  # would be a conflict if a queue differed
    await bus.close()
    names = set(rabbitmq.control("list_queues", "--vhost", vhost, "--no-table-headers", "name").split())
    assert names == {one.name for queue in QUEUES for one in declared_queues(queue)}


async def test_the_watchdog_sees_a_subscription_that_the_broker_has_forgotten(bus: RabbitMQBus) -> None:
    async with bus.consume(IMG1):
        assert await bus.stalled() is None
        (consumer,) = bus._subscriptions
        await consumer._channel.close()
        await bus.stalled()
        assert "lists no consumer" in str(await bus.stalled())


@retry(retry=retry_if_exception_type(BusOutage), wait=wait_fixed(0.2), stop=stop_after_delay(60), reraise=True)
async def _until_it_answers(bus: RabbitMQBus) -> None:
    await bus.depth(IMG1.name)


async def _tell_until_heard(bus: RabbitMQBus) -> None:
    while True:
        await bus.publish(READ, b"2", mandatory=True)
        await asyncio.sleep(0.1)


async def test_the_age_of_a_delivery_counts_from_its_arrival(bus: RabbitMQBus) -> None:
    for body in (b"1", b"2"):
        await bus.publish(READ, body, mandatory=True)
    async with bus.consume(IMG1) as deliveries:
        first = await next_of(deliveries)
        (consumer,) = bus._subscriptions
        while consumer.in_flight < 2:  # until the second one waits here, too
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        second = await next_of(deliveries)
        assert second.age_s >= 0.3
        assert first.age_s >= second.age_s
