"""The topology: one table. Adapters, manifests and pictures are made from it or tested against it."""

from dataclasses import dataclass

from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureDue,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ReadFailed,
    ReadWritten,
)
from irisdrs.shared.identifiers import Detector

EVENTS = "iris.events"
WORK = "iris.work"

#: Delays of the retry stage, seconds; the attempt after the last one parks the event.
RETRY_DELAYS_S = (5.0, 30.0, 300.0, 300.0, 300.0)

#: How long a deadline event rests before it is looked at again, seconds.
RECIRCULATE_S = 30.0


@dataclass(frozen=True, slots=True)
class Queue:
    """One row: who takes which events, and how.

    Attributes
    ----------
    name : str
    service : str
        The service that consumes it.
    takes : tuple of event types
    detector : Detector, optional
        Only events of this detector.
    prefetch : int
        Unacknowledged messages that a consumer may hold.
    concurrency : int
        Handlers of this queue that run at the same time in one process.
    single_active : bool
        One consumer at a time; the others stand by.
    delivery_limit : int
        Deliveries after which a message is parked as ``crash-loop``.
    hard_timeout_s : float
        Longest a handler may run, seconds.
    """

    name: str
    service: str
    takes: tuple[type[Event], ...]
    detector: Detector | None = None
    prefetch: int = 1
    concurrency: int = 1
    single_active: bool = False
    delivery_limit: int = 5
    hard_timeout_s: float = 120.0

    def binding_keys(self) -> tuple[str, ...]:
        """Routing keys that lead to the queue, as an AMQP topic exchange understands them."""
        return tuple(_binding(kind, self.detector) for kind in self.takes)

    @property
    def parking(self) -> str:
        """Where its messages are parked."""
        return f"{self.name}.parking"


def _binding(kind: type[Event], detector: Detector | None) -> str:
    key = f"iris.{kind.area}.{kind.entity_verb}" if kind.area else f"iris.{kind.entity_verb}"
    if not issubclass(kind, ExposureEvent):
        return key
    return f"{key}.{detector or '*'}"


def _readout(detector: Detector) -> Queue:
    return Queue(
        name=f"iris.q.readout.{detector}",
        service="readout",
        takes=(ExposureStarted, ReadWritten, ReadFailed, ExposureEnded, ExposureAborted, ExposureDue),
        detector=detector,
        prefetch=64,
        single_active=True,
        delivery_limit=100,  # a crash returns innocent messages too
        hard_timeout_s=300.0,
    )


CALIBRATE_REALTIME = "iris.q.calibrate.realtime"
ARCHIVE = "iris.q.archive"

QUEUES: tuple[Queue, ...] = (
    *(_readout(detector) for detector in Detector),
    Queue(name=CALIBRATE_REALTIME, service="calibrate", takes=(FrameReady,), hard_timeout_s=300.0),
    Queue(
        name=ARCHIVE,
        service="archive",
        takes=(
            ObservationStarted,
            ObservationEnded,
            ExposureStarted,
            ExposureEnded,
            ExposureAborted,
            ReadWritten,
            FrameReady,
            FrameReduced,
        ),
        prefetch=64,
        concurrency=4,
    ),
)


def readout_queue(detector: Detector) -> str:
    """Name of the queue of one detector's reads."""
    return _readout(detector).name


def queues_for(event: Event) -> list[Queue]:
    """Queues that an event goes to: what the topic exchange will do."""
    return [
        queue
        for queue in QUEUES
        if isinstance(event, queue.takes)
        and (queue.detector is None or not isinstance(event, ExposureEvent) or event.detector == queue.detector)
    ]
