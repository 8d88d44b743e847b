"""Events that tell how things are going: some may be lost without harm."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.identifiers import OBSERVATION_PATTERN, ExposureType
from irisdrs.shared.store.port import ObjectRef


class TelemetrySampled(Event):
    """A telemetry value during an exposure: seeing, airmass, temperatures; the table in the store has it too."""

    entity_verb = "telemetry.sampled"
    area = ""
    mandatory = False

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    exposure_type: ExposureType
    exposure: int = Field(ge=0, le=9999)
    sequence: int = Field(description="Number of the sample in the exposure", ge=0)
    keyword: str = Field(description="Keyword of the IRIS dictionary", pattern="^[A-Z0-9_-]{1,8}$")
    value: float | str
    unit: str = Field(max_length=32)
    sampled_at: datetime = Field(description="When it was measured (UTC)")

    @property
    def subject(self) -> str:
        return f"{self.observation}/{self.exposure_type}0-{self.exposure:04d}/{self.sequence}"

    @property
    def correlation_id(self) -> str:
        return self.observation


class PreviewUpdated(ExposureEvent):
    """A small image of an exposure that is still running, or of a product."""

    entity_verb = "preview.updated"
    area = "archive"
    mandatory = False

    object: ObjectRef
    read: int = Field(description="Reads that are in it", ge=1)
    reads: int = Field(description="Reads of the exposure", ge=1)

    @property
    def subject(self) -> str:
        return f"{self.exposure_id}/{self.read}"


class ServiceStatus(Event):
    """How one process of a service is; told every few seconds."""

    entity_verb = "service.reported"
    area = "telemetry"
    key = "iris.telemetry.service"
    mandatory = False

    service: str
    instance: str = Field(description="Host and process id")
    software_version: str
    state: Literal["starting", "ready", "outage", "stopping"]
    in_flight: int = Field(description="Events in handlers", ge=0)
    device: str = Field(description="cpu, or the GPU")
    lag_s: float = Field(description="Worst delay of the event loop since the last report, seconds", ge=0)
    reported_at: datetime = Field(description="When (UTC)")

    @property
    def subject(self) -> str:
        return f"{self.instance}/{self.reported_at.isoformat()}"

    @property
    def correlation_id(self) -> str:
        return self.instance
