"""Dispatch: the one acknowledgement, and what becomes of events that cannot be handled."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta

import pytest

from irisdrs.shared import crash_points
from irisdrs.shared.bus.dispatch import Dispatcher, publish
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.topology import ARCHIVE, CALIBRATE_REALTIME, HOLD_S, QUEUES
from irisdrs.shared.errors import CorruptObject, NotDue, Outage, Retryable
from irisdrs.shared.events import Event, FrameReady, ProcessingFailed, ProductStored, decode, encode
from irisdrs.shared.events.envelope import CAUSE
from irisdrs.shared.events.spent import parse
from irisdrs.shared.identifiers import Detector, ExposureType, SamplingMode
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.service import Service
from irisdrs.shared.store.port import ObjectRef

QUEUE = next(queue for queue in QUEUES if queue.name == CALIBRATE_REALTIME)
SOON_S = 20.0

FRAME = FrameReady(
    observation="2034B-007-123",
    exposure_type=ExposureType.SCI,
    exposure=34,
    detector=Detector.IMG1,
    night=date(2034, 8, 1),
    photons_end=datetime(2034, 8, 1, 5, tzinfo=UTC),
    product_id="2034B-007-123-IRIS-IMG1-SCI0-0034-L1-raw",
    object=ObjectRef(key="1/a.fits", sha256="a" * 64, size=1),
    sampling_mode=SamplingMode.UTR,
    reads_used=8,
    reads_expected=8,
    saturated_fraction=0.0,
    crds_context="tmt_0001.pmap",
    software_version="0",
    inputs_hash="b" * 64,
    job_hash="c" * 64,
)
STORED = ProductStored(product_id=FRAME.product_id, object=FRAME.object, catalogue_id=1)

HandleFrame = Callable[[FrameReady], Awaitable[Sequence[Event]]]


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    yield bus
    bus.close()
    crash_points.disarm()


@asynccontextmanager
async def dispatching(
    bus: MemoryBus, handler: HandleFrame, *, hold_s: float = HOLD_S, metrics: Metrics | None = None
) -> AsyncIterator[Dispatcher]:
    service = Service("calibrate", {CALIBRATE_REALTIME: {FrameReady: handler}})
    dispatcher = Dispatcher(
        bus, service, retry_delays_s=(0.01, 0.01), recirculate_s=0.01, hold_s=hold_s, metrics=metrics
    )
    task = asyncio.create_task(dispatcher.run())
    try:
        yield dispatcher
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(bus: MemoryBus) -> None:
    """Wait until the queue has nothing left, delayed messages included."""
    async with asyncio.timeout(SOON_S):
        while bus.depths()[CALIBRATE_REALTIME]:
            await asyncio.sleep(0.005)


async def test_publishes_what_the_handler_returns_caused_by_what_it_took(bus: MemoryBus) -> None:
    async def handle(event: FrameReady) -> Sequence[Event]:
        assert event == FRAME
        return [STORED]

    async with bus.listen("iris.archive.#") as stored, dispatching(bus, handle):
        await publish(bus, "readout", [FRAME])
        envelope, event = decode(await asyncio.wait_for(anext(stored), SOON_S))
        await settled(bus)
    assert event == STORED
    assert envelope.causationid == FRAME.event_id
    assert await bus.parked(QUEUE) == []


async def test_a_fatal_error_parks_at_once_with_its_reason(bus: MemoryBus) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        raise CorruptObject("the frame is damaged", remedy="restore it")

    async with bus.listen("iris.*.processing.failed") as failures, dispatching(bus, handle):
        await publish(bus, "readout", [FRAME])
        await settled(bus)
        _, failed = decode(await asyncio.wait_for(anext(failures), SOON_S))
    (parked,) = await bus.parked(QUEUE)
    assert len(calls) == 1
    assert (parked.reason.error_class, parked.reason.message) == ("CorruptObject", "the frame is damaged restore it")
    assert "CorruptObject" in parked.reason.traceback
    assert isinstance(failed, ProcessingFailed)
    assert (failed.failed_event_id, failed.outcome) == (FRAME.event_id, "parked")


async def test_other_errors_are_retried_and_then_parked(bus: MemoryBus) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        raise Retryable("not yet")

    async with dispatching(bus, handle):
        await publish(bus, "readout", [FRAME])
        await settled(bus)
    assert len(calls) == 3  # one, and one after each of two delays
    (parked,) = await bus.parked(QUEUE)
    assert parked.attempts == 3


async def test_a_handlers_bug_parks_its_event_and_not_the_next(bus: MemoryBus) -> None:
    done = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        if event.exposure == 34:
            raise ZeroDivisionError("a bug")
        done.append(event.exposure)
        return []

    other = FRAME.model_copy(update={"exposure": 35, "product_id": FRAME.product_id.replace("0034", "0035")})
    async with dispatching(bus, handle):
        await publish(bus, "readout", [FRAME, other])
        await settled(bus)
    assert done == [35]
    assert [parked.reason.error_class for parked in await bus.parked(QUEUE)] == ["ZeroDivisionError"]


async def test_an_outage_uses_up_no_attempt(bus: MemoryBus) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        if len(calls) == 1:
            raise Outage("the store is away")
        if len(calls) < 4:
            raise Retryable("not yet")
        return []

    async with dispatching(bus, handle) as dispatcher:
        await publish(bus, "readout", [FRAME])
        await settled(bus)
        assert not dispatcher.outage
    assert len(calls) == 4  # the outage, and all three attempts
    assert await bus.parked(QUEUE) == []


async def test_what_is_held_for_too_long_is_handed_back_and_uses_up_no_attempt(bus: MemoryBus) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        if len(calls) < 6:  # more often than there are attempts
            raise Outage("the store is away")
        return []

    async with dispatching(bus, handle, hold_s=-1.0) as dispatcher:
        await publish(bus, "readout", [FRAME])
        await settled(bus)
        assert dispatcher.ready
    assert len(calls) == 6
    assert await bus.parked(QUEUE) == []


async def test_an_event_that_is_too_large_for_the_bus_parks_what_caused_it(bus: MemoryBus) -> None:
    async def handle(event: FrameReady) -> Sequence[Event]:
        return [STORED.model_copy(update={"product_id": "x" * 70_000})]

    async with dispatching(bus, handle):
        await publish(bus, "readout", [FRAME])
        await settled(bus)
    (parked,) = await bus.parked(QUEUE)
    assert parked.reason.error_class == "EventTooLarge"
    assert "at most 65536 travel" in parked.reason.message


async def test_stopping_finishes_what_is_in_flight_and_leaves_the_rest(bus: MemoryBus) -> None:
    started, finish, done = asyncio.Event(), asyncio.Event(), []

    async def handle(event: FrameReady) -> Sequence[Event]:
        started.set()
        await finish.wait()
        done.append(event)
        return []

    dispatcher = Dispatcher(bus, Service("calibrate", {CALIBRATE_REALTIME: {FrameReady: handle}}))
    running = asyncio.create_task(dispatcher.run())
    await publish(bus, "readout", [FRAME, FRAME])
    await asyncio.wait_for(started.wait(), SOON_S)
    dispatcher.stop()
    finish.set()
    await asyncio.wait_for(running, SOON_S)
    assert done == [FRAME]
    assert bus.depths()[CALIBRATE_REALTIME] == 1


async def test_figures_of_what_went_in_and_out(bus: MemoryBus) -> None:
    async def handle(event: FrameReady) -> Sequence[Event]:
        return [STORED] if event.exposure == 34 else [][1]

    metrics = Metrics()
    other = FRAME.model_copy(update={"exposure": 35, "product_id": FRAME.product_id.replace("0034", "0035")})
    async with dispatching(bus, handle, metrics=metrics):
        await publish(bus, "readout", [FRAME, other])
        await settled(bus)
    figure = metrics.registry.get_sample_value
    queue = {"service": "calibrate", "queue": CALIBRATE_REALTIME}
    assert figure("iris_events_in_total", {**queue, "type": "FrameReady"}) == 4.0  # one, and three attempts
    assert figure("iris_events_out_total", {"service": "calibrate", "type": "ProductStored"}) == 1.0
    assert figure("iris_events_failed_total", {**queue, "error_class": "IndexError"}) == 3.0
    assert figure("iris_events_parked_total", {**queue, "error_class": "IndexError"}) == 1.0
    assert figure("iris_handler_seconds_count", {**queue, "type": "FrameReady"}) == 1.0
    assert figure("iris_hop_seconds_count", queue) == 4.0
    assert figure("iris_events_in_flight", queue) == 0.0
    assert figure("iris_object_bytes_total", {"service": "calibrate", "direction": "out"}) == 1.0


async def test_what_a_service_spends_travels_with_what_it_tells(bus: MemoryBus) -> None:
    causes = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        causes.append(CAUSE.get())
        await asyncio.sleep(0.05)
        return [STORED]

    async with bus.listen("iris.archive.#") as stored, dispatching(bus, handle):
        await bus.publish(FRAME.routing_key, encode(FRAME, "readout", spent="readout:1.204"), mandatory=True)
        envelope, _ = decode(await asyncio.wait_for(anext(stored), SOON_S))
        await settled(bus)
    spent = parse(envelope.spent)
    assert list(spent) == ["readout", "calibrate"]
    assert spent["readout"] == 1.204
    assert spent["calibrate"] >= 0.05
    (cause,) = causes
    assert cause is not None
    assert (cause.envelope.id, cause.envelope.spent) == (FRAME.event_id, "readout:1.204")
    assert CAUSE.get() is None  # here, outside of a handler


async def test_latencies_are_figures_and_those_of_the_future_are_clock_skew(bus: MemoryBus) -> None:
    now = datetime.now(UTC)
    ages_s = {1: 12.0, 2: -300.0, 3: 86_400.0}  # in time; of a clock that is ahead; told again a day later

    async def handle(event: FrameReady) -> Sequence[Event]:
        if event.exposure == 9:  # what was told comes back to the same queue
            return []
        photons_end = now - timedelta(seconds=ages_s[event.exposure])
        return [event.model_copy(update={"photons_end": photons_end, "exposure": 9})]

    metrics = Metrics()
    async with dispatching(bus, handle, metrics=metrics):
        await publish(bus, "readout", [FRAME.model_copy(update={"exposure": number}) for number in ages_s])
        await settled(bus)
    figure = metrics.registry.get_sample_value
    told = {"service": "calibrate", "type": "FrameReady"}
    assert figure("iris_latency_seconds_count", told) == 1.0
    assert figure("iris_latency_seconds_bucket", {**told, "le": "10.0"}) == 0.0
    assert figure("iris_budget_fraction_count", told) == 1.0
    assert figure("iris_clock_skew_total", {"service": "calibrate", "queue": CALIBRATE_REALTIME}) == 1.0


async def test_a_deadline_recirculates_without_using_attempts(bus: MemoryBus) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        if len(calls) < 10:
            raise NotDue("not yet")
        return []

    async with dispatching(bus, handle):
        await publish(bus, "readout", [FRAME])
        await settled(bus)
    assert len(calls) == 10
    assert await bus.parked(QUEUE) == []


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no json", "no CloudEvents envelope"),
        (b"{}", "no CloudEvents envelope"),
        (b"x" * 70_000, "at most 65536"),
        (
            encode(FRAME, "t").replace(b"frame.ready.v1", b"frame.ready.v9"),
            "reads up to version 2. Upgrade this service",
        ),
        (encode(FRAME, "t").replace(b"frame.ready.v1", b"frame.eaten.v1"), "Unknown event type"),
        (encode(FRAME, "t").replace(b'"IMG1"', b'"IMG9"'), "detector"),
        (encode(FRAME, "t").replace(b'"reads_used":8', b'"reads_used":-8'), "reads_used"),
        (encode(FRAME, "t").replace(b'"reads_used":8', b'"reads_used":"many","x":1'), "reads_used"),
        (encode(FRAME, "t").replace(FRAME.event_id.encode(), STORED.event_id.encode()), "the id is not"),
        (encode(STORED, "t"), "takes no org.tmt.iris.drs.product.stored.v1"),
    ],
)
async def test_what_is_no_event_of_this_queue_is_parked_and_the_next_is_handled(
    bus: MemoryBus, body: bytes, reason: str
) -> None:
    done = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        done.append(event)
        return []

    async with dispatching(bus, handle):
        await bus.publish("iris.readout.frame.ready.IMG1", body, mandatory=True)
        await publish(bus, "readout", [FRAME])
        await settled(bus)
    (parked,) = await bus.parked(QUEUE)
    assert parked.reason.error_class == "BadMessage"
    assert reason in parked.reason.message
    assert parked.body == body  # nothing is lost
    assert done == [FRAME]


@pytest.mark.parametrize("point", ["dispatch.publish.before", "dispatch.publish.after", "dispatch.ack.before"])
async def test_whatever_dies_before_the_acknowledgement_is_delivered_again(bus: MemoryBus, point: str) -> None:
    calls = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        calls.append(event)
        return [STORED]

    crash_points.arm(point)
    service = Service("calibrate", {CALIBRATE_REALTIME: {FrameReady: handle}})
    await publish(bus, "readout", [FRAME])
    with pytest.raises(BaseExceptionGroup) as death:
        await asyncio.wait_for(Dispatcher(bus, service).run(), SOON_S)
    assert death.group_contains(crash_points.Crash)
    assert crash_points.armed() == {}
    async with dispatching(bus, handle):
        await settled(bus)
    assert calls == [FRAME, FRAME]


def test_the_archive_takes_what_everybody_makes() -> None:
    archive = next(queue for queue in QUEUES if queue.name == ARCHIVE)
    assert set(archive.binding_keys()) >= {"iris.readout.read.written.*", "iris.calibrate.frame.reduced.*"}


def test_the_same_fact_told_twice_is_one_event_and_other_bytes_are_another() -> None:
    first, second = json.loads(encode(FRAME, "a")), json.loads(encode(FRAME, "b"))
    assert first["id"] == second["id"]
    assert first["traceparent"] != second["traceparent"]
    other = FRAME.model_copy(update={"object": FRAME.object.model_copy(update={"sha256": "b" * 64})})
    assert other.event_id != FRAME.event_id
