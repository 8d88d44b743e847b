"""The events of the system, in the order in which a read becomes a product."""

from datetime import datetime

from pydantic import Field

from irisdrs.shared.events.event import Event, ExposedEvent, ExposureEvent
from irisdrs.shared.events.sampled import Sampled
from irisdrs.shared.identifiers import OBSERVATION_PATTERN, SamplingMode
from irisdrs.shared.observation import ObservationPlan, Sampling
from irisdrs.shared.store.port import ObjectRef


class _Planned(Sampled):
    """A fact about a whole observation: it carries the plan."""

    area = ""

    plan: ObservationPlan

    @property
    def subject(self) -> str:
        return self.plan.observation

    @property
    def mode_said(self) -> SamplingMode:
        return self.plan.sampling.mode


class ObservationStarted(_Planned):
    """The edge has stored the plan of an observation and starts it."""

    entity_verb = "observation.started"


class ObservationEnded(_Planned):
    """The last exposure of an observation has ended."""

    entity_verb = "observation.ended"


class ExposureStarted(Sampled, ExposureEvent):
    """A detector starts an exposure; says what will make it complete."""

    entity_verb = "exposure.started"
    area = ""

    sampling: Sampling
    due_at: datetime = Field(description="When the exposure must have ended, with margin (UTC)")
    crds_context: str = Field(description="CRDS context that the observation is pinned to")

    @property
    def mode_said(self) -> SamplingMode:
        return self.sampling.mode


class ExposureEnded(Sampled, ExposureEvent):
    """A detector has ended an exposure; all its reads are in the store."""

    entity_verb = "exposure.ended"
    area = ""

    sampling: Sampling

    @property
    def mode_said(self) -> SamplingMode:
        return self.sampling.mode


class ExposureAborted(ExposureEvent):
    """A detector has given up an exposure; no frame is made of it."""

    entity_verb = "exposure.aborted"
    area = ""

    reason: str = Field(max_length=1000)


class ReadWritten(Sampled, ExposedEvent):
    """One read of a detector is in the store."""

    entity_verb = "read.written"
    area = "readout"

    ramp: int = Field(description="Ramp in the exposure, from 1", ge=1)
    read: int = Field(description="Read in the ramp, from 1", ge=1)
    read_time_s: float = Field(description="End of the read, seconds since the reset", ge=0)
    sampling: Sampling
    object: ObjectRef

    @property
    def subject(self) -> str:
        return f"{self.exposure_id}/{self.ramp:04d}/{self.read:05d}"

    @property
    def mode_said(self) -> SamplingMode:
        return self.sampling.mode


class ReadFailed(ExposureEvent):
    """A read could not be taken or stored: it will not come."""

    entity_verb = "read.failed"
    area = "readout"

    ramp: int = Field(ge=1)
    read: int = Field(ge=1)
    reason: str = Field(max_length=1000)

    @property
    def subject(self) -> str:
        return f"{self.exposure_id}/{self.ramp:04d}/{self.read:05d}/failed"


class FrameReady(Sampled, ExposedEvent):
    """A raw science frame (level 1) is in the store."""

    entity_verb = "frame.ready"
    area = "readout"

    product_id: str
    object: ObjectRef
    sampling_mode: SamplingMode
    reads_used: int = Field(ge=0)
    reads_expected: int = Field(ge=1)
    saturated_fraction: float = Field(description="Fraction of science pixels with a saturated read", ge=0, le=1)
    crds_context: str
    software_version: str
    inputs_hash: str
    job_hash: str

    @property
    def subject(self) -> str:
        return self.product_id

    @property
    def mode_said(self) -> SamplingMode:
        return self.sampling_mode


class FrameReduced(ExposedEvent):
    """A reduced frame (level 2) is in the store."""

    entity_verb = "frame.reduced"
    area = "calibrate"

    product_id: str
    object: ObjectRef
    product_type: str = Field(description="Kind of product: image")
    level: int = Field(ge=2, le=3)
    inputs: tuple[tuple[str, str, str], ...] = Field(description="(role, product id, SHA-256) of each input")
    reads_used: int = Field(ge=0)
    reads_expected: int = Field(ge=1)
    crds_context: str
    references: dict[str, str] = Field(description="Reference type to file name")
    step_versions: dict[str, str] = Field(description="Step to version")
    quality: dict[str, float] = Field(description="Figures of quality: sky level, noise, fraction of bad pixels")
    software_version: str
    inputs_hash: str
    job_hash: str

    @property
    def subject(self) -> str:
        return self.product_id


class ProductCombined(Event):
    """A product made of several frames (level 3) is in the store."""

    entity_verb = "product.combined"
    area = "calibrate"

    product_id: str
    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    object: ObjectRef
    product_type: str = Field(description="Kind of product: mosaic, cube")
    rule: str = Field(description="Association rule that made the group", max_length=64)
    members: ObjectRef = Field(description="The job: members with their roles (JSON in the store)")
    crds_context: str
    quality: dict[str, float] = Field(description="Figures of quality")
    software_version: str
    inputs_hash: str
    job_hash: str

    @property
    def subject(self) -> str:
        return self.product_id

    @property
    def correlation_id(self) -> str:
        return self.observation


class ProductStored(Event):
    """The archive has verified a product and can be asked for it."""

    entity_verb = "product.stored"
    area = "archive"
    mandatory = False

    product_id: str
    object: ObjectRef
    catalogue_id: int

    @property
    def subject(self) -> str:
        return self.product_id


class ProcessingFailed(Event):
    """A handler failed: says what happens next with the event."""

    entity_verb = "processing.failed"
    area = ""
    mandatory = False

    service: str = Field(description="Service whose handler failed")
    queue: str
    failed_event_id: str
    failed_type: str
    attempt: int = Field(ge=1)
    error_class: str
    message: str = Field(max_length=4000)
    outcome: str = Field(description="``retried in N s`` or ``parked``")

    @property
    def routing_key(self) -> str:
        return f"iris.{self.service}.processing.failed"

    @property
    def subject(self) -> str:
        return f"{self.failed_event_id}/{self.queue}/{self.attempt}"
