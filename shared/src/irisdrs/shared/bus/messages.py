"""Messages as they travel over AMQP: properties and headers, and what they say of a message that was parked."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractIncomingMessage

from irisdrs.shared.bus.port import Parked, ParkingReason, parking_id
from irisdrs.shared.bus.topology import Queue
from irisdrs.shared.events.envelope import CONTENT_TYPE

#: Headers travel in one frame of 128 KiB: of a long text so many characters, the last ones, are kept.
_HEADER_TEXT_MAX = 16_000

_ATTEMPT, _QUEUE, _REDRIVEN_BY = "x-iris-attempt", "x-iris-queue", "x-iris-redriven-by"
_ERROR, _PROBLEM, _TRACEBACK = "x-iris-error-class", "x-iris-problem", "x-iris-traceback"

#: ISO 8601; AMQP's own timestamp counts whole seconds.
_PARKED_AT = "x-iris-parked-at"


def first(body: bytes) -> Message:
    """A message that is told for the first time."""
    return _message(body, {})


def again(message: AbstractIncomingMessage, attempt: int) -> Message:
    """A delivered message once more, as another attempt."""
    return _message(message.body, {_ATTEMPT: attempt, **_history(message)})


def redriven(message: AbstractIncomingMessage, by: str) -> Message:
    """A parked message once more, as its first attempt, with the name of the person who sends it."""
    return _message(message.body, {_ATTEMPT: 1, _REDRIVEN_BY: by[-_HEADER_TEXT_MAX:]})


def to_park(message: AbstractIncomingMessage, queue: Queue, reason: ParkingReason) -> Message:
    """A delivered message on its way into the parking of its queue, with the reason."""
    headers = {
        _ATTEMPT: attempt_of(message),
        _QUEUE: queue.name,
        _PARKED_AT: datetime.now(UTC).isoformat(),
        _ERROR: reason.error_class,
        _PROBLEM: reason.message[-_HEADER_TEXT_MAX:],
        _TRACEBACK: reason.traceback[-_HEADER_TEXT_MAX:],
        **_history(message),
    }
    return _message(message.body, headers)


def attempt_of(message: AbstractIncomingMessage) -> int:
    """Which attempt at the message this is, from 1."""
    value = message.headers.get(_ATTEMPT, 1)
    return value if isinstance(value, int) and value > 0 else 1


def parked(queue: Queue, message: AbstractIncomingMessage) -> Parked:
    """What a message in the parking of a queue is to people."""
    headers = message.headers
    parked_at = message.timestamp or datetime.now(UTC)
    if _ERROR in headers:
        parked_at = _instant(headers.get(_PARKED_AT), parked_at)
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
        id=parking_id(queue.name, message.message_id or "", message.body),
        queue=queue.name,
        body=message.body,
        attempts=attempt_of(message),
        reason=reason,
        parked_at=parked_at,
        redriven_by=str(headers.get(_REDRIVEN_BY, "")),
    )


def _message(body: bytes, headers: Mapping[str, Any]) -> Message:
    return Message(
        body,
        headers=dict(headers),
        content_type=CONTENT_TYPE,
        delivery_mode=DeliveryMode.PERSISTENT,
        message_id=uuid.uuid4().hex,
        timestamp=datetime.now(UTC),
    )


def _history(message: AbstractIncomingMessage) -> dict[str, Any]:
    """Headers that a message keeps, whatever becomes of it."""
    return {name: message.headers[name] for name in (_REDRIVEN_BY,) if name in message.headers}


def _death(message: AbstractIncomingMessage, otherwise: datetime) -> tuple[str, datetime]:
    """Why and when the broker dead-lettered a message: the newest entry of `x-death`."""
    deaths: Any = message.headers.get("x-death")
    newest = deaths[0] if isinstance(deaths, list) and deaths else None
    if not isinstance(newest, Mapping):  # it came here by hand
        return "unknown", otherwise
    when = newest.get("time")
    at = when if isinstance(when, datetime) and when.tzinfo else otherwise
    return str(newest.get("reason", "unknown")), at


def _instant(text: object, otherwise: datetime) -> datetime:
    try:
        instant = datetime.fromisoformat(str(text))
        return instant.astimezone(UTC) if instant.tzinfo else otherwise
    except (ValueError, OverflowError):  # the latter: UTC has no such year
        return otherwise
