"""`iris calibrate serve`: lanes as processes of their own, on RabbitMQ and a directory store."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from tests.calibrate.conftest import HEADER, Night, store_frame
from typer.testing import CliRunner

from irisdrs.calibrate.cli import app
from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import CALIBRATE_COMBINE, QUEUES
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.events import CombinationRequested, FrameReduced, ProcessingFailed, ReductionRequested, decode
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.testing.servers.process import ServerProcess

#: Longest wait for an answer or an end, seconds: it takes ten; only a failure waits so long.
SOON_S = 90.0

Start = Callable[[str], ServerProcess]


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    return HostSettings(data_dir=tmp_path / "data")


@pytest.fixture
def start(settings: HostSettings, tmp_path: Path, amqp_url: str) -> Iterator[Start]:
    """Starts the service of a lane; all of them end with the test."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("IRIS_")}
    environment = inherited | {"IRIS_DATA_DIR": str(settings.data_dir), "IRIS_AMQP_URL": amqp_url}
    started: list[ServerProcess] = []

    def start_(lane: str) -> ServerProcess:
        command = [str(Path(sys.executable).parent / "iris"), "calibrate", "serve", "--lane", lane]
        started.append(ServerProcess(lane, command, tmp_path / f"{lane}.log", environment))
        return started[-1]

    yield start_
    for process in started:
        process.kill()


@pytest.fixture
async def bus(amqp_url: str) -> AsyncIterator[RabbitMQBus]:
    bus = RabbitMQBus(amqp_url)
    await bus.open()
    yield bus
    await bus.close()


async def test_bulk_reduces_what_is_asked_for_and_ends_when_asked(
    files: Night, settings: HostSettings, start: Start, bus: RabbitMQBus
) -> None:
    context = build_context(settings.crds_dir, list(files.references.values()))
    store = DirectoryStore(settings.store_dir)
    frame = await store_frame(store, files.raw.read_bytes(), "tmt_0000.pmap")
    async with bus.listen("iris.calibrate.frame.reduced.*") as heard:
        await publish(bus, "test", [ReductionRequested(frame=frame, crds_context=context, request="again")])
        process = start("bulk")
        _, answer = decode(await asyncio.wait_for(anext(heard), SOON_S))
    assert isinstance(answer, FrameReduced)
    assert answer.crds_context == context
    assert await store.keys("2/") == [answer.object.key]
    process.ask_to_end()
    assert await asyncio.to_thread(process.wait, SOON_S) == 0
    assert "calibrate-bulk" in process.log.read_text(encoding="utf-8")


async def test_combine_parks_what_it_has_no_recipe_for(start: Start, bus: RabbitMQBus) -> None:
    job = ObjectRef(key="jobs/a.json", sha256="a" * 64, size=1)
    event = CombinationRequested(observation=HEADER.observation, rule="dither", job=job, crds_context="tmt_0001.pmap")
    async with bus.listen("iris.*.processing.failed") as heard:
        await publish(bus, "test", [event])
        process = start("combine")
        _, failed = decode(await asyncio.wait_for(anext(heard), SOON_S))
    assert isinstance(failed, ProcessingFailed)
    assert (failed.outcome, failed.attempt) == ("parked", 1)
    # It is parked before the process ends: what is in flight is settled first.
    process.ask_to_end()
    assert await asyncio.to_thread(process.wait, SOON_S) == 0
    (parked,) = await bus.parked(next(queue for queue in QUEUES if queue.name == CALIBRATE_COMBINE))
    assert parked.reason.error_class == "Fatal"
    assert "Re-drive it after an upgrade" in parked.reason.message


def test_a_lane_that_is_not_there_is_refused_with_those_that_are() -> None:
    wrong = CliRunner().invoke(app, ["serve", "--lane", "sideways"])
    assert wrong.exit_code == 2
    for lane in ("realtime", "combine", "bulk"):
        assert lane in wrong.output
