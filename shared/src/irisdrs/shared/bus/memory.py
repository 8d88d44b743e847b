"""The bus in memory: the same rules as a broker, inside one process.

Redelivery after a consumer has gone, delayed retries, parking, prefetch, single active consumers and broadcasts are
those of the port; durability is not: what the process held is announced again from the store at the next start.
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from irisdrs.shared.bus.port import (
    LOOK_WAIT_S,
    Delivery,
    Parked,
    Parking,
    ParkingReason,
    Unroutable,
    busy,
    parking_id,
)
from irisdrs.shared.bus.topology import QUEUES, Queue
from irisdrs.shared.crash_points import reach


@dataclass(frozen=True, slots=True)
class _Message:
    number: int
    body: bytes
    attempt: int = 1
    deliveries: int = 0
    redriven_by: str = ""


@dataclass(slots=True)
class _State:
    """One queue. `ready` is ordered by message number, so that returned messages come back in their place."""

    queue: Queue
    ready: deque[_Message] = field(default_factory=deque)
    held: dict[int, _Message] = field(default_factory=dict)
    delayed: set[asyncio.TimerHandle] = field(default_factory=set)
    parked: list[Parked] = field(default_factory=list)
    active: asyncio.Lock = field(default_factory=asyncio.Lock)
    look: asyncio.Lock = field(default_factory=asyncio.Lock)


class MemoryBus:
    """A `Bus` inside one process and one event loop.

    Parameters
    ----------
    queues : tuple of Queue
        Rows of the topology table.
    """

    def __init__(self, queues: tuple[Queue, ...] = QUEUES) -> None:
        self._states = {queue.name: _State(queue) for queue in queues}
        self._changed = asyncio.Condition()
        self._numbers = itertools.count(1)
        self._listeners: dict[asyncio.Queue[bytes], tuple[str, ...]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        """Put a message into every queue that takes it."""
        takers = [
            state
            for state in self._states.values()
            if any(fits(key, routing_key) for key in state.queue.binding_keys())
        ]
        if mandatory and not takers:
            raise Unroutable(f"No queue takes {routing_key}.", remedy="Is the event in bus/topology.py?")
        for state in takers:
            await self._enqueue(state, _Message(next(self._numbers), body))
        for listener, keys in self._listeners.items():
            if any(fits(key, routing_key) for key in keys):
                listener.put_nowait(body)

    @contextlib.asynccontextmanager
    async def consume(self, queue: Queue) -> AsyncIterator[AsyncIterator[Delivery]]:
        """Deliveries of a queue."""
        state = self._states[queue.name]
        held: dict[int, _Message] = {}
        async with state.active if queue.single_active else contextlib.nullcontext():
            try:
                yield self._deliveries(state, held)
            finally:
                await self._return(state, held)

    @contextlib.asynccontextmanager
    async def listen(self, *binding_keys: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Messages from now on whose routing key fits."""
        listener: asyncio.Queue[bytes] = asyncio.Queue()
        self._listeners[listener] = binding_keys

        async def messages() -> AsyncIterator[bytes]:
            while True:
                yield await listener.get()

        try:
            yield messages()
        finally:
            del self._listeners[listener]

    @contextlib.asynccontextmanager
    async def parking(self, queue: Queue) -> AsyncIterator[Parking]:
        """Messages of a queue that wait for a person, for nobody else meanwhile."""
        state = self._states[queue.name]
        try:
            async with asyncio.timeout(LOOK_WAIT_S):
                await state.look.acquire()
        except TimeoutError as error:
            raise busy(queue, "iris") from error
        try:
            yield _MemoryParking(self, state)
        finally:
            state.look.release()

    async def parked(self, queue: Queue) -> list[Parked]:
        """Messages of a queue that wait for a person."""
        async with self.parking(queue) as parking:
            return list(parking.messages)

    def depths(self) -> dict[str, int]:
        """Messages of each queue that are not settled: ready, held and delayed."""
        return {name: len(s.ready) + len(s.held) + len(s.delayed) for name, s in self._states.items()}

    async def quiet(self) -> None:
        """Wait until nothing is ready and nothing is held (delayed messages may remain)."""
        async with self._changed:
            await self._changed.wait_for(lambda: not any(s.ready or s.held for s in self._states.values()))

    def close(self) -> None:
        """Drop what is delayed."""
        for state in self._states.values():
            for timer in state.delayed:
                timer.cancel()
            state.delayed.clear()

    async def _enqueue(self, state: _State, *messages: _Message) -> None:
        async with self._changed:
            state.ready.extend(messages)
            state.ready = deque(sorted(state.ready, key=lambda message: message.number))
            self._changed.notify_all()

    async def _deliveries(self, state: _State, held: dict[int, _Message]) -> AsyncIterator[Delivery]:
        while True:
            async with self._changed:
                await self._changed.wait_for(lambda: state.ready and len(held) < state.queue.prefetch)
                message = state.ready.popleft()
                message = replace(message, deliveries=message.deliveries + 1)
                if message.deliveries > state.queue.delivery_limit:
                    reason = ParkingReason("crash-loop", f"Delivered {message.deliveries - 1} times, settled never.")
                    state.parked.append(_parked(state, message, reason))
                    self._changed.notify_all()
                    continue
                held[message.number] = state.held[message.number] = message
            yield _MemoryDelivery(self, state, held, message)

    async def _return(self, state: _State, held: dict[int, _Message]) -> None:
        messages = list(held.values())
        for message in messages:
            del state.held[message.number]
        held.clear()
        await self._enqueue(state, *messages)

    async def _settle(self, state: _State, held: dict[int, _Message], message: _Message) -> None:
        async with self._changed:
            if held.pop(message.number, None) is None:
                raise RuntimeError("a delivery is settled once, by the consumer that holds it")
            del state.held[message.number]
            self._changed.notify_all()

    def _later(self, state: _State, delay_s: float, message: _Message) -> None:
        async def put_back() -> None:
            await self._enqueue(state, message)
            state.delayed.discard(timer)  # afterwards: a message is never nowhere

        def due() -> None:
            task = asyncio.ensure_future(put_back())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        timer = asyncio.get_running_loop().call_later(delay_s, due)
        state.delayed.add(timer)


@dataclass(frozen=True, slots=True)
class _MemoryDelivery:
    bus: MemoryBus
    state: _State
    held: dict[int, _Message]
    message: _Message
    received_s: float = field(default_factory=time.monotonic)

    @property
    def body(self) -> bytes:
        return self.message.body

    @property
    def attempt(self) -> int:
        return self.message.attempt

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.received_s

    @property
    def lost(self) -> bool:
        return False

    async def ack(self) -> None:
        await self.bus._settle(self.state, self.held, self.message)

    async def defer(self, delay_s: float, attempt: int) -> None:
        again = replace(self.message, number=next(self.bus._numbers), attempt=attempt, deliveries=0)
        self.bus._later(self.state, delay_s, again)
        await self.ack()

    async def park(self, reason: ParkingReason) -> None:
        self.state.parked.append(_parked(self.state, self.message, reason))
        await self.ack()


@dataclass(frozen=True, slots=True)
class _MemoryParking:
    bus: MemoryBus
    state: _State

    @property
    def messages(self) -> Sequence[Parked]:
        return list(self.state.parked)

    async def redrive(self, ids: Collection[str], by: str) -> None:
        chosen = [parked for parked in self.state.parked if parked.id in ids]
        again = [_Message(next(self.bus._numbers), parked.body, redriven_by=by) for parked in chosen]
        await self.bus._enqueue(self.state, *again)
        reach("parking.published")
        await self.discard(ids)

    async def discard(self, ids: Collection[str]) -> None:
        self.state.parked[:] = [parked for parked in self.state.parked if parked.id not in ids]


def _parked(state: _State, message: _Message, reason: ParkingReason) -> Parked:
    return Parked(
        parking_id(state.queue.name, uuid.uuid4().hex, message.body),
        state.queue.name,
        message.body,
        message.attempt,
        reason,
        datetime.now(UTC),
        message.redriven_by,
    )


def fits(binding_key: str, routing_key: str) -> bool:
    """Whether a routing key fits a binding key, as in an AMQP topic exchange: ``*`` is one word, ``#`` any number."""
    return _fits(binding_key.split("."), routing_key.split("."))


def _fits(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    if pattern[0] == "#":
        return any(_fits(pattern[1:], words[n:]) for n in range(len(words) + 1))
    return bool(words) and pattern[0] in ("*", words[0]) and _fits(pattern[1:], words[1:])
