"""The bus port: messages are published with confirmation and settled once, by `dispatch` alone."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from irisdrs.shared.bus.topology import Queue
from irisdrs.shared.errors import Fatal, IrisError, Outage


class Unroutable(IrisError):
    """A mandatory event that no queue takes."""


class BusOutage(Outage):
    """The broker is away, or a consumer has been cut off: what it held will be delivered again."""

    consequence = "What was not settled is delivered again when the broker is back."


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
    """A message that waits for a person."""

    id: str
    queue: str
    body: bytes
    attempts: int
    reason: ParkingReason
    parked_at: datetime


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
        settled to the queue, in its order. Of a single-active queue one consumer gets deliveries, the others wait
        until it leaves.
        """
        ...

    def listen(self, *binding_keys: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Messages from now on whose routing key fits a binding key: a broadcast, nothing to settle, may be lost."""
        ...

    async def parked(self, queue: Queue) -> list[Parked]:
        """Messages of a queue that wait for a person, oldest first."""
        ...
