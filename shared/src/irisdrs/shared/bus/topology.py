"""The topology: one table. Adapters, manifests and pictures are made from it or tested against it."""

from dataclasses import dataclass
from typing import Literal

from irisdrs.shared.events import (
    AssociationDue,
    CombinationRequested,
    ContextChanged,
    Event,
    ExposureAborted,
    ExposureDue,
    ExposureEnded,
    ExposureEvent,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    PreviewUpdated,
    ProcessingFailed,
    ProductCombined,
    ProductStored,
    ReadFailed,
    ReadWritten,
    ReductionRequested,
    ReferenceCertified,
    ReferenceCreated,
    ReferenceRejected,
    ReprocessRequested,
    ServiceStatus,
    TelemetrySampled,
)
from irisdrs.shared.identifiers import Detector

#: Topic exchange of facts.
EVENTS = "iris.events"

#: Topic exchange of jobs and deadlines: what is for one service only.
WORK = "iris.work"

#: Direct exchange that leads what the broker itself puts aside (a crash loop) to the queue's parking.
PARKING = "iris.parking"

#: Delays of the retry stage, seconds; the attempt after the last one parks the event.
RETRY_DELAYS_S = (5.0, 30.0, 300.0, 300.0, 300.0)

#: How long a deadline event rests before it is looked at again, seconds.
RECIRCULATE_S = 30.0

#: Each queue has a retry queue for each of these delays, by the end of its name, seconds.
RETRY_STAGES = {"5s": 5.0, "30s": 30.0, "5m": 300.0}

#: Longest that an event may be held while a server is away before it is handed back, seconds. With the longest
#: handler it stays below `CONSUMER_TIMEOUT_S`.
HOLD_S = 600.0

#: After this time the broker takes a consumer for stuck (`consumer_timeout`; 30 min is RabbitMQ's default), seconds.
CONSUMER_TIMEOUT_S = 1800.0

#: A queue behind which work waits that nothing may wait for.
Lane = Literal["realtime", "combine", "bulk"]


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
    lane : str
        Real-time work never shares a queue or a process with the other lanes.
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
    lane: Lane = "realtime"
    prefetch: int = 1
    concurrency: int = 1
    single_active: bool = False
    delivery_limit: int = 5
    hard_timeout_s: float = 120.0

    def binding_keys(self) -> tuple[str, ...]:
        """Routing keys that lead to the queue, as an AMQP topic exchange understands them."""
        return tuple(binding_key(kind, self.detector) for kind in self.takes)

    @property
    def parking(self) -> str:
        """Where its messages are parked."""
        return f"{self.name}.parking"

    def retry(self, delay_s: float) -> str:
        """Name of its shortest retry queue that delays at least so long; the longest one if none does."""
        stages = sorted(RETRY_STAGES.items(), key=lambda stage: stage[1])
        stage = next((name for name, stage_s in stages if stage_s >= delay_s), stages[-1][0])
        return f"{self.name}.retry.{stage}"


def binding_key(kind: type[Event], detector: Detector | None = None) -> str:
    """Key that binds to all events of a type, or to those of one detector."""
    if issubclass(kind, ExposureEvent):
        return f"{kind.topic()}.{detector or '*'}"
    if kind is ProcessingFailed:
        return "iris.*.processing.failed"
    return kind.topic()


def exchange_of(routing_key: str) -> str:
    """Exchange that takes messages with this key."""
    return WORK if routing_key.startswith(f"{WORK}.") else EVENTS


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
CALIBRATE_COMBINE = "iris.q.calibrate.combine"
CALIBRATE_BULK = "iris.q.calibrate.bulk"
CALIBRATE_PLAN = "iris.q.calibrate.plan"
CRDS = "iris.q.crds"
CRDS_PRELOAD = "iris.q.crds.preload"
ARCHIVE = "iris.q.archive"

QUEUES: tuple[Queue, ...] = (
    *(_readout(detector) for detector in Detector),
    Queue(name=CALIBRATE_REALTIME, service="calibrate", takes=(FrameReady,), hard_timeout_s=300.0),
    Queue(
        name=CALIBRATE_COMBINE,
        service="calibrate",
        takes=(CombinationRequested,),
        lane="combine",
        hard_timeout_s=900.0,
    ),
    Queue(name=CALIBRATE_BULK, service="calibrate", takes=(ReductionRequested,), lane="bulk", hard_timeout_s=300.0),
    Queue(
        name=CALIBRATE_PLAN,
        service="calibrate",
        takes=(AssociationDue, ReprocessRequested),
        lane="combine",
        single_active=True,
    ),
    Queue(name=CRDS, service="crds_proxy", takes=(ReferenceCreated,), single_active=True, hard_timeout_s=600.0),
    # Of its own: a delivery takes seconds, and an observation that starts meanwhile does not wait for it.
    Queue(name=CRDS_PRELOAD, service="crds_proxy", takes=(ObservationStarted,), hard_timeout_s=600.0),
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
        delivery_limit=20,  # a crash returns innocent messages too
    ),
)

#: Who tells the events of each type.
PRODUCERS: dict[type[Event], tuple[str, ...]] = {
    ObservationStarted: ("edge",),
    ObservationEnded: ("edge",),
    ExposureStarted: ("edge",),
    ExposureEnded: ("edge",),
    ExposureAborted: ("edge",),
    ReadWritten: ("edge",),
    ReadFailed: ("edge",),
    TelemetrySampled: ("edge",),
    ExposureDue: ("readout",),
    FrameReady: ("readout",),
    PreviewUpdated: ("readout", "archive"),
    FrameReduced: ("calibrate",),
    AssociationDue: ("calibrate",),
    CombinationRequested: ("calibrate",),
    ReductionRequested: ("calibrate",),
    ProductCombined: ("calibrate",),
    ReferenceCreated: ("calibrate",),
    ReferenceCertified: ("crds_proxy",),
    ReferenceRejected: ("crds_proxy",),
    ContextChanged: ("crds_proxy",),
    ProductStored: ("archive",),
    ReprocessRequested: ("operator",),
    ProcessingFailed: ("readout", "calibrate", "crds_proxy", "archive"),
    ServiceStatus: ("readout", "calibrate", "crds_proxy", "archive"),
}


def readout_queue(detector: Detector) -> str:
    """Name of the queue of one detector's reads."""
    return _readout(detector).name
