"""What the topology table is on a broker: exchanges, queues with their arguments, bindings.

Source: RabbitMQ's documentation of quorum queues, dead lettering and definitions files (3.10 and later).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from irisdrs.shared.bus.topology import EVENTS, PARKING, QUEUES, RETRY_STAGES, WORK, Queue, exchange_of

#: The exchange that every broker has: it leads a message to the queue that its routing key names.
DEFAULT_EXCHANGE = ""


@dataclass(frozen=True, slots=True)
class DeclaredQueue:
    """A durable quorum queue."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a queue."""

    exchange: str
    key: str
    queue: str


#: Exchanges by name, with their type; all durable.
EXCHANGES = {EVENTS: "topic", WORK: "topic", PARKING: "direct"}

#: Nothing is dropped on its way from a queue to where it is dead-lettered: the broker waits for the confirmation.
_SAFE_DEAD_LETTERS = {"x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish"}

#: Deliveries that a parked message may have: people look at it, and each look is one.
_LOOKS = 1_000_000


def declared_queues(queue: Queue) -> Iterator[DeclaredQueue]:
    """A row of the table: the queue, its retry queues, its parking."""
    single_active = {"x-single-active-consumer": True} if queue.single_active else {}
    yield DeclaredQueue(
        queue.name,
        {
            "x-queue-type": "quorum",
            "x-delivery-limit": queue.delivery_limit - 1,  # the broker counts returns, the table deliveries
            "x-dead-letter-exchange": PARKING,
            "x-dead-letter-routing-key": queue.name,
            **_SAFE_DEAD_LETTERS,
            **single_active,
        },
    )
    for stage, delay_s in RETRY_STAGES.items():
        yield DeclaredQueue(
            f"{queue.name}.retry.{stage}",
            {
                "x-queue-type": "quorum",
                "x-message-ttl": int(delay_s * 1000),
                "x-dead-letter-exchange": DEFAULT_EXCHANGE,
                "x-dead-letter-routing-key": queue.name,
                **_SAFE_DEAD_LETTERS,
            },
        )
    yield DeclaredQueue(queue.parking, {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS})


def bindings(queue: Queue) -> Iterator[Binding]:
    """Bindings of a row of the table."""
    for key in queue.binding_keys():
        yield Binding(exchange_of(key), key, queue.name)
    yield Binding(PARKING, queue.name, queue.parking)


def definitions(vhost: str = "/") -> dict[str, Any]:
    """The whole table as a RabbitMQ definitions file (`rabbitmqctl import_definitions`), without users."""
    return {
        "vhosts": [{"name": vhost}],
        "exchanges": [
            {"name": name, "vhost": vhost, "type": kind, "durable": True, "auto_delete": False, "arguments": {}}
            for name, kind in EXCHANGES.items()
        ],
        "queues": [
            {
                "name": one.name,
                "vhost": vhost,
                "durable": True,
                "auto_delete": False,
                "arguments": dict(one.arguments),
            }
            for queue in QUEUES
            for one in declared_queues(queue)
        ],
        "bindings": [
            {
                "source": one.exchange,
                "vhost": vhost,
                "destination": one.queue,
                "destination_type": "queue",
                "routing_key": one.key,
                "arguments": {},
            }
            for queue in QUEUES
            for one in bindings(queue)
        ],
    }
