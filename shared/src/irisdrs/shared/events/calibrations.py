"""Events about calibration references and CRDS contexts."""

from datetime import datetime

from pydantic import Field

from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import ObjectRef


class ReferenceCreated(Event):
    """A new calibration reference is in the store and waits to be certified."""

    entity_verb = "reference.created"
    area = "calibrate"

    reference_type: str = Field(max_length=64)
    object: ObjectRef
    useafter: datetime = Field(description="From when on it applies (UTC)")
    inputs: tuple[tuple[str, str], ...] = Field(description="(product id, SHA-256) of what it was made from")

    @property
    def subject(self) -> str:
        return self.object.sha256


class _ReferenceJudged(Event):
    """What crds_proxy found out about a new reference."""

    area = "crds"
    mandatory = False

    file_name: str = Field(max_length=256)
    reference_type: str = Field(max_length=64)
    object: ObjectRef
    checks: tuple[str, ...] = Field(description="Checks that were made")

    @property
    def subject(self) -> str:
        return self.object.sha256


class ReferenceCertified(_ReferenceJudged):
    """A reference fits its rules and is part of a new context."""

    entity_verb = "reference.certified"


class ReferenceRejected(_ReferenceJudged):
    """A reference does not fit its rules; the contexts are as they were."""

    entity_verb = "reference.rejected"

    reason: str = Field(max_length=4000)


class ContextChanged(Event):
    """Another context is in force for observations that start from now on."""

    entity_verb = "context.changed"
    area = "crds"
    mandatory = False

    old_context: str
    new_context: str
    types: tuple[str, ...] = Field(description="Reference types that differ")
    number: int = Field(default=0, ge=0, description="Which change of contexts it is; 0: not told")

    @property
    def subject(self) -> str:
        # A roll-back puts a context in force once more, which is another fact.
        return f"{self.new_context}/{self.number}" if self.number else self.new_context
