"""Events: small frozen facts in the past tense, told as CloudEvents."""

from irisdrs.shared.events.envelope import Envelope, decode, encode
from irisdrs.shared.events.event import Event, ExposedEvent, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureDue,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ProcessingFailed,
    ProductStored,
    ReadFailed,
    ReadWritten,
)

__all__ = [
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
    "ProcessingFailed",
    "ProductStored",
    "ReadFailed",
    "ReadWritten",
    "decode",
    "encode",
]
