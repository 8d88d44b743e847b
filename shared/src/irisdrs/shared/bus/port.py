"""The bus port: messages are published with confirmation and settled once, by `dispatch` alone."""

import hashlib
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from irisdrs.shared.bus.topology import Queue
from irisdrs.shared.errors import Fatal, IrisError, Outage

#: Longest that somebody who wants to look at parked messages waits for somebody else who does, seconds.
LOOK_WAIT_S = 10.0

#: Hex digits of a parking id: enough for people to type, and for a million parked messages to differ.
_ID_DIGITS = 12


class Unroutable(IrisError):
    """A mandatory event that no queue takes."""


class BusOutage(Outage):
    """The broker is away, or a consumer has been cut off: what it held will be delivered again."""

    consequence = "What was not settled is delivered again when the broker is back."


class Busy(IrisError):
    """Somebody else has the parked messages of a queue in hand."""


class TopologyConflict(Fatal):
    """The broker has an exchange or a queue that is not the one of the topology table."""

    consequence = "Nothing is published and nothing consumed."


@dataclass(frozen=True, slots=True)
class ParkingReason:
    """Why a message was parked."""

    error_class: str
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Parked:
    """A message that waits for a person.

    Attributes
    ----------
    id : str
        Of this parking, see `parking_id`.
    queue : str
        Name of the queue whose service could not handle it.
    body : bytes
    attempts : int
        How often it was tried since it was told or re-driven.
    reason : ParkingReason
    parked_at : datetime
        UTC; what the broker itself has put aside (a crash loop) to the second.
    redriven_by : str
        Who has sent it again before it was parked once more; empty if nobody has.
    """

    id: str
    queue: str
    body: bytes
    attempts: int
    reason: ParkingReason
    parked_at: datetime
    redriven_by: str = ""


class Parking(Protocol):
    """The parked messages of one queue, in the hands of one person."""

    @property
    def messages(self) -> Sequence[Parked]:
        """Those that are here still, oldest first."""
        ...

    async def redrive(self, ids: Collection[str], by: str) -> None:
        """Send messages again, to the queue itself: other queues have had them. They start at their first attempt.

        Each is confirmed before it is taken from here: whoever dies in between leaves it here, and it is told twice.

        Raises
        ------
        Unroutable
            If the queue is not there. What could not be sent is here still.
        BusOutage
            If the broker is away.
        """
        ...

    async def discard(self, ids: Collection[str]) -> None:
        """Take messages away for good.

        Raises
        ------
        BusOutage
            If the broker is away.
        """
        ...


class Delivery(Protocol):
    """One message in a consumer's hands, until it is settled in one of three ways."""

    @property
    def body(self) -> bytes:
        """The message."""
        ...

    @property
    def attempt(self) -> int:
        """Which attempt at the message this is, from 1. Deliveries after a crash do not count."""
        ...

    @property
    def age_s(self) -> float:
        """How long it has been in this consumer's hands, seconds."""
        ...

    @property
    def lost(self) -> bool:
        """Whether it cannot be settled any more, because the broker has taken it back."""
        ...

    async def ack(self) -> None:
        """Settle: done. This and the other two raise `BusOutage` if the broker has taken the message back."""
        ...

    async def defer(self, delay_s: float, attempt: int) -> None:
        """Settle: hand it back to the same queue after a delay, as the given attempt."""
        ...

    async def park(self, reason: ParkingReason) -> None:
        """Settle: put it aside for a person."""
        ...


class Bus(Protocol):
    """Routes events by their key to the queues of the topology. Two implementations: memory, and RabbitMQ."""

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        """Publish and wait for the confirmation.

        Raises
        ------
        Unroutable
            If it is mandatory and no queue takes it.
        BusOutage
            If the broker is away, or did not confirm.
        """
        ...

    def consume(self, queue: Queue) -> AbstractAsyncContextManager[AsyncIterator[Delivery]]:
        """Deliveries of a queue, at most `queue.prefetch` unsettled at a time.

        The iterator raises `BusOutage` when the consumer has been cut off. Leaving the context returns what is not
        settled to the queue: before what waits there, in its order as far as a broker keeps it (a quorum queue of
        RabbitMQ returns more than 32 messages at once in any order). Of a single-active queue one consumer gets
        deliveries, the others wait until it leaves.
        """
        ...

    def listen(self, *binding_keys: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Messages from now on whose routing key fits a binding key: a broadcast, nothing to settle, may be lost."""
        ...

    def parking(self, queue: Queue) -> AbstractAsyncContextManager[Parking]:
        """Messages of a queue that wait for a person. Until the context is left nobody else has them in hand.

        Raises
        ------
        Busy
            If somebody else has, for longer than `LOOK_WAIT_S`.
        BusOutage
            If the broker is away.
        """
        ...

    async def parked(self, queue: Queue) -> list[Parked]:
        """Messages of a queue that wait for a person, oldest first. Raises as `parking`."""
        ...


def parking_id(queue: str, message_id: str, body: bytes) -> str:
    """Short id of one parking: a message lies in several queues under one message id; re-driven it has a new one."""
    digest = hashlib.sha256(b"\0".join((queue.encode(), message_id.encode(), body)))
    return digest.hexdigest()[:_ID_DIGITS]


def busy(queue: Queue, name: str) -> Busy:
    """What is said to somebody who has waited for parked messages in vain."""
    return Busy(
        f"{name!r} has waited {LOOK_WAIT_S:g} s for the dead letters of {queue.name}: somebody else is at them.",
        remedy="Try again when that is done.",
    )
