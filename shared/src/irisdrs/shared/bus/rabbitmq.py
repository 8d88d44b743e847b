"""The bus on RabbitMQ: quorum queues, confirmed and mandatory publishing, manual acknowledgement.

Connections are plain ones, not the client's robust ones: a consumer that has been cut off says so and is opened anew
by dispatch, instead of coming back by itself, perhaps without its subscription.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError, PublishError
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_exponential

from irisdrs.shared.bus.declarations import DEFAULT_EXCHANGE
from irisdrs.shared.bus.line import ANSWER_S, Line
from irisdrs.shared.bus.port import BusOutage, Delivery, Parked, ParkingReason, Unroutable
from irisdrs.shared.bus.topology import EVENTS, PARKING, QUEUES, WORK, Queue, exchange_of
from irisdrs.shared.events.envelope import CONTENT_TYPE

_log = structlog.get_logger(__name__)

#: Longest that a publication may stay unconfirmed, seconds. A cluster that elects a new leader needs less.
CONFIRM_S = 30.0

#: Broadcasts that a listener may be behind; older ones are dropped.
LISTENER_BACKLOG = 10_000

#: Longest pause between two tries to listen again, seconds.
LISTEN_AGAIN_MAX_S = 5.0

#: Headers travel in one frame of 128 KiB: of a long text so many characters, the last ones, are kept.
_HEADER_TEXT_MAX = 16_000

#: Messages ready for a consumer with room and none delivered: after this time something is wrong, seconds.
STALL_S = 60.0

_ATTEMPT, _QUEUE = "x-iris-attempt", "x-iris-queue"
_ERROR, _PROBLEM, _TRACEBACK = "x-iris-error-class", "x-iris-problem", "x-iris-traceback"


class RabbitMQBus:
    """A `Bus` on a RabbitMQ server.

    Parameters
    ----------
    url : str
        AMQP URL with user, password and virtual host.
    name : str
        Name of the process, for the broker's people.
    queues : tuple of Queue
        Rows of the topology table.
    """

    def __init__(self, url: str, name: str = "iris", queues: tuple[Queue, ...] = QUEUES) -> None:
        self._out = Line(url, f"{name} publishes", queues)
        self._in = Line(url, f"{name} consumes", queues)
        self._publishing: AbstractChannel | None = None
        self._opening = asyncio.Lock()
        self._consumers: set[_Consumer] = set()

    async def open(self) -> None:
        """Connect and declare the topology.

        Raises
        ------
        BusOutage, Fatal, TopologyConflict
            See `Line.channel`.
        """
        await self._publisher()

    async def close(self) -> None:
        """Close both lines; what is not settled is delivered again."""
        await self._out.close()
        await self._in.close()

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        """Publish and wait for the confirmation; a refused message is sent again."""
        message = _message(body, {})
        await self._send(exchange_of(routing_key), routing_key, message, mandatory=mandatory)

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Deliveries of a queue, which is declared anew if somebody has deleted it."""
        await self._in.declare(queue)
        with self._in.errors():
            channel = await self._in.channel()
            consumer = _Consumer(self, queue, channel)
            try:
                await consumer.start()
                self._consumers.add(consumer)
            except BaseException:
                await _close(channel)
                raise
        try:
            yield consumer
        finally:
            self._consumers.discard(consumer)
            await _close(channel)

    @contextlib.asynccontextmanager
    async def listen(self, *binding_keys: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Messages from now on whose routing key fits; what is told while the broker is away is missed."""
        inbox: asyncio.Queue[bytes | None] = asyncio.Queue(LISTENER_BACKLOG)
        channel = await self._listen(binding_keys, inbox)

        async def messages() -> AsyncIterator[bytes]:
            nonlocal channel
            while True:
                message = await inbox.get()
                if message is None:
                    channel = await self._listen_again(binding_keys, inbox)
                else:
                    yield message

        try:
            yield messages()
        finally:
            await _close(channel)

    async def parked(self, queue: Queue) -> list[Parked]:
        """Messages of a queue that wait for a person; two who look at the same time see a part each."""
        channel = await self._out.channel()
        try:
            with self._out.errors():
                parking = await channel.get_queue(queue.parking, ensure=False)
                found = []
                while (message := await parking.get(fail=False, timeout=ANSWER_S)) is not None:
                    found.append(_parked(queue, message))
                return found
        finally:
            await _close(channel)  # gives them back, in their order

    async def depth(self, name: str) -> tuple[int, int]:
        """Messages that are ready in a queue of the broker, and its consumers.

        Raises
        ------
        BusOutage
            If the broker is away.
        """
        channel = await self._out.channel()
        try:
            with self._out.errors():
                underlay = await channel.get_underlay_channel()
                answer = await underlay.queue_declare(name, passive=True, timeout=ANSWER_S)
                return answer.message_count or 0, answer.consumer_count or 0
        finally:
            await _close(channel)

    async def stalled(self) -> str | None:
        """What is wrong with our subscriptions, if something is: the watchdog's question.

        Bindings that somebody has removed are made again.

        Raises
        ------
        BusOutage
            If the broker is away, which is another matter.
        """
        for consumer in list(self._consumers):
            await self._in.declare(consumer.queue)
            ready, consumers = await self.depth(consumer.queue.name)
            problem = consumer.problem(ready, consumers)
            if problem:
                return problem
        return None

    async def _publisher(self) -> AbstractChannel:
        async with self._opening:
            if self._publishing is None or self._publishing.is_closed:
                self._publishing = await self._out.channel(confirms=True)
            return self._publishing

    async def _send(self, exchange: str, key: str, message: Message, *, mandatory: bool) -> None:
        try:
            return await self._send_once(exchange, key, message, mandatory=mandatory)
        except _Refused:
            _log.warning("the broker has refused a message, sending it again", key=key)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Refused),
            wait=wait_exponential(0.05, max=2.0),
            stop=stop_after_delay(CONFIRM_S),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._send_once(exchange, key, message, mandatory=mandatory)
        except RetryError as error:
            # A channel can stay refused after the queue has room again; the next try gets a new one.
            publishing, self._publishing = self._publishing, None
            if publishing is not None:
                await _close(publishing)
            raise BusOutage(
                f"RabbitMQ at {self._out.where} does not take messages with the key {key}.",
                remedy="Is a queue full, or a cluster without a majority?",
            ) from error

    async def _send_once(self, exchange: str, key: str, message: Message, *, mandatory: bool) -> None:
        channel = await self._publisher()
        with self._out.errors():
            underlay = await channel.get_underlay_channel()
            try:
                await underlay.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=key,
                    properties=message.properties,
                    mandatory=mandatory,
                    timeout=CONFIRM_S,
                )
            except PublishError as error:
                raise Unroutable(
                    f"No queue takes {key}.", remedy="Does the broker have the bindings of `iris topology`?"
                ) from error
            except DeliveryError as error:
                raise _Refused from error

    async def _listen(self, keys: Iterable[str], inbox: "asyncio.Queue[bytes | None]") -> AbstractChannel:
        channel = await self._in.channel()
        try:
            with self._in.errors():
                queue = await channel.declare_queue(exclusive=True, auto_delete=True, timeout=ANSWER_S)
                for key in keys:
                    for exchange in (EVENTS, WORK):
                        await queue.bind(exchange, key, timeout=ANSWER_S)

                def hear(body: bytes | None) -> None:
                    if inbox.full():
                        inbox.get_nowait()
                    inbox.put_nowait(body)

                async def take(message: AbstractIncomingMessage) -> None:
                    hear(message.body)

                channel.close_callbacks.add(lambda *_: hear(None))
                await queue.consume(take, no_ack=True, timeout=ANSWER_S)
        except BaseException:
            await _close(channel)
            raise
        return channel

    async def _listen_again(self, keys: Iterable[str], inbox: "asyncio.Queue[bytes | None]") -> AbstractChannel:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(BusOutage), wait=wait_exponential(0.1, max=LISTEN_AGAIN_MAX_S), reraise=True
        ):
            with attempt:
                return await self._listen(keys, inbox)
        raise AssertionError("unreachable: retries without end")


class _Refused(Exception):
    """The broker has answered a publication with a nack."""


class _Consumer:
    """A subscription: an iterator over deliveries that says when it has been cut off."""

    def __init__(self, bus: RabbitMQBus, queue: Queue, channel: AbstractChannel) -> None:
        self._bus, self.queue, self._channel = bus, queue, channel
        self._inbox: asyncio.Queue[_RabbitMQDelivery | None] = asyncio.Queue()
        self.cut = False
        self.in_flight = 0
        self._ever = False
        self._last_s = time.monotonic()
        self._unlisted = 0

    async def start(self) -> None:
        await self._channel.set_qos(prefetch_count=self.queue.prefetch, timeout=ANSWER_S)
        self._channel.close_callbacks.add(lambda *_: self._cut_off())
        underlay = await self._channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: self._cut_off())
        queue = await self._channel.get_queue(self.queue.name, ensure=False)
        await queue.consume(self._take, timeout=ANSWER_S)

    def __aiter__(self) -> "_Consumer":
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
        self._inbox.put_nowait(_RabbitMQDelivery(self._bus, self, message))  # its age counts from here, as the broker's

    def _cut_off(self) -> None:
        if not self.cut:
            self.cut = True
            self._inbox.put_nowait(None)

    def settled(self) -> None:
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
    bus: RabbitMQBus
    consumer: _Consumer
    message: AbstractIncomingMessage
    received_s: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def attempt(self) -> int:
        value = self.message.headers.get(_ATTEMPT, 1)
        return value if isinstance(value, int) and value > 0 else 1

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.received_s

    @property
    def lost(self) -> bool:
        return self.consumer.cut

    async def ack(self) -> None:
        with self.bus._in.errors():
            await self.message.ack()
        self.consumer.settled()

    async def defer(self, delay_s: float, attempt: int) -> None:
        message = _message(self.body, {_ATTEMPT: attempt})
        await self.bus._send(DEFAULT_EXCHANGE, self.consumer.queue.retry(delay_s), message, mandatory=True)
        await self.ack()

    async def park(self, reason: ParkingReason) -> None:
        headers = {
            _ATTEMPT: self.attempt,
            _QUEUE: self.consumer.queue.name,
            _ERROR: reason.error_class,
            _PROBLEM: reason.message[-_HEADER_TEXT_MAX:],
            _TRACEBACK: reason.traceback[-_HEADER_TEXT_MAX:],
        }
        await self.bus._send(PARKING, self.consumer.queue.name, _message(self.body, headers), mandatory=True)
        await self.ack()


def _message(body: bytes, headers: Mapping[str, Any]) -> Message:
    return Message(
        body,
        headers=dict(headers),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=uuid.uuid4().hex,
        timestamp=datetime.now(UTC),
    )


def _parked(queue: Queue, message: AbstractIncomingMessage) -> Parked:
    headers = message.headers
    attempt = headers.get(_ATTEMPT, 1)
    parked_at = message.timestamp or datetime.now(UTC)
    if _ERROR in headers:
        reason = ParkingReason(str(headers[_ERROR]), str(headers.get(_PROBLEM, "")), str(headers.get(_TRACEBACK, "")))
    else:
        death, parked_at = _death(message, parked_at)
        reason = ParkingReason(
            "crash-loop" if death == "delivery_limit" else death,
            f"Delivered {queue.delivery_limit} times, settled never."
            if death == "delivery_limit"
            else f"The broker has put it aside: {death}.",
        )
    return Parked(
        id=message.message_id or "",
        queue=queue.name,
        body=message.body,
        attempts=attempt if isinstance(attempt, int) else 1,
        reason=reason,
        parked_at=parked_at,
    )


def _death(message: AbstractIncomingMessage, otherwise: datetime) -> tuple[str, datetime]:
    """Why and when the broker dead-lettered a message: the newest entry of `x-death`."""
    deaths: Any = message.headers.get("x-death")
    if not deaths:
        return "unknown", otherwise
    when = deaths[0].get("time", otherwise)
    return str(deaths[0].get("reason", "unknown")), when if isinstance(when, datetime) else otherwise


async def _close(channel: AbstractChannel) -> None:
    """Close a channel; one that is cut off is closed already."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ANSWER_S):
            await channel.close()
