"""What every bus does: subclass, give a `bus` fixture, and run."""

import asyncio
from typing import Any

import pytest

from irisdrs.shared.bus.port import Bus, ParkingReason, Unroutable
from irisdrs.shared.bus.topology import ARCHIVE, QUEUES, Queue, readout_queue
from irisdrs.shared.identifiers import Detector

IMG1 = next(queue for queue in QUEUES if queue.name == readout_queue(Detector.IMG1))
BOTH = next(queue for queue in QUEUES if queue.name == ARCHIVE)
NARROW = next(queue for queue in QUEUES if queue.prefetch == 1)
#: The rows of the table that the contract needs: a bus with these alone is enough.
USED = (IMG1, BOTH, NARROW)
READ = "iris.readout.read.written.IMG1"

#: Longest wait for what must happen at once, seconds: generous, only a failure waits that long.
SOON_S = 20.0


async def next_of(messages: Any) -> Any:
    """The next message, or a failure."""
    return await asyncio.wait_for(anext(messages), SOON_S)


class BusContract:
    """Contract of `irisdrs.shared.bus.port.Bus`."""

    async def test_every_queue_that_takes_a_key_gets_the_message(self, bus: Bus) -> None:
        await bus.publish(READ, b"read", mandatory=True)
        for queue in (IMG1, BOTH):
            async with bus.consume(queue) as deliveries:
                delivery = await next_of(deliveries)
                assert (delivery.body, delivery.attempt) == (b"read", 1)
                await delivery.ack()

    async def test_a_mandatory_message_that_nobody_takes_is_returned(self, bus: Bus) -> None:
        with pytest.raises(Unroutable):
            await bus.publish("iris.nobody.takes.this", b"", mandatory=True)
        await bus.publish("iris.nobody.takes.this", b"", mandatory=False)

    async def test_keeps_the_order_of_publication(self, bus: Bus) -> None:
        for n in range(20):
            await bus.publish(READ, str(n).encode(), mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            got = [(await next_of(deliveries)).body for _ in range(20)]
        assert got == [str(n).encode() for n in range(20)]

    async def test_returns_what_a_lost_consumer_held(self, bus: Bus) -> None:
        for body in (b"1", b"2", b"3"):
            await bus.publish(READ, body, mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            first = await next_of(deliveries)
            await next_of(deliveries)
            await first.ack()
        async with bus.consume(IMG1) as deliveries:
            again = [await next_of(deliveries) for _ in range(2)]
            assert [delivery.body for delivery in again] == [b"2", b"3"]
            assert [delivery.attempt for delivery in again] == [1, 1]  # a crash uses up no attempt

    async def test_parks_what_crashes_every_consumer(self, bus: Bus) -> None:
        await bus.publish(READ, b"poison", mandatory=True)
        limited = BOTH
        for _ in range(limited.delivery_limit):
            async with bus.consume(limited) as deliveries:
                assert (await next_of(deliveries)).body == b"poison"
        await bus.publish(READ, b"good", mandatory=True)
        async with bus.consume(limited) as deliveries:
            assert (await next_of(deliveries)).body == b"good"
        assert [parked.reason.error_class for parked in await bus.parked(limited)] == ["crash-loop"]

    async def test_holds_no_more_than_prefetch(self, bus: Bus) -> None:
        key = NARROW.binding_keys()[0].replace("*", "IMG1")
        for body in (b"1", b"2"):
            await bus.publish(key, body, mandatory=True)
        async with bus.consume(NARROW) as deliveries:
            first = await next_of(deliveries)
            waiting = asyncio.ensure_future(anext(deliveries))
            await asyncio.sleep(0.05)
            assert not waiting.done()
            await first.ack()
            assert (await asyncio.wait_for(waiting, SOON_S)).body == b"2"

    async def test_defers_as_another_attempt(self, bus: Bus) -> None:
        await bus.publish(READ, b"later", mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            await (await next_of(deliveries)).defer(0.01, 2)
            again = await next_of(deliveries)
            assert (again.body, again.attempt) == (b"later", 2)
            await again.ack()

    async def test_parks_with_the_reason(self, bus: Bus) -> None:
        await bus.publish(READ, b"bad", mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated", "trace"))
        (parked,) = await bus.parked(IMG1)
        assert (parked.body, parked.attempts, parked.reason.message) == (b"bad", 1, "truncated")
        assert await bus.parked(BOTH) == []

    async def test_one_consumer_is_active_at_a_time(self, bus: Bus) -> None:
        assert IMG1.single_active
        async with bus.consume(IMG1) as first:
            standing_by = asyncio.ensure_future(self._take_one(bus, IMG1))
            await bus.publish(READ, b"1", mandatory=True)
            await (await next_of(first)).ack()
            await bus.publish(READ, b"2", mandatory=True)
            await asyncio.sleep(0.05)
            assert not standing_by.done()
        assert await asyncio.wait_for(standing_by, SOON_S) == b"2"

    async def test_broadcasts_reach_every_listener(self, bus: Bus) -> None:
        async with bus.listen("iris.readout.#") as one, bus.listen("iris.*.read.written.*") as two:
            await bus.publish(READ, b"read", mandatory=True)
            assert await next_of(one) == b"read"
            assert await next_of(two) == b"read"

    async def _take_one(self, bus: Bus, queue: Queue) -> bytes:
        async with bus.consume(queue) as deliveries:
            delivery = await anext(deliveries)
            await delivery.ack()
            body: bytes = delivery.body
            return body
