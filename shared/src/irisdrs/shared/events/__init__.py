"""Events: small frozen facts in the past tense, told as CloudEvents."""

from irisdrs.shared.events.calibrations import ContextChanged, ReferenceCertified, ReferenceCreated, ReferenceRejected
from irisdrs.shared.events.envelope import Envelope, decode, encode
from irisdrs.shared.events.event import Event, ExposedEvent, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ProcessingFailed,
    ProductCombined,
    ProductStored,
    ReadFailed,
    ReadWritten,
)
from irisdrs.shared.events.jobs import (
    AssociationDue,
    CombinationRequested,
    ExposureDue,
    ReductionRequested,
    ReprocessRequested,
)
from irisdrs.shared.events.telemetry import PreviewUpdated, ServiceStatus, TelemetrySampled

__all__ = [
    "AssociationDue",
    "CombinationRequested",
    "ContextChanged",
    "Envelope",
    "Event",
    "ExposedEvent",
    "ExposureAborted",
    "ExposureDue",
    "ExposureEnded",
    "ExposureEvent",
    "ExposureStarted",
    "FrameReady",
    "FrameReduced",
    "ObservationEnded",
    "ObservationStarted",
    "PreviewUpdated",
    "ProcessingFailed",
    "ProductCombined",
    "ProductStored",
    "ReadFailed",
    "ReadWritten",
    "ReductionRequested",
    "ReferenceCertified",
    "ReferenceCreated",
    "ReferenceRejected",
    "ReprocessRequested",
    "ServiceStatus",
    "TelemetrySampled",
    "decode",
    "encode",
]
