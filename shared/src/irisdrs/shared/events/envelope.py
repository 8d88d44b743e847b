"""The envelope: CloudEvents 1.0, structured JSON mode, at most 64 KiB.

Source: CloudEvents 1.0.2 (CNCF), the JSON event format, and its distributed tracing extension (`traceparent`).
"""

import secrets
import time
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irisdrs.shared.errors import BadMessage, EventTooLarge
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.registry import READERS, Readers, reader
from irisdrs.shared.events.spent import MAX_LENGTH, PATTERN, add

#: Largest message, bytes: pixels never travel on the bus.
MAX_BYTES = 64 * 1024

#: TAI - UTC, seconds, since 2017-01-01 (IERS Bulletin C 52 and later: no leap second since).
TAI_MINUS_UTC_S = 37

#: Content type of an encoded envelope.
CONTENT_TYPE = "application/cloudevents+json"


class Envelope(BaseModel):
    """One telling of an event: when, by whom, caused by what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    specversion: Literal["1.0"] = Field(description="Version of CloudEvents")
    id: str = Field(description="Deterministic id of the event (UUIDv5)")
    type: str = Field(description="org.tmt.iris.drs.<entity>.<verb>.v<version>")
    source: str = Field(description="Who tells it: /iris/drs/<service>")
    subject: str = Field(description="What it is about")
    time: datetime = Field(description="When it was told (UTC)")
    timetai: str = Field(description="The same instant in TAI, ISO 8601")
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: str = Field(description="Observation that it belongs to")
    causationid: str = Field(description="Id of the event that caused it; its own id when nothing did")
    traceparent: str = Field(description="W3C trace context", pattern="^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$")
    spent: str = Field(
        description="Seconds that each service had what led to it, by its own clock: readout:1.204,calibrate:4.511",
        default="",
        pattern=PATTERN,
        max_length=MAX_LENGTH,
    )
    data: dict[str, object]


@dataclass(frozen=True, slots=True)
class Cause:
    """The event that a handler has in hand: its telling, and since when (`time.monotonic`) this service has it."""

    envelope: Envelope
    arrived_s: float

    def spent_by(self, service: str) -> str:
        """What was spent on it until now, this service included."""
        return add(self.envelope.spent, service, time.monotonic() - self.arrived_s)


#: Set by dispatch while a handler runs. For records of how an event came; no product may depend on it.
CAUSE: ContextVar[Cause | None] = ContextVar("cause", default=None)


def encode(event: Event, source: str, cause: Envelope | None = None, spent: str = "") -> bytes:
    """Put an event into an envelope.

    Parameters
    ----------
    event : Event
    source : str
        Name of the service that tells it.
    cause : Envelope, optional
        Envelope of the event whose handling gave this one: passes on correlation and trace.
    spent : str, optional
        What services have spent on the way to it (`irisdrs.shared.events.spent`).

    Raises
    ------
    EventTooLarge
        If the message would be larger than `MAX_BYTES`.
    """
    now = datetime.now(UTC)
    trace = cause.traceparent.split("-")[1] if cause else secrets.token_hex(16)
    envelope = Envelope(
        specversion="1.0",
        id=event.event_id,
        type=event.told_as,
        source=f"/iris/drs/{source}",
        subject=event.subject,
        time=now,
        timetai=(now + timedelta(seconds=TAI_MINUS_UTC_S)).replace(tzinfo=None).isoformat(),
        correlationid=event.correlation_id,
        causationid=cause.id if cause else event.event_id,
        traceparent=f"00-{trace}-{secrets.token_hex(8)}-01",
        spent=spent,
        data=event.model_dump(mode="json"),
    )
    message = envelope.model_dump_json().encode()
    if len(message) > MAX_BYTES:
        raise EventTooLarge(
            f"{event.told_as} {event.subject} has {len(message)} bytes: at most {MAX_BYTES} travel on the bus.",
            remedy="Put the large part into the store and announce its key.",
        )
    return message


def decode(message: bytes, readers: Readers = READERS) -> tuple[Envelope, Event]:
    """Read a message of this version, or of the major version before.

    Fields that this version does not know, in the envelope or anywhere in the data, are ignored: a newer minor version
    may add some (`shared/decisions/0005`).

    Parameters
    ----------
    message : bytes
    readers : mapping of CloudEvents type to event class, optional
        What is read.

    Raises
    ------
    BadMessage
        If it is too large, no JSON, no envelope, of an unknown type or version, or its data do not fit the type.
    """
    if len(message) > MAX_BYTES:
        raise BadMessage(f"A message of {len(message)} bytes: at most {MAX_BYTES} are read.")
    try:
        return _decoded(message, readers)
    except (ValueError, RecursionError) as error:  # an endless number, too deep: whoever tells it, no handler sees it
        raise BadMessage(f"The message cannot be read: {_short(error)}.") from error


def _decoded(message: bytes, readers: Readers) -> tuple[Envelope, Event]:
    try:
        envelope = Envelope.model_validate_json(message, extra="ignore")
    except ValidationError as error:
        raise BadMessage(f"The message is no CloudEvents envelope: {_short(error)}.") from error
    kind = reader(envelope.type, readers)
    own = envelope.type == kind.cloud_type()
    version_told = kind.version if own else kind.version - 1
    try:
        event = kind.as_told(envelope.data if own else kind.from_previous(envelope.data))
    except (ValidationError, LookupError, TypeError) as error:
        raise BadMessage(f"The data of {envelope.type} {envelope.subject} do not fit: {_short(error)}.") from error
    if event.told_version > version_told and version_told in kind.told_versions():
        raise BadMessage(f"{envelope.type} {envelope.subject} says what only {event.told_as} can say.")
    # How the version before formed its subject, only that version knows.
    if event.id_of(envelope.type, event.subject if own else envelope.subject) != envelope.id:
        raise BadMessage(f"{envelope.type} {envelope.subject}: the id is not the one of its data.")
    return envelope, event


def _short(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return repr(error)
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "the text"
    return f"{where}: {first['msg']}" + (f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else "")
