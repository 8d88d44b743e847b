"""Dispatch: from a delivery to its settlement. The only place that acknowledges.

Take the event, call its handler, publish what it returned, with confirmation, acknowledge last. Whatever happens
before the acknowledgement, the bus delivers the event again.
"""

import asyncio
import traceback
from collections.abc import AsyncIterator, Sequence

import structlog
from tenacity import AsyncRetrying, retry_if_exception_type, wait_exponential

from irisdrs.shared.bus.port import Bus, Delivery, ParkingReason
from irisdrs.shared.bus.topology import QUEUES, RECIRCULATE_S, RETRY_DELAYS_S, Queue
from irisdrs.shared.crash_points import reach
from irisdrs.shared.errors import BadMessage, Fatal, IrisError, NotDue, Outage
from irisdrs.shared.events.envelope import Envelope, decode, encode
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.facts import ProcessingFailed
from irisdrs.shared.service import Handler, Handlers, Service

_log = structlog.get_logger(__name__)

#: Longest wait between two tries while a server is away, seconds: short against the 30 s latency budget.
OUTAGE_WAIT_MAX_S = 10.0


async def publish(bus: Bus, source: str, events: Sequence[Event], cause: Envelope | None = None) -> None:
    """Publish events, each confirmed, in order."""
    for event in events:
        await bus.publish(event.routing_key, encode(event, source, cause), mandatory=event.mandatory)


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
    """

    def __init__(
        self,
        bus: Bus,
        service: Service,
        *,
        retry_delays_s: Sequence[float] = RETRY_DELAYS_S,
        recirculate_s: float = RECIRCULATE_S,
    ) -> None:
        self._bus = bus
        self._service = service
        self._retry_delays_s = tuple(retry_delays_s)
        self._recirculate_s = recirculate_s
        #: Whether a server that the handlers need is away; while it is, the service is not ready.
        self.outage = False

    async def run(self) -> None:
        """Consume all queues of the service until cancelled, or until the process is to die."""
        async with asyncio.TaskGroup() as group:
            for queue in QUEUES:
                if queue.name in self._service.handlers:
                    group.create_task(self._consume(queue), name=queue.name)

    async def _consume(self, queue: Queue) -> None:
        handlers = self._service.handlers[queue.name]
        async with self._bus.consume(queue) as deliveries, asyncio.TaskGroup() as group:
            turn = asyncio.Lock()
            for _ in range(queue.concurrency):
                group.create_task(self._work(queue, handlers, deliveries, turn))

    async def _work(
        self, queue: Queue, handlers: Handlers, deliveries: AsyncIterator[Delivery], turn: asyncio.Lock
    ) -> None:
        while True:
            async with turn:  # an asynchronous generator serves one caller at a time
                delivery = await anext(deliveries)
            await self._settle(queue, handlers, delivery)

    async def _settle(self, queue: Queue, handlers: Handlers, delivery: Delivery) -> None:
        """Handle one delivery and settle it: the one acknowledgement."""
        try:
            envelope, event = decode(delivery.body)
            handler = handlers.get(type(event))
            if handler is None:
                raise BadMessage(f"{queue.name} takes no {envelope.type}.")
        except BadMessage as error:
            await self._park(queue, delivery, None, error)
            return
        log = _log.bind(queue=queue.name, event_type=envelope.type, subject=envelope.subject, attempt=delivery.attempt)
        try:
            events = await self._handle(queue, handler, event)
            reach("dispatch.publish.before")
            await publish(self._bus, self._service.name, events, envelope)
            reach("dispatch.publish.after")
        except NotDue:
            await delivery.defer(self._recirculate_s, delivery.attempt)
        except Fatal as error:
            await self._park(queue, delivery, envelope, error)
        except Exception as error:  # noqa: BLE001 - a handler's bug must not stop the others
            await self._retry(queue, delivery, envelope, error)
        else:
            reach("dispatch.ack.before")
            await delivery.ack()
            log.debug("handled", returned=[type(e).__name__ for e in events])

    async def _handle(self, queue: Queue, handler: Handler, event: Event) -> Sequence[Event]:
        """Call a handler within its time limit; while a server is away, hold the event and try again."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(Outage), wait=wait_exponential(max=OUTAGE_WAIT_MAX_S), reraise=True
        ):
            with attempt:
                try:
                    async with asyncio.timeout(queue.hard_timeout_s):
                        result: Sequence[Event] = await handler(event)
                except Outage as error:
                    self.outage = True
                    _log.warning("waiting for a server", queue=queue.name, problem=str(error))
                    raise
                self.outage = False
                return result
        raise AssertionError("unreachable: retries without end")

    async def _retry(self, queue: Queue, delivery: Delivery, envelope: Envelope, error: Exception) -> None:
        if delivery.attempt > len(self._retry_delays_s):
            await self._park(queue, delivery, envelope, error)
            return
        delay_s = self._retry_delays_s[delivery.attempt - 1]
        _log.warning(
            "handler failed, will be retried",
            queue=queue.name,
            subject=envelope.subject,
            attempt=delivery.attempt,
            delay_s=delay_s,
            exc_info=error,
        )
        await self._tell(queue, delivery, envelope, error, f"retried in {delay_s:g} s")
        await delivery.defer(delay_s, delivery.attempt + 1)

    async def _park(self, queue: Queue, delivery: Delivery, envelope: Envelope | None, error: Exception) -> None:
        _log.error(
            "event parked",
            queue=queue.name,
            subject=envelope.subject if envelope else "unreadable",
            error_class=type(error).__name__,
            problem=_describe(error),
        )
        await self._tell(queue, delivery, envelope, error, "parked")
        text = "".join(traceback.format_exception(error))
        await delivery.park(ParkingReason(type(error).__name__, _describe(error), text))

    async def _tell(
        self, queue: Queue, delivery: Delivery, envelope: Envelope | None, error: Exception, outcome: str
    ) -> None:
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
        await publish(self._bus, self._service.name, [failed], envelope)


def _describe(error: Exception) -> str:
    if isinstance(error, IrisError):
        return str(error)
    if isinstance(error, TimeoutError):
        return "The handler ran longer than its time limit."
    return f"{type(error).__name__}: {error}"
