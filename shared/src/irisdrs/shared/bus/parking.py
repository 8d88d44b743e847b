"""Parked messages on RabbitMQ, in the hands of one person at a time.

They are taken unacknowledged, so that they are there again when whoever looks at them dies. A quorum queue takes back
more than 32 at once in any order: theirs is the one in which they were parked. Two who look at once would see a part
each: an exclusive queue is the lock, and it vanishes with the connection of its holder.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelLockedResource
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_fixed

from irisdrs.shared.bus import messages
from irisdrs.shared.bus.declarations import DEFAULT_EXCHANGE
from irisdrs.shared.bus.line import ANSWER_S, Line, close
from irisdrs.shared.bus.port import LOOK_WAIT_S, BusOutage, Parked, Unroutable, busy
from irisdrs.shared.bus.publisher import Publisher
from irisdrs.shared.bus.topology import Queue
from irisdrs.shared.crash_points import reach

#: Publications that wait for their confirmation at the same time: more of them are no faster.
IN_FLIGHT = 200

#: Messages that one look takes at most: AMQP counts what a consumer may hold in 16 bits.
LOOK_MAX = 65_535

#: Pause between two tries to be the one who looks, seconds.
_LOCK_PAUSE_S = 0.1


class RabbitMQParking:
    """The parked messages of one queue, held unacknowledged on a channel. See `open_parking`."""

    def __init__(self, line: Line, publisher: Publisher, queue: Queue, channel: AbstractChannel) -> None:
        self._line, self._publisher, self._queue, self._channel = line, publisher, queue, channel
        self._held: dict[int, tuple[Parked, AbstractIncomingMessage]] = {}

    @property
    def messages(self) -> Sequence[Parked]:
        """Those that are here still, oldest first."""
        return [parked for parked, _ in self._held.values()]

    async def redrive(self, ids: Collection[str], by: str) -> None:
        """Send messages to the queue itself, each confirmed before it is taken from here."""
        for batch in _batches([tag for tag, (parked, _) in self._held.items() if parked.id in ids]):
            sent = await asyncio.gather(
                *(self._send(messages.redriven(self._held[tag][1], by)) for tag in batch), return_exceptions=True
            )
            reach("parking.published")
            await self._settle([tag for tag, problem in zip(batch, sent, strict=True) if problem is None])
            for problem in sent:
                if problem is not None:
                    raise problem

    async def discard(self, ids: Collection[str]) -> None:
        """Take messages away."""
        await self._settle([tag for tag, (parked, _) in self._held.items() if parked.id in ids])

    async def take(self) -> None:
        """Take all that is parked."""
        with self._line.errors():
            expected = min(await self._ready(), LOOK_MAX)
            if not expected:
                return
            inbox: asyncio.Queue[AbstractIncomingMessage | None] = asyncio.Queue()
            self._channel.close_callbacks.add(lambda *_: inbox.put_nowait(None))
            await self._channel.set_qos(prefetch_count=expected, timeout=ANSWER_S)
            parking = await self._channel.get_queue(self._queue.parking, ensure=False)
            tag = await parking.consume(inbox.put, timeout=ANSWER_S)
            taken = []
            for _ in range(expected):
                async with asyncio.timeout(ANSWER_S):
                    message = await inbox.get()
                if message is None:
                    raise BusOutage(f"RabbitMQ at {self._line.where} has cut off a look at {self._queue.parking}.")
                taken.append((messages.parked(self._queue, message), message))
            await parking.cancel(tag, timeout=ANSWER_S)
        taken.sort(key=lambda one: one[0].parked_at)
        self._held = {message.delivery_tag or 0: (parked, message) for parked, message in taken}

    async def give_back(self) -> None:
        """Give back what is here still, and wait until it is there for the next one who looks."""
        with self._line.errors():
            underlay = await self._channel.get_underlay_channel()
            if self._held:
                await underlay.basic_nack(0, multiple=True, requeue=True)  # 0: all of this channel
                async with asyncio.timeout(ANSWER_S):
                    while await self._ready() < len(self._held):  # noqa: ASYNC110 - the broker does not tell
                        await asyncio.sleep(0.01)
            await underlay.queue_delete(_lock_of(self._queue), timeout=ANSWER_S)

    async def _send(self, message: Message) -> None:
        try:
            await self._publisher.send(DEFAULT_EXCHANGE, self._queue.name, message, mandatory=True)
        except Unroutable as error:
            raise Unroutable(
                f"The queue {self._queue.name} is not there: what waits for it stays parked.",
                remedy="Start its service, or `iris topology --check`, which make it anew; then re-drive again.",
            ) from error

    async def _settle(self, tags: Sequence[int]) -> None:
        with self._line.errors():
            underlay = await self._channel.get_underlay_channel()
            for tag in tags:
                await underlay.basic_ack(tag, wait=False)
            await self._ready()  # an answer on the same channel: the broker has read the acknowledgements
        for tag in tags:
            del self._held[tag]

    async def _ready(self) -> int:
        underlay = await self._channel.get_underlay_channel()
        answer = await underlay.queue_declare(self._queue.parking, passive=True, timeout=ANSWER_S)
        return answer.message_count or 0


@contextlib.asynccontextmanager
async def open_parking(line: Line, publisher: Publisher, queue: Queue, name: str) -> AsyncIterator[RabbitMQParking]:
    """The parked messages of a queue, for nobody else meanwhile.

    Parameters
    ----------
    line : Line
        Whose connection holds the messages. The caller looks at a queue on it once at a time.
    publisher : Publisher
        Sends what is re-driven.
    queue : Queue
    name : str
        Who looks, for the error.

    Raises
    ------
    Busy
        If somebody else looks at them for longer than `LOOK_WAIT_S`.
    BusOutage
        If the broker is away.
    """
    await line.declare(queue)  # somebody may have deleted it
    channel = await _alone(line, queue, name)
    parking = RabbitMQParking(line, publisher, queue, channel)
    try:
        await parking.take()
        yield parking
    finally:
        try:
            await parking.give_back()
            await close(channel)
        except BusOutage:
            await line.close()  # then the broker takes back what it held, and the lock is gone
        except BaseException:
            await line.close()
            raise


async def _alone(line: Line, queue: Queue, name: str) -> AbstractChannel:
    """A channel that has the lock of a queue's parking."""
    trying = AsyncRetrying(
        retry=retry_if_exception_type(ChannelLockedResource),
        wait=wait_fixed(_LOCK_PAUSE_S),
        stop=stop_after_delay(LOOK_WAIT_S),
    )
    try:
        async for attempt in trying:
            with attempt:
                return await _locked(line, queue)
    except RetryError as error:
        raise busy(queue, name) from error
    raise AssertionError("unreachable: the last try raises")


async def _locked(line: Line, queue: Queue) -> AbstractChannel:
    channel = await line.channel()
    underlay = await channel.get_underlay_channel()
    try:
        await underlay.queue_declare(_lock_of(queue), exclusive=True, timeout=ANSWER_S)
    except ChannelLockedResource:
        await close(channel)
        raise
    except BaseException as error:
        await line.close()  # perhaps we have the lock
        with line.errors():
            raise error
    return channel


def _lock_of(queue: Queue) -> str:
    return f"iris.dead-letters.{queue.name}"


def _batches(tags: Sequence[int]) -> list[Sequence[int]]:
    return [tags[start : start + IN_FLIGHT] for start in range(0, len(tags), IN_FLIGHT)]
