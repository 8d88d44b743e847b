"""Real time beside bulk: how long a frame takes to be reduced with 10,000 bulk jobs waiting and a bulk worker busy.

Blocks with the bulk process at work and blocks with it held (SIGSTOP) alternate in one run, on the same frames.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import CALIBRATE_BULK, CALIBRATE_REALTIME
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.embedded import EmbeddedSystem, run
from irisdrs.shared.events import Event, FrameReady, FrameReduced, ReductionRequested, decode
from irisdrs.shared.events.metadata import from_metadata
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.testing.servers.process import ServerProcess
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.night import Night, plan_observation, play

#: Rows and columns of a frame, pixels: large enough for the arithmetic to count, small enough for many of them.
SIZE = 1024

#: Frames of each kind, and bulk jobs that wait; each bulk frame is asked for again and again.
FRAMES, WAITING = 24, 10_000

#: Blocks of each kind; they alternate, so that what else the machine does meets both.
BLOCKS = 4

#: How long a bulk job may take beside nothing else, seconds: several times what it takes.
JOB_S = 10.0

#: Longest wait for one frame, seconds.
SOON_S = 120.0

REALTIME, BULK = "2034B-007-001", "2034B-007-002"


async def raw_frames(settings: HostSettings, plan: ObservationPlan) -> list[FrameReady]:
    """Play an observation into the embedded system; gives its raw frames."""
    async with run(settings) as system:
        spool = Spool(settings.spool_of(plan.observation), settings.spool_max_bytes)
        async with Edge(plan, system.platform.store, lambda events: publish(system.bus, "edge", events), spool) as edge:
            await play(Night(plan), edge, settings.data_dir / "truth")
            await edge.drained()
        return await all_frames(system, plan)


async def all_frames(system: EmbeddedSystem, plan: ObservationPlan) -> list[FrameReady]:
    store = system.platform.store
    async with asyncio.timeout(20 * SOON_S):
        while len(keys := await store.keys(f"1/{plan.night:%Y/%m/%d}/{plan.observation}/")) < len(plan.exposures):
            await asyncio.sleep(0.2)
    stored = [await store.head(key) for key in keys]
    return [from_metadata(FrameReady, one) for one in stored if one is not None]


def forget_reduced(settings: HostSettings, observation: str) -> None:
    """Remove an observation's reduced frames, so that they can be asked for again."""
    for product in settings.store_dir.glob(f"2/*/*/*/{observation}/*/*"):
        product.unlink(missing_ok=True)


@contextmanager
def lane(name: str, settings: HostSettings, amqp_url: str, folder: Path) -> Iterator[ServerProcess]:
    """The service of one lane, as a process."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("IRIS_")}
    environment = inherited | {"IRIS_DATA_DIR": str(settings.data_dir), "IRIS_AMQP_URL": amqp_url}
    command = [str(Path(sys.executable).parent / "iris"), "calibrate", "serve", "--lane", name]
    process = ServerProcess(name, command, folder / f"{name}.log", environment)
    try:
        yield process
    finally:
        process.kill()


@asynccontextmanager
async def busy(process: ServerProcess, settings: HostSettings) -> AsyncIterator[None]:
    """The bulk process at work; what it has done is forgotten, so that it always finds something to do."""

    async def forget() -> None:
        while True:
            await asyncio.to_thread(forget_reduced, settings, BULK)
            await asyncio.sleep(0.5)

    process.signal(signal.SIGCONT)
    forgetting = asyncio.create_task(forget())
    try:
        yield
    finally:
        forgetting.cancel()
        process.signal(signal.SIGSTOP)
        await asyncio.sleep(JOB_S)  # its worker, in a session of its own, ends the job that it is at


async def timed(bus: RabbitMQBus, heard: AsyncIterator[bytes], frame: FrameReady) -> float:
    """Seconds from the telling of a raw frame to that of its reduced one."""
    start_s = time.monotonic()
    await publish(bus, "readout", [frame])
    async with asyncio.timeout(SOON_S):
        async for message in heard:
            _, event = decode(message)
            if isinstance(event, FrameReduced) and event.exposure_id == frame.exposure_id:
                return time.monotonic() - start_s
    raise AssertionError("unreachable: a listener has no end")


@pytest.mark.timeout(1800)
async def test_real_time_never_waits_for_bulk(amqp_url: str, tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path / "data")
    draft = plan_observation(
        night=date(2034, 8, 1), crds_context="", size=SIZE, reads=2, science=FRAMES, sky=0, detectors=(Detector.IMG1,)
    )
    context = await asyncio.to_thread(prepare_references, draft, settings.crds_dir, 0)
    plans = [draft.model_copy(update={"crds_context": context, "observation": one}) for one in (REALTIME, BULK)]
    realtime, bulk = [await raw_frames(settings, plan) for plan in plans]
    bus = RabbitMQBus(amqp_url)
    await bus.open()
    jobs: list[Event] = [
        ReductionRequested(frame=bulk[number % FRAMES], crds_context=context, request=f"request-{number}")
        for number in range(WAITING)
    ]
    await asyncio.gather(*(publish(bus, "operator", jobs[start::100]) for start in range(100)))
    seconds: dict[str, list[float]] = {"alone": [], "beside bulk": []}
    with (
        lane("realtime", settings, amqp_url, tmp_path),
        lane("bulk", settings, amqp_url, tmp_path) as bulk_process,
    ):
        async with bus.listen(f"iris.calibrate.frame.reduced.{Detector.IMG1}") as heard:
            async with busy(bulk_process, settings):
                before = (await bus.depth(CALIBRATE_BULK))[0]
                for frame in realtime[:3] * 2:  # both processes warm
                    forget_reduced(settings, REALTIME)
                    await timed(bus, heard, frame)
            for _ in range(BLOCKS):
                forget_reduced(settings, REALTIME)
                seconds["alone"] += [await timed(bus, heard, frame) for frame in realtime]
                forget_reduced(settings, REALTIME)
                async with busy(bulk_process, settings):
                    seconds["beside bulk"] += [await timed(bus, heard, frame) for frame in realtime]
        left = (await bus.depth(CALIBRATE_BULK))[0]
        assert (await bus.depth(CALIBRATE_REALTIME))[0] == 0
    await bus.close()
    p95 = {name: float(np.percentile(values, 95)) for name, values in seconds.items()}
    for name, values in seconds.items():
        print(f"\nreal time {name}: median {np.median(values):.3f} s, p95 {p95[name]:.3f} s of {len(values)}", end="")
    print(f"\nbulk jobs done meanwhile: {before - left}, waiting: {left}")
    assert before - left > 0
    assert p95["beside bulk"] < 1.1 * p95["alone"]
