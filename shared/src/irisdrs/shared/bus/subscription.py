"""A subscription to a queue on RabbitMQ, and its deliveries."""

import asyncio
import time
from dataclasses import dataclass, field

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from irisdrs.shared.bus import messages
from irisdrs.shared.bus.declarations import DEFAULT_EXCHANGE
from irisdrs.shared.bus.line import ANSWER_S, Line
from irisdrs.shared.bus.port import BusOutage, ParkingReason
from irisdrs.shared.bus.publisher import Publisher
from irisdrs.shared.bus.topology import PARKING, Queue

#: Messages ready for a consumer with room and none delivered: after this time something is wrong, seconds.
STALL_S = 60.0


class Subscription:
    """A subscription: an iterator over deliveries that says when it has been cut off."""

    def __init__(self, line: Line, publisher: Publisher, queue: Queue, channel: AbstractChannel) -> None:
        self.line, self.publisher, self.queue, self._channel = line, publisher, queue, channel
        self._inbox: asyncio.Queue[_RabbitMQDelivery | None] = asyncio.Queue()
        self.cut = False
        self.in_flight = 0
        self._ever = False
        self._last_s = time.monotonic()
        self._unlisted = 0

    async def start(self) -> None:
        """Subscribe."""
        await self._channel.set_qos(prefetch_count=self.queue.prefetch, timeout=ANSWER_S)
        self._channel.close_callbacks.add(lambda *_: self._cut_off())
        underlay = await self._channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self._cut_off())
        queue = await self._channel.get_queue(self.queue.name, ensure=False)
        await queue.consume(self._take, timeout=ANSWER_S)

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> "_RabbitMQDelivery":
        delivery = await self._inbox.get()
        if delivery is None:
            self._inbox.put_nowait(None)  # for whoever else waits
            raise BusOutage(f"The subscription to {self.queue.name} has been cut off.")
        return delivery

    async def _take(self, message: AbstractIncomingMessage) -> None:
        self._ever = True
        self._last_s = time.monotonic()
        self.in_flight += 1
        self._inbox.put_nowait(_RabbitMQDelivery(self, message))  # its age counts from here, as the broker's

    def _cut_off(self) -> None:
        if not self.cut:
            self.cut = True
            self._inbox.put_nowait(None)

    def settled(self) -> None:
        """Count a delivery that was settled."""
        self.in_flight -= 1
        self._last_s = time.monotonic()

    def problem(self, ready: int, consumers: int) -> str | None:
        """What a look at the queue says of this subscription. One that stands by may rightly get nothing."""
        self._unlisted = self._unlisted + 1 if consumers == 0 else 0
        if self._unlisted > 1:
            return f"The broker lists no consumer of {self.queue.name}."
        active = self._ever or not self.queue.single_active
        idle_s = time.monotonic() - self._last_s
        if active and ready and self.in_flight < self.queue.prefetch and idle_s > STALL_S:
            return f"{ready} messages are ready in {self.queue.name} and none was delivered for {idle_s:.0f} s."
        return None


@dataclass(frozen=True, slots=True)
class _RabbitMQDelivery:
    subscription: Subscription
    message: AbstractIncomingMessage
    received_s: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def attempt(self) -> int:
        return messages.attempt_of(self.message)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.received_s

    @property
    def lost(self) -> bool:
        return self.subscription.cut

    async def ack(self) -> None:
        with self.subscription.line.errors():
            await self.message.ack()
        self.subscription.settled()

    async def defer(self, delay_s: float, attempt: int) -> None:
        again = messages.again(self.message, attempt)
        queue = self.subscription.queue.retry(delay_s)
        await self.subscription.publisher.send(DEFAULT_EXCHANGE, queue, again, mandatory=True)
        await self.ack()

    async def park(self, reason: ParkingReason) -> None:
        queue = self.subscription.queue
        parked = messages.to_park(self.message, queue, reason)
        await self.subscription.publisher.send(PARKING, queue.name, parked, mandatory=True)
        await self.ack()
