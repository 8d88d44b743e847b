"""Events that ask for work: they travel on the exchange `iris.work`, one queue for each lane."""

import hashlib
import json
from datetime import datetime

from pydantic import Field

from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import FrameReady
from irisdrs.shared.events.sampled import Sampled
from irisdrs.shared.identifiers import OBSERVATION_PATTERN, SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.store.port import ObjectRef


class ExposureDue(Sampled, ExposureEvent):
    """Deadline of an exposure: recirculates until it is due."""

    entity_verb = "exposure.due"
    area = "work"

    due_at: datetime = Field(description="When it is due (UTC)")
    sampling: Sampling

    @property
    def mode_said(self) -> SamplingMode:
        return self.sampling.mode


class AssociationDue(Event):
    """Deadline of an observation's groups: what is there by then is combined."""

    entity_verb = "association.due"
    area = "work"

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    due_at: datetime = Field(description="When it is due (UTC)")

    @property
    def subject(self) -> str:
        return self.observation


class CombinationRequested(Event):
    """Frames of a group are to be combined into one product."""

    entity_verb = "combination.requested"
    area = "work"
    key = "iris.work.combine"

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    rule: str = Field(description="Association rule that made the group", max_length=64)
    job: ObjectRef = Field(description="Members with their roles, what is missing, parameters (JSON in the store)")
    crds_context: str

    @property
    def subject(self) -> str:
        return f"{self.observation}/{self.rule}/{self.job.sha256[:16]}"

    @property
    def correlation_id(self) -> str:
        return self.observation


class ReductionRequested(Sampled):
    """A frame is to be reduced again, whatever products of it there are, unless this very job was done."""

    entity_verb = "reduction.requested"
    area = "work"
    key = "iris.work.reduce"

    frame: FrameReady
    crds_context: str = Field(description="Context to reduce under; the frame's own may be older")
    request: str = Field(description="Id of the reprocess request", max_length=64)

    @property
    def subject(self) -> str:
        job = json.dumps([self.frame.object.sha256, self.crds_context, self.request])
        return f"{self.frame.product_id}/{hashlib.sha256(job.encode()).hexdigest()[:16]}"

    @property
    def correlation_id(self) -> str:
        return self.request

    @property
    def mode_said(self) -> SamplingMode:
        return self.frame.sampling_mode


class ReprocessRequested(Event):
    """Somebody asks for everything that a selection finds to be reduced again."""

    entity_verb = "reprocess.requested"
    area = "work"
    key = "iris.work.reprocess"

    request: str = Field(description="Id of the request", max_length=64)
    selection: str = Field(description="Archive query that selects the frames", max_length=8000)
    crds_context: str = Field(description="Context to reduce under")
    reason: str = Field(max_length=1000)
    requested_by: str = Field(max_length=200)
    requested_at: datetime = Field(description="When it was asked for (UTC)")

    @property
    def subject(self) -> str:
        return self.request
