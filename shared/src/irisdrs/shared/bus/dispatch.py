"""Dispatch: from a delivery to its settlement. The only place that acknowledges.

Take the event, call its handler, publish what it returned, with confirmation, acknowledge last. Whatever happens
before the acknowledgement, the bus delivers the event again.
"""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime

import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from irisdrs.shared.bus.port import Bus, BusOutage, Delivery, ParkingReason
from irisdrs.shared.bus.topology import HOLD_S, QUEUES, RECIRCULATE_S, RETRY_DELAYS_S, Queue
from irisdrs.shared.crash_points import reach
from irisdrs.shared.errors import BadMessage, Fatal, IrisError, NotDue, Outage
from irisdrs.shared.events.envelope import CAUSE, Cause, Envelope, decode, encode
from irisdrs.shared.events.event import Event, ExposedEvent
from irisdrs.shared.events.facts import ProcessingFailed
from irisdrs.shared.events.registry import READERS, Readers
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.service import Handler, Handlers, Service

_log = structlog.get_logger(__name__)

#: Longest wait between two tries while a server is away, seconds: short against the 30 s latency budget.
OUTAGE_WAIT_MAX_S = 10.0

#: First wait between two tries at the broker, seconds.
OUTAGE_WAIT_MIN_S = 0.1


async def publish(
    bus: Bus, source: str, events: Sequence[Event], cause: Envelope | None = None, spent: str = ""
) -> None:
    """Publish events, each confirmed, in order."""
    for event in events:
        await bus.publish(event.routing_key, encode(event, source, cause, spent), mandatory=event.mandatory)


class Dispatcher:
    """Runs the handlers of one service.

    Parameters
    ----------
    bus : Bus
    service : Service
    retry_delays_s : sequence of float
        Delay before each further attempt, seconds; after the last one a message is parked.
    recirculate_s : float
        How long a deadline event rests before it is looked at again, seconds.
    hold_s : float
        Longest that an event is held while a server is away; then it is handed back, its attempt unchanged, seconds.
    metrics : Metrics, optional
    readers : mapping of CloudEvents type to event class, optional
        Which events are read: those of this version, and of the major version before.
    """

    def __init__(
        self,
        bus: Bus,
        service: Service,
        *,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        recirculate_s: float = RECIRCULATE_S,
        hold_s: float = HOLD_S,
        metrics: Metrics | None = None,
        readers: Readers = READERS,
    ) -> None:
        self._bus = bus
        self._service = service
        self._queues = [queue for queue in QUEUES if queue.name in service.handlers]
        self._retry_delays_s = tuple(retry_delays_s)
        self._recirculate_s = recirculate_s
        self._hold_s = hold_s
        self._metrics = metrics or Metrics()
        self._readers = readers
        self._stopping = asyncio.Event()
        self._subscribed: set[str] = set()
        self._waiting: set[str] = set()
        self.in_flight = 0

    @property
    def outage(self) -> bool:
        """Whether a server that the handlers need, or the broker, is away."""
        return bool(self._waiting)

    @property
    def ready(self) -> bool:
        """Whether all queues are consumed and no server is away."""
        return not self.outage and len(self._subscribed) == len(self._queues)

    def stop(self) -> None:
        """Take no further event; `run` returns when what is in flight is settled."""
        self._stopping.set()

    async def run(self) -> None:
        """Consume all queues of the service until stopped or cancelled, or until the process is to die."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stopping.wait())  # a service that takes no events lives until then, too
            for queue in self._queues:
                group.create_task(self._consume(queue), name=queue.name)

    async def _consume(self, queue: Queue) -> None:
        """Consume a queue, and again when the subscription was cut off."""
        pause_s = OUTAGE_WAIT_MIN_S
        while not self._stopping.is_set():
            try:
                async with self._bus.consume(queue) as deliveries:
                    self._back(queue)
                    self._subscribed.add(queue.name)
                    pause_s = OUTAGE_WAIT_MIN_S
                    await self._share(queue, deliveries)
            except BusOutage as error:
                self._away(queue, error)
            finally:
                self._subscribed.discard(queue.name)
            await self._rest(pause_s)
            pause_s = min(2 * pause_s, OUTAGE_WAIT_MAX_S)

    async def _share(self, queue: Queue, deliveries: AsyncIterator[Delivery]) -> None:
        """Let workers share the deliveries; when the subscription is cut off, each finishes what it is at."""
        handlers = self._service.handlers[queue.name]
        turn = asyncio.Lock()
        cuts: list[BusOutage] = []

        async def work() -> None:
            try:
                while (delivery := await self._next(deliveries, turn)) is not None:
                    await self._settle(queue, handlers, delivery)
            except BusOutage as cut:
                cuts.append(cut)

        async with asyncio.TaskGroup() as group:
            for _ in range(queue.concurrency):
                group.create_task(work())
        if cuts:
            raise cuts[0]

    async def _next(self, deliveries: AsyncIterator[Delivery], turn: asyncio.Lock) -> Delivery | None:
        """The next delivery; None when this service stops."""
        async with turn:  # an asynchronous generator serves one caller at a time
            if self._stopping.is_set():
                return None
            delivery = asyncio.ensure_future(anext(deliveries))
            stopping = asyncio.ensure_future(self._stopping.wait())
            try:
                await asyncio.wait({delivery, stopping}, return_when=asyncio.FIRST_COMPLETED)
                return await delivery if delivery.done() else None
            finally:
                delivery.cancel()
                stopping.cancel()

    async def _settle(self, queue: Queue, handlers: Handlers, delivery: Delivery) -> None:
        """Handle one delivery and settle it: the one acknowledgement."""
        envelope = None
        try:
            envelope, event = decode(delivery.body, self._readers)
            handler = handlers.get(type(event))
            if handler is None:
                raise BadMessage(f"{queue.name} takes no {envelope.type}.")
            self._note(queue, envelope, event)
            cause = Cause(envelope, time.monotonic() - delivery.age_s)
            CAUSE.set(cause)  # of this worker alone: it is a task of its own
            events = await self._handle(queue, handler, event, delivery)
            point = self._service.name, *(type(told).__name__ for told in events)
            reach("dispatch.publish.before", *point)
            await self._insist(queue, delivery, lambda: self._publish(events, cause))
            reach("dispatch.publish.after", *point)
        except BusOutage:
            raise  # the broker has taken the delivery back
        except NotDue:
            await self._insist(queue, delivery, lambda: delivery.defer(self._recirculate_s, delivery.attempt))
        except Outage:
            _log.warning("held for too long, handed back", queue=queue.name, subject=_subject(envelope))
            await self._insist(queue, delivery, lambda: delivery.defer(self._recirculate_s, delivery.attempt))
        except Fatal as error:
            await self._park(queue, delivery, envelope, error)
        except Exception as error:  # noqa: BLE001 - a handler's bug must not stop the others
            await self._retry(queue, delivery, envelope, error)
        else:
            reach("dispatch.ack.before", *point)
            await delivery.ack()
            self._told(queue, events)
            _log.debug(
                "handled",
                queue=queue.name,
                event_type=envelope.type,
                subject=envelope.subject,
                attempt=delivery.attempt,
                returned=[type(e).__name__ for e in events],
            )

    async def _handle(self, queue: Queue, handler: Handler, event: Event, delivery: Delivery) -> Sequence[Event]:
        """Call a handler within its time limit; while a server is away, hold the event and try again."""

        def given_up(_: RetryCallState) -> bool:
            return delivery.age_s > self._hold_s or self._stopping.is_set() or delivery.lost

        metrics, labels = self._metrics, (self._service.name, queue.name)
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Outage),
            wait=wait_exponential(max=OUTAGE_WAIT_MAX_S),
            sleep=self._rest,
            stop=given_up,
            reraise=True,
        ):
            with attempt:
                start_s = time.monotonic()
                self.in_flight += 1
                try:
                    with metrics.in_flight.labels(*labels).track_inprogress():
                        async with asyncio.timeout(queue.hard_timeout_s):
                            result: Sequence[Event] = await handler(event)
                except Outage as error:
                    self._away(queue, error)
                    raise
                finally:
                    self.in_flight -= 1
                self._back(queue)
                metrics.handler_seconds.labels(*labels, type(event).__name__).observe(time.monotonic() - start_s)
                return result
        raise AssertionError("unreachable: the last try raises")

    async def _insist(self, queue: Queue, delivery: Delivery, do: Callable[[], Awaitable[None]]) -> None:
        """Do something at the bus, and again while it is away, unless the broker has taken the delivery back."""
        pause_s = OUTAGE_WAIT_MIN_S
        while True:
            try:
                await do()
            except BusOutage as error:
                self._away(queue, error)
                if delivery.lost or self._stopping.is_set():
                    raise
            else:
                if pause_s > OUTAGE_WAIT_MIN_S:
                    self._back(queue)
                return
            await self._rest(pause_s)
            pause_s = min(2 * pause_s, OUTAGE_WAIT_MAX_S)

    async def _retry(self, queue: Queue, delivery: Delivery, envelope: Envelope | None, error: Exception) -> None:
        if delivery.attempt > len(self._retry_delays_s):
            await self._park(queue, delivery, envelope, error)
            return
        delay_s = self._retry_delays_s[delivery.attempt - 1]
        _log.warning(
            "handler failed, will be retried",
            queue=queue.name,
            subject=_subject(envelope),
            attempt=delivery.attempt,
            delay_s=delay_s,
            exc_info=error,
        )
        await self._tell(queue, delivery, envelope, error, f"retried in {delay_s:g} s")
        await self._insist(queue, delivery, lambda: delivery.defer(delay_s, delivery.attempt + 1))

    async def _park(self, queue: Queue, delivery: Delivery, envelope: Envelope | None, error: Exception) -> None:
        _log.error(
            "event parked",
            queue=queue.name,
            subject=_subject(envelope),
            error_class=type(error).__name__,
            problem=_describe(error),
        )
        await self._tell(queue, delivery, envelope, error, "parked")
        reason = ParkingReason(type(error).__name__, _describe(error), "".join(traceback.format_exception(error)))
        await self._insist(queue, delivery, lambda: delivery.park(reason))
        self._metrics.parked.labels(self._service.name, queue.name, type(error).__name__).inc()

    async def _tell(
        self, queue: Queue, delivery: Delivery, envelope: Envelope | None, error: Exception, outcome: str
    ) -> None:
        self._metrics.failed.labels(self._service.name, queue.name, type(error).__name__).inc()
        failed = ProcessingFailed(
            service=self._service.name,
            queue=queue.name,
            failed_event_id=envelope.id if envelope else "unreadable",
            failed_type=envelope.type if envelope else "unreadable",
            attempt=delivery.attempt,
            error_class=type(error).__name__,
            message=_describe(error)[:4000],
            outcome=outcome,
        )
        await self._insist(queue, delivery, lambda: publish(self._bus, self._service.name, [failed], envelope))

    def _note(self, queue: Queue, envelope: Envelope, event: Event) -> None:
        """Count an event and how long it has been under way."""
        labels = self._service.name, queue.name
        self._metrics.events_in.labels(*labels, type(event).__name__).inc()
        if event.announces is not None:
            self._metrics.object_bytes.labels(self._service.name, "in").inc(event.announces.size)
        hop_s = (datetime.now(UTC) - envelope.time).total_seconds()
        if hop_s < 0:
            self._metrics.clock_skew.labels(*labels).inc()
        else:
            self._metrics.hop_seconds.labels(*labels).observe(hop_s)

    async def _publish(self, events: Sequence[Event], cause: Cause) -> None:
        await publish(self._bus, self._service.name, events, cause.envelope, cause.spent_by(self._service.name))

    def _told(self, queue: Queue, events: Sequence[Event]) -> None:
        for event in events:
            self._metrics.events_out.labels(self._service.name, type(event).__name__).inc()
            if isinstance(event, ExposedEvent):
                self._metrics.note_latency(self._service.name, queue.name, type(event).__name__, event.photons_end)
            if event.announces is not None:
                self._metrics.object_bytes.labels(self._service.name, "out").inc(event.announces.size)

    def _away(self, queue: Queue, problem: Outage) -> None:
        if queue.name not in self._waiting:
            _log.warning("waiting for a server", queue=queue.name, problem=str(problem))
        self._waiting.add(queue.name)
        self._metrics.outage.labels(self._service.name).set(1)

    def _back(self, queue: Queue) -> None:
        if queue.name in self._waiting:
            _log.info("the server is back", queue=queue.name)
        self._waiting.discard(queue.name)
        self._metrics.outage.labels(self._service.name).set(int(self.outage))

    async def _rest(self, seconds: float) -> None:
        """Wait, but not when this service stops."""
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


def _subject(envelope: Envelope | None) -> str:
    return envelope.subject if envelope else "unreadable"


def _describe(error: Exception) -> str:
    if isinstance(error, IrisError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "The handler ran longer than its time limit."
    return f"{type(error).__name__}: {error}"
