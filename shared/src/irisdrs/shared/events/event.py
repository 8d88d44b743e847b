"""The three bases of all events, and their identity.

An event is a small frozen fact in the past tense. Its id is computed from what it says, so that the same fact told
twice is one event. Attributes of the *telling* (time, cause, correlation, trace) belong to the envelope.
"""

import json
import uuid
from abc import abstractmethod
from datetime import date, datetime
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irisdrs.shared.identifiers import OBSERVATION_PATTERN, Detector, ExposureId, ExposureType
from irisdrs.shared.store.port import ObjectRef

TYPE_PREFIX = "org.tmt.iris.drs"

#: Name space of event ids (UUIDv5 of the DNS name `drs.iris.tmt.org`).
EVENT_IDS = uuid.uuid5(uuid.NAMESPACE_DNS, "drs.iris.tmt.org")


class Event(BaseModel):
    """A fact. Subclasses name their `entity_verb` (``frame.ready``), `area` and `version`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: ``<entity>.<verb>``: the middle of the CloudEvents type and the end of the routing key.
    entity_verb: ClassVar[str]
    #: Area of the routing key: ``iris.<area>.<entity>.<verb>``.
    area: ClassVar[str]
    #: The whole routing key, where it is not made of area, entity and verb.
    key: ClassVar[str] = ""
    version: ClassVar[int] = 1
    #: Whether a broker must refuse the event when no queue takes it.
    mandatory: ClassVar[bool] = True

    @classmethod
    def cloud_type(cls, version: int | None = None) -> str:
        """CloudEvents `type`, of this version or of another."""
        return f"{TYPE_PREFIX}.{cls.entity_verb}.v{version or cls.version}"

    @classmethod
    def told_versions(cls) -> tuple[int, ...]:
        """Versions that events are told as: this one, and the one before if it is told wherever it says enough."""
        return (cls.version,)

    @property
    def told_version(self) -> int:
        """The version that the event is told as: the oldest of `told_versions` that can say it.

        It depends on nothing but the event, so that a fact has one id (`shared/decisions/0007`).
        """
        return self.version

    @property
    def told_as(self) -> str:
        """CloudEvents `type` that the event is told as."""
        return self.cloud_type(self.told_version)

    @classmethod
    def from_previous(cls, data: dict[str, object]) -> dict[str, object]:
        """The data of the major version before, as this version says them; whoever raises `version` says how.

        It may raise `LookupError` or `TypeError` where the data are not those of that version.
        """
        raise TypeError(f"{cls.cloud_type()} has no version before.")

    @classmethod
    def as_told(cls, data: dict[str, object]) -> Self:
        """An event of this version from data that another minor version may have written: unknown fields are ignored.

        Building an event in code refuses them.

        Raises
        ------
        pydantic.ValidationError
            If a field does not fit.
        """
        return cls.model_validate_json(json.dumps(data), extra="ignore")

    @classmethod
    def at_rest(cls, data: dict[str, object]) -> Self:
        """As `as_told`, of data that do not tell their version: this one, or the major version before.

        Raises
        ------
        pydantic.ValidationError
            If they are of neither.
        """
        try:
            return cls.as_told(data)
        except ValidationError:
            if cls.version == 1:
                raise
        return cls.as_told(cls.from_previous(data))

    @classmethod
    def topic(cls) -> str:
        """Routing key of the type, without what an event adds to it."""
        return cls.key or (f"iris.{cls.area}.{cls.entity_verb}" if cls.area else f"iris.{cls.entity_verb}")

    @property
    def routing_key(self) -> str:
        """Key that the topic exchange routes by."""
        return self.topic()

    @property
    @abstractmethod
    def subject(self) -> str:
        """What the event is about; with the type it is the idempotency key."""

    @property
    def correlation_id(self) -> str:
        """What ties the events of one observation together."""
        return self.subject

    @property
    def announces(self) -> ObjectRef | None:
        """The object that the event announces, if it announces one."""
        found = getattr(self, "object", None)
        return found if isinstance(found, ObjectRef) else None

    @property
    def event_id(self) -> str:
        """UUIDv5 of type, idempotency key and, where it announces an object, its SHA-256."""
        return self.id_of(self.told_as, self.subject)

    def id_of(self, cloud_type: str, subject: str) -> str:
        """Id of the event when it is told as this type, about this subject."""
        announced = self.announces
        parts = [cloud_type, subject, announced.sha256 if announced else ""]
        return str(uuid.uuid5(EVENT_IDS, "|".join(parts)))


class ExposureEvent(Event):
    """A fact about one exposure of one detector."""

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    exposure_type: ExposureType = Field(description="Exposure type")
    exposure: int = Field(description="Exposure number", ge=0, le=9999)
    detector: Detector
    night: date = Field(description="Night, as UT date")

    @property
    def exposure_id(self) -> ExposureId:
        """The exposure that the event is about."""
        return ExposureId(self.observation, self.detector, self.exposure_type, self.exposure)

    @property
    def program(self) -> str:
        """Semester and program."""
        return self.observation[:9]

    @property
    def routing_key(self) -> str:
        return f"{super().routing_key}.{self.detector}"

    @property
    def subject(self) -> str:
        return str(self.exposure_id)

    @property
    def correlation_id(self) -> str:
        return self.observation


class ExposedEvent(ExposureEvent):
    """A fact about photons that were collected: it carries the start of the latency budget."""

    photons_end: datetime = Field(description="When the last photon of it was collected (UTC)")
