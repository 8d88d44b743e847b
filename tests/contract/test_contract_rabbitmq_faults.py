"""The RabbitMQ bus over a line that is cut, half-open or slow, and on a cluster that loses a node: nothing is lost."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from irisdrs.shared.bus import line
from irisdrs.shared.bus.port import BusOutage
from irisdrs.shared.bus.publisher import CONFIRM_S
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.testing.bus_contract import IMG1, READ, SOON_S, USED, next_of
from irisdrs.shared.testing.servers.cluster import RabbitMQCluster
from irisdrs.shared.testing.servers.proxy import TcpProxy
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode


@pytest.fixture
def proxy(rabbitmq: RabbitMQNode) -> Iterator[TcpProxy]:
    with TcpProxy([rabbitmq.port]) as proxy:
        yield proxy


@pytest.fixture
async def bus(proxy: TcpProxy, rabbitmq: RabbitMQNode, amqp_url: str) -> AsyncIterator[RabbitMQBus]:
    """A bus that reaches the broker through the proxy."""
    bus = RabbitMQBus(rabbitmq.url(amqp_url.rpartition("/")[2], proxy.port), queues=USED)
    await bus.open()
    yield bus
    proxy.heal()
    await bus.close()


class Publisher:
    """Publishes numbers one after another, each until it is confirmed, and knows which were."""

    def __init__(self, bus: RabbitMQBus) -> None:
        self.bus = bus
        self.confirmed: list[bytes] = []
        self.outages = 0
        self._task = asyncio.create_task(self._publish())

    async def until(self, count: int) -> None:
        """Wait until so many more are confirmed."""
        wanted = len(self.confirmed) + count
        async with asyncio.timeout(4 * SOON_S):
            while len(self.confirmed) < wanted:
                assert not self._task.done()
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _publish(self) -> None:
        for number in itertools.count():
            body = str(number).encode()
            while body not in self.confirmed[-1:]:
                try:
                    await self.bus.publish(READ, body, mandatory=True)
                    self.confirmed.append(body)
                except BusOutage:
                    self.outages += 1
                    await asyncio.sleep(0.05)


async def drained(bus: RabbitMQBus, wanted: set[bytes]) -> set[bytes]:
    """Take from the queue until everything wanted was there."""
    got: set[bytes] = set()
    async with bus.consume(IMG1) as deliveries:
        while wanted - got:
            delivery = await next_of(deliveries)
            got.add(delivery.body)
            await delivery.ack()
    return got


async def test_a_line_that_is_cut_again_and_again_loses_nothing(bus: RabbitMQBus, proxy: TcpProxy) -> None:
    publisher = Publisher(bus)
    for _ in range(5):
        await publisher.until(20)
        await asyncio.to_thread(proxy.cut)
    await publisher.until(20)
    await publisher.stop()
    assert publisher.outages >= 1
    assert proxy.accepted >= 6
    await drained(bus, set(publisher.confirmed))


async def test_a_consumer_on_a_line_that_is_cut_gets_again_what_it_held(bus: RabbitMQBus, proxy: TcpProxy) -> None:
    await bus.publish(READ, b"1", mandatory=True)
    async with bus.consume(IMG1) as deliveries:
        held = await next_of(deliveries)
        await asyncio.to_thread(proxy.cut)
        with pytest.raises(BusOutage, match="cut off"):
            await next_of(deliveries)
        assert held.lost
    assert await drained(bus, {b"1"}) == {b"1"}


async def test_a_broker_that_takes_no_connections_is_away_until_it_does(bus: RabbitMQBus, proxy: TcpProxy) -> None:
    await asyncio.to_thread(proxy.refuse)
    await asyncio.to_thread(proxy.cut)
    with pytest.raises(BusOutage, match="does not answer"):
        await bus.publish(READ, b"1", mandatory=True)
    await asyncio.to_thread(proxy.heal)
    await bus.publish(READ, b"1", mandatory=True)


async def test_heartbeats_find_a_line_that_is_half_open(
    monkeypatch: pytest.MonkeyPatch, proxy: TcpProxy, rabbitmq: RabbitMQNode, amqp_url: str
) -> None:
    monkeypatch.setattr(line, "HEARTBEAT_S", 1)
    bus = RabbitMQBus(rabbitmq.url(amqp_url.rpartition("/")[2], proxy.port), queues=USED)
    await bus.publish(READ, b"1", mandatory=True)
    async with bus.consume(IMG1) as deliveries:
        assert (await next_of(deliveries)).body == b"1"
        proxy.half_open()
        publishing = asyncio.create_task(bus.publish(READ, b"2", mandatory=True))
        with pytest.raises(BusOutage, match="cut off"):
            await next_of(deliveries)
        with pytest.raises(BusOutage, match="does not answer"):
            await asyncio.wait_for(publishing, SOON_S)
    assert proxy.swallowed > 0
    await asyncio.to_thread(proxy.heal)
    async with bus.consume(IMG1):
        proxy.half_open()  # and so the channel cannot be closed in order
    await asyncio.to_thread(proxy.heal)
    await bus.publish(READ, b"3", mandatory=True)
    await drained(bus, {b"1", b"3"})
    proxy.half_open()
    await asyncio.wait_for(bus.close(), 2 * SOON_S)


async def test_a_slow_line_is_slow_and_no_outage(bus: RabbitMQBus, proxy: TcpProxy) -> None:
    proxy.delay(0.3)
    publisher = Publisher(bus)
    await publisher.until(3)
    proxy.delay(0.0)
    proxy.throttle(5_000)
    await bus.publish(READ, b"x" * 20_000, mandatory=True)
    await publisher.until(3)
    await asyncio.to_thread(proxy.heal)
    await publisher.stop()
    assert publisher.outages == 0
    assert proxy.accepted == 1
    await drained(bus, {*publisher.confirmed, b"x" * 20_000})


@pytest.mark.chaos
@pytest.mark.timeout(400)  # a cluster starts, and loses and regains a node
async def test_a_cluster_that_loses_its_leader_loses_nothing(cluster: RabbitMQCluster) -> None:
    vhost = "leader"
    await asyncio.to_thread(cluster.add_vhost, vhost)
    with TcpProxy(cluster.ports) as proxy:
        bus = RabbitMQBus(cluster.url(vhost, proxy.port), queues=USED)
        publisher = Publisher(bus)
        await publisher.until(20)
        replicas = await asyncio.to_thread(cluster.replicas, vhost)
        assert {len(nodes) for nodes in replicas.values()} == {3}  # of the queue, its retry stages, its parking
        leader = await asyncio.to_thread(cluster.leader, IMG1.name, vhost)
        assert leader is not None
        await asyncio.to_thread(cluster.kill, leader)
        killed_s = time.monotonic()
        await publisher.until(20)
        assert time.monotonic() - killed_s < CONFIRM_S  # a channel that stays refused is not waited for
        another = await asyncio.to_thread(cluster.leader, IMG1.name, vhost)
        assert another is not None
        assert another is not leader
        await asyncio.to_thread(cluster.restart, leader)
        await asyncio.to_thread(cluster.wait_until, lambda: cluster.in_sync(vhost))
        await publisher.until(20)
        await publisher.stop()
        await drained(bus, set(publisher.confirmed))
        await bus.close()
