"""The bus on RabbitMQ: quorum queues, confirmed and mandatory publishing, manual acknowledgement.

Connections are plain ones, not the client's robust ones: a consumer that has been cut off says so and is opened anew
by dispatch, instead of coming back by itself, perhaps without its subscription.
"""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable

from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from irisdrs.shared.bus import messages
from irisdrs.shared.bus.line import ANSWER_S, Line, close
from irisdrs.shared.bus.parking import open_parking
from irisdrs.shared.bus.port import LOOK_WAIT_S, BusOutage, Delivery, Parked, Parking, busy
from irisdrs.shared.bus.publisher import Publisher
from irisdrs.shared.bus.subscription import Subscription
from irisdrs.shared.bus.topology import EVENTS, QUEUES, WORK, Queue, exchange_of

#: Broadcasts that a listener may be behind; older ones are dropped.
LISTENER_BACKLOG = 10_000

#: Longest pause between two tries to listen again, seconds.
LISTEN_AGAIN_MAX_S = 5.0


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
        self._name = name
        self._out = Line(url, f"{name} publishes", queues)
        self._in = Line(url, f"{name} consumes", queues)
        self._aside = Line(url, f"{name} looks at what is parked", ())
        self._publisher = Publisher(self._out)
        self._subscriptions: set[Subscription] = set()
        self._looks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self) -> None:
        """Connect and declare the topology.

        Raises
        ------
        BusOutage, Fatal, TopologyConflict
            See `Line.channel`.
        """
        await self._publisher.open()

    async def close(self) -> None:
        """Close all lines; what is not settled is delivered again."""
        for line in (self._out, self._in, self._aside):
            await line.close()

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        """Publish and wait for the confirmation; a refused message is sent again."""
        message = messages.first(body)
        await self._publisher.send(exchange_of(routing_key), routing_key, message, mandatory=mandatory)

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Deliveries of a queue, which is declared anew if somebody has deleted it."""
        await self._in.declare(queue)
        with self._in.errors():
            channel = await self._in.channel()
            subscription = Subscription(self._in, self._publisher, queue, channel)
            try:
                await subscription.start()
                self._subscriptions.add(subscription)
            except BaseException:
                await close(channel)
                raise
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)
            await close(channel)

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
            await close(channel)

    @contextlib.asynccontextmanager
    async def parking(self, queue: Queue) -> AsyncIterator[Parking]:
        """Messages of a queue that wait for a person, for nobody else meanwhile."""
        look = self._looks[queue.name]  # the broker's lock keeps other connections out, this one our own
        try:
            async with asyncio.timeout(LOOK_WAIT_S):
                await look.acquire()
        except TimeoutError as error:
            raise busy(queue, self._name) from error
        try:
            async with open_parking(self._aside, self._publisher, queue, self._name) as parking:
                yield parking
        finally:
            look.release()

    async def parked(self, queue: Queue) -> list[Parked]:
        """Messages of a queue that wait for a person."""
        async with self.parking(queue) as parking:
            return list(parking.messages)

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
            await close(channel)

    async def stalled(self) -> str | None:
        """What is wrong with our subscriptions, if something is: the watchdog's question.

        Bindings that somebody has removed are made again.

        Raises
        ------
        BusOutage
            If the broker is away, which is another matter.
        """
        for subscription in list(self._subscriptions):
            await self._in.declare(subscription.queue)
            ready, consumers = await self.depth(subscription.queue.name)
            problem = subscription.problem(ready, consumers)
            if problem:
                return problem
        return None

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
            await close(channel)
            raise
        return channel

    async def _listen_again(self, keys: Iterable[str], inbox: "asyncio.Queue[bytes | None]") -> AbstractChannel:
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(BusOutage), wait=wait_exponential(0.1, max=LISTEN_AGAIN_MAX_S), reraise=True
        ):
            with attempt:
                return await self._listen(keys, inbox)
        raise AssertionError("unreachable: retries without end")
