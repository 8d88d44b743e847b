"""How fast events travel over RabbitMQ: one hop, and confirmed publishing."""

# ruff: noqa: T201 (a benchmark prints its figures)

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime

import numpy as np
import pytest

from irisdrs.shared.bus.dispatch import Dispatcher, publish
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import CALIBRATE_REALTIME
from irisdrs.shared.events import Event, FrameReady, encode
from irisdrs.shared.identifiers import Detector, ExposureType, SamplingMode
from irisdrs.shared.service import Service
from irisdrs.shared.store.port import ObjectRef

#: Events a second of the hop benchmark: what the instrument sends at most, and duration, seconds.
RATE, DURATION_S = 50.0, 20.0

#: Messages of the publishing benchmark, and how many wait for their confirmation at a time.
MESSAGES, WINDOW = 20_000, 400


def frame(number: int) -> FrameReady:
    return FrameReady(
        observation="2034B-007-123",
        exposure_type=ExposureType.SCI,
        exposure=number % 10_000,
        detector=Detector.IMG1,
        night=date(2034, 8, 1),
        photons_end=datetime(2034, 8, 1, 5, tzinfo=UTC),
        product_id=f"2034B-007-123-IRIS-IMG1-SCI0-{number % 10_000:04d}-L1-raw",
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


@pytest.mark.timeout(120)
async def test_a_hop_takes_less_than_50_ms(amqp_url: str) -> None:
    published: dict[int, float] = {}
    hops: list[float] = []

    async def handle(event: FrameReady) -> Sequence[Event]:
        hops.append(time.monotonic() - published[event.exposure])
        return []

    sender, receiver = RabbitMQBus(amqp_url), RabbitMQBus(amqp_url)
    await sender.open()
    dispatcher = Dispatcher(receiver, Service("calibrate", {CALIBRATE_REALTIME: {FrameReady: handle}}))
    running = asyncio.create_task(dispatcher.run())
    while not dispatcher.ready:
        await asyncio.sleep(0.01)
    start = time.monotonic()
    count = int(RATE * DURATION_S)
    for number in range(count):
        await asyncio.sleep(max(0.0, start + number / RATE - time.monotonic()))
        published[number] = time.monotonic()
        await publish(sender, "readout", [frame(number)])
    while len(hops) < count:
        await asyncio.sleep(0.01)
    dispatcher.stop()
    await running
    await sender.close()
    await receiver.close()
    median, p99 = np.percentile(hops, [50, 99]) * 1e3
    print(f"\nhop at {RATE:g} events/s: median {median:.1f} ms, p99 {p99:.1f} ms of {count}")
    assert p99 < 50.0


@pytest.mark.timeout(120)
async def test_confirmed_publishing_reaches_2000_a_second(amqp_url: str) -> None:
    bus = RabbitMQBus(amqp_url)
    await bus.open()
    body, key = encode(frame(1), "readout"), frame(1).routing_key
    waiting = asyncio.Semaphore(WINDOW)

    async def one() -> None:
        async with waiting:
            await bus.publish(key, body, mandatory=True)

    start = time.monotonic()
    await asyncio.gather(*(one() for _ in range(MESSAGES)))
    rate = MESSAGES / (time.monotonic() - start)
    start = time.monotonic()
    for _ in range(500):
        await bus.publish(key, body, mandatory=True)
    alone = 500 / (time.monotonic() - start)
    await bus.close()
    print(f"\nconfirmed publishing: {rate:.0f}/s with {WINDOW} under way, {alone:.0f}/s one at a time")
    assert rate >= 2000.0
