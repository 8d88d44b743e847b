"""Dead letters as people see them: what was parked and why, and what was decided about it."""

import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol, Self

import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from irisdrs.shared.bus.port import Parked
from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.errors import BadMessage, IrisError
from irisdrs.shared.events.envelope import decode
from irisdrs.shared.events.registry import READERS

_log = structlog.get_logger(__name__)


class NoSuchLetter(IrisError):
    """No parked message, and none that was decided about, has such an id; or several have."""


class NoReason(IrisError):
    """A dead letter is not discarded without a reason."""


class Action(StrEnum):
    """What a person may do with a dead letter."""

    REDRIVE = "redrive"
    DISCARD = "discard"


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Letter(_Fact):
    """A parked message with what can be read of it. What cannot is empty."""

    id: str = Field(description="Id of this parking", pattern="^[0-9a-f]{12}$")
    queue: str
    error_class: str
    message: str = Field(description="What was wrong")
    traceback: str
    attempts: int
    parked_at: datetime
    redriven_by: str = Field(description="Who has sent it again before it was parked once more")
    event_type: str = Field(description="CloudEvents type")
    event_id: str = Field(description="Id of the event as this version tells it")
    subject: str
    correlation: str = Field(description="Observation that it belongs to")
    encoding: Literal["utf-8", "base64"] = Field(description="How `body` is written")
    body: str = Field(description="The whole message")

    @classmethod
    def of(cls, parked: Parked) -> Self:
        """Read what can be read of a parked message. Never fails: one letter must not hide the others."""
        envelope = _envelope(parked.body)
        try:
            encoding, body = "utf-8", parked.body.decode()
        except UnicodeDecodeError:
            encoding, body = "base64", base64.b64encode(parked.body).decode()
        texts = {
            "id": parked.id,
            "queue": parked.queue,
            "error_class": parked.reason.error_class,
            "message": parked.reason.message,
            "traceback": parked.reason.traceback,
            "redriven_by": parked.redriven_by,
            "event_type": envelope.get("type", ""),
            "event_id": _event_id(parked.body) or envelope.get("id", ""),
            "subject": envelope.get("subject", ""),
            "correlation": envelope.get("correlationid", ""),
            "encoding": encoding,
            "body": body,
        }
        return cls.model_validate(
            {
                **{name: storable(text) for name, text in texts.items()},
                "attempts": parked.attempts,
                "parked_at": parked.parked_at,
            }
        )


class Decision(_Fact):
    """What a person has decided about a dead letter, with the whole of it: nothing is lost by a discard."""

    action: Action
    by: str = Field(description="Who", min_length=1, max_length=200)
    at: datetime = Field(description="When (UTC)")
    reason: str = Field(description="Why; empty for a re-drive that needs none", max_length=4000)
    letter: Letter


class Found(_Fact):
    """All that is known of one dead letter.

    A decision about one that is parked still had no effect: whoever made it died, or the queue was away.
    """

    letter: Letter
    parked: bool = Field(description="Whether it is parked still")
    decisions: list[Decision] = Field(description="Oldest first; the last one was carried out, unless it is parked")
    same_event: list[Decision] = Field(
        default=[], description="About the same event, parked from the same queue under another id; oldest first"
    )


class Moved(_Fact):
    """What became of letters that a person has named."""

    moved: list[str] = Field(description="Ids of those that were re-driven or discarded")
    missing: list[str] = Field(description="Those that are not parked, as they were named")


def _in_utc(when: datetime) -> datetime:
    return when if when.tzinfo else when.replace(tzinfo=UTC)


_Instant = Annotated[datetime, AfterValidator(_in_utc)]


class Selection(_Fact):
    """Which letters. What is not given selects nothing away.

    Attributes
    ----------
    queue : str, optional
        Name of a queue, with or without ``iris.q.``.
    error : str, optional
        Error class.
    type : str, optional
        Event type: ``FrameReady``, ``frame.ready`` or the whole CloudEvents type.
    since, until : datetime, optional
        When it was parked, or decided about; UTC where no zone is given.
    """

    queue: str | None = None
    error: str | None = None
    type: str | None = None
    since: _Instant | None = None
    until: _Instant | None = None

    def queue_name(self) -> str | None:
        """Whole name of the queue, if one is given.

        Raises
        ------
        NoSuchLetter
            If there is no such queue.
        """
        if self.queue is None:
            return None
        names = [queue.name for queue in QUEUES]
        for name in (self.queue, f"iris.q.{self.queue}"):
            if name in names:
                return name
        raise NoSuchLetter(f"There is no queue {self.queue!r}.", remedy=f"Queues are {', '.join(names)}.")

    def takes(self, letter: Letter, when: datetime) -> bool:
        """Whether a letter is one of them."""
        return (
            self.queue_name() in (None, letter.queue)
            and self.error in (None, letter.error_class)
            and (self.type is None or self.type in _type_names(letter.event_type))
            and (self.since is None or when >= self.since)
            and (self.until is None or when <= self.until)
        )


class DeadLetterOffice(Protocol):
    """What people do with dead letters. Two implementations: at the bus and the store, and over HTTP.

    Every method raises `Outage` if a server is away, and `Busy` if somebody else is at the letters for long.
    """

    async def waiting(self, selection: Selection) -> list[Letter]:
        """Letters that are parked, queue by queue, oldest first."""
        ...

    async def decided(self, selection: Selection) -> list[Decision]:
        """Decisions that were carried out, oldest first."""
        ...

    async def show(self, letter_id: str) -> Found:
        """All of one letter, parked or decided about.

        Raises
        ------
        NoSuchLetter
            If none has an id that begins so, or several have.
        """
        ...

    async def redrive(self, ids: Sequence[str], by: str, reason: str = "") -> Moved:
        """Send letters again to the queues that they were parked from.

        Parameters
        ----------
        ids : sequence of str
            Ids, or beginnings of one id each.
        by : str
            Who does it.
        reason : str
            Why, for those who look later.

        Raises
        ------
        NoSuchLetter
            If several ids begin as one that is given. Then nothing is moved.
        Unroutable
            If a queue is not there. What was not sent stays parked.
        """
        ...

    async def discard(self, ids: Sequence[str], by: str, reason: str) -> Moved:
        """Take letters away; the store keeps them. Otherwise as `redrive`.

        Raises
        ------
        NoReason
            If the reason is empty.
        """
        ...


def the_one(beginning: str, ids: Sequence[str]) -> str | None:
    """The id that begins so, or None.

    Raises
    ------
    NoSuchLetter
        If several do.
    """
    found = sorted({one for one in ids if beginning and one.startswith(beginning)})
    if len(found) > 1:
        raise NoSuchLetter(f"{len(found)} dead letters begin with {beginning!r}.", remedy="Give more of the id.")
    return found[0] if found else None


def storable(text: str) -> str:
    """The text with what UTF-8 cannot say (half a surrogate pair) escaped: JSON may carry it, no file can."""
    return text.encode("utf-8", "backslashreplace").decode()


def _envelope(body: bytes) -> dict[str, str]:
    """Texts of an envelope, of whatever version; nothing if it is none."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in fields.items() if isinstance(v, str)} if isinstance(fields, dict) else {}


def _event_id(body: bytes) -> str:
    """Id of an event that this version can read."""
    try:
        _, event = decode(body)
        return event.event_id
    except BadMessage:
        return ""
    except Exception as problem:  # noqa: BLE001 - whatever a reader trips over, the letter is shown all the same
        _log.error("a parked message confuses its reader", problem=repr(problem))
        return ""


def _type_names(cloud_type: str) -> tuple[str, ...]:
    kind = READERS.get(cloud_type)
    return (cloud_type,) if kind is None else (cloud_type, kind.entity_verb, kind.__name__)
