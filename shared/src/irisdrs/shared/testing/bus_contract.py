"""What every bus does: subclass, give a `bus` fixture, and run."""

import asyncio
import re
from typing import Any

import pytest

from irisdrs.shared.bus.port import Bus, Busy, ParkingReason, Unroutable
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

    async def test_a_parked_message_has_an_id_of_its_own_that_stays(self, bus: Bus) -> None:
        await bus.publish(READ, b"bad", mandatory=True)
        for queue in (IMG1, BOTH):
            await self.park(bus, queue)
        (one,), (other,) = await bus.parked(IMG1), await bus.parked(BOTH)
        assert one.id != other.id
        assert re.fullmatch("[0-9a-f]{12}", one.id)
        assert [parked.id for parked in await bus.parked(IMG1)] == [one.id]

    async def test_looking_changes_nothing_and_keeps_the_order(self, bus: Bus) -> None:
        bodies = await self.park_many(bus, 300)
        for _ in range(3):
            assert [parked.body for parked in await bus.parked(IMG1)] == bodies

    async def test_a_redriven_message_goes_to_its_queue_alone_as_a_first_attempt(self, bus: Bus) -> None:
        await bus.publish(READ, b"bad", mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            await (await next_of(deliveries)).defer(0.01, 3)
            await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated"))
        async with bus.consume(BOTH) as deliveries:
            await (await next_of(deliveries)).ack()
        async with bus.parking(IMG1) as parking:
            (parked,) = parking.messages
            assert (parked.attempts, parked.redriven_by) == (3, "")
            await parking.redrive([parked.id], "ada")
            assert parking.messages == []
        assert await bus.parked(IMG1) == []
        async with bus.consume(BOTH) as deliveries:
            await bus.publish(READ, b"next", mandatory=True)
            assert (await next_of(deliveries)).body == b"next"
        async with bus.consume(IMG1) as deliveries:
            again = await next_of(deliveries)
            assert (again.body, again.attempt) == (b"bad", 1)
            await again.defer(0.01, 2)
            assert (await next_of(deliveries)).body == b"next"
            await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated"))
        (once_more,) = await bus.parked(IMG1)
        assert (once_more.attempts, once_more.redriven_by) == (2, "ada")
        assert once_more.id != parked.id

    async def test_discards_what_is_named_and_leaves_the_others_in_order(self, bus: Bus) -> None:
        bodies = await self.park_many(bus, 7)
        async with bus.parking(IMG1) as parking:
            await parking.discard([parked.id for parked in parking.messages[1::2]])
            assert [parked.body for parked in parking.messages] == bodies[::2]
        assert [parked.body for parked in await bus.parked(IMG1)] == bodies[::2]

    async def test_redrives_many_in_their_order_and_leaves_the_others(self, bus: Bus) -> None:
        bodies = await self.park_many(bus, 500)
        async with bus.parking(IMG1) as parking:
            await parking.redrive([parked.id for parked in parking.messages if not parked.body.endswith(b"7")], "ada")
        assert [parked.body for parked in await bus.parked(IMG1)] == [body for body in bodies if body.endswith(b"7")]
        async with bus.consume(IMG1) as deliveries:
            for body in bodies:
                if not body.endswith(b"7"):
                    delivery = await next_of(deliveries)
                    assert delivery.body == body
                    await delivery.ack()

    async def test_two_who_look_wait_for_each_other(self, bus: Bus) -> None:
        bodies = await self.park_many(bus, 50)
        looks = await asyncio.gather(*(bus.parked(IMG1) for _ in range(4)))
        assert [[parked.body for parked in look] for look in looks] == [bodies] * 4

    async def test_who_waits_too_long_for_another_one_is_told(self, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in ("memory", "rabbitmq", "parking"):
            monkeypatch.setattr(f"irisdrs.shared.bus.{module}.LOOK_WAIT_S", 0.3)
        async with bus.parking(IMG1):
            with pytest.raises(Busy, match=r"iris\.q\.readout\.IMG1"):
                await bus.parked(IMG1)
            assert await bus.parked(BOTH) == []
        assert await bus.parked(IMG1) == []

    async def test_what_is_parked_meanwhile_comes_last(self, bus: Bus) -> None:
        bodies = await self.park_many(bus, 3)
        async with bus.parking(IMG1) as parking:
            await self.park_many(bus, 2, "later")
            assert [parked.body for parked in parking.messages][:3] == bodies
        assert [parked.body for parked in await bus.parked(IMG1)] == [*bodies, b"later-0", b"later-1"]

    async def park(self, bus: Bus, queue: Queue) -> None:
        """Park the next message of a queue."""
        async with bus.consume(queue) as deliveries:
            await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated", "trace"))

    async def park_many(self, bus: Bus, number: int, name: str = "bad") -> list[bytes]:
        """Park so many messages of one queue; gives their bodies."""
        bodies = [f"{name}-{n}".encode() for n in range(number)]
        await asyncio.gather(*(bus.publish(READ, body, mandatory=True) for body in bodies))
        async with bus.consume(IMG1) as deliveries:
            for _ in bodies:
                await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated", "trace"))
        return bodies

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
