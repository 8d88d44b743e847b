"""Composition: settings from the environment, the queues of the topology table, processes that end with the service."""

import asyncio
import os
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import pytest
from pydantic import ValidationError

from irisdrs.calibrate.main import CalibrateSettings, compose
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared.bus.topology import CALIBRATE_BULK, CALIBRATE_COMBINE, CALIBRATE_REALTIME, QUEUES, Lane
from irisdrs.shared.service import Platform
from irisdrs.shared.store.directory import DirectoryStore

LANES: dict[Lane, str] = {"realtime": CALIBRATE_REALTIME, "combine": CALIBRATE_COMBINE, "bulk": CALIBRATE_BULK}
QUEUE_OF = {lane: next(queue for queue in QUEUES if queue.name == name) for lane, name in LANES.items()}


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[Platform]:
    with ThreadPoolExecutor(1) as threads:
        references = open_references(tmp_path / "crds")
        yield Platform(DirectoryStore(tmp_path / "store"), references, tmp_path, tmp_path, threads)


async def test_compose_starts_the_workers_and_close_ends_them(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRIS_CALIBRATE_WORKERS", "2")
    before = set(active_children())
    service = compose(platform)
    started = set(active_children()) - before
    assert [process.name for process in started] == ["iris-calibrate"] * 2
    await service.close()
    assert not any(process.is_alive() for process in started)


@pytest.mark.parametrize("lane", LANES)
async def test_a_lane_handles_what_its_queue_takes_and_nothing_else(platform: Platform, lane: Lane) -> None:
    service = compose(platform, lane)
    try:
        queue = QUEUE_OF[lane]
        assert (queue.service, queue.lane) == (service.name, lane)
        assert {name: set(handlers) for name, handlers in service.handlers.items()} == {queue.name: set(queue.takes)}
    finally:
        await service.close()


async def test_the_host_that_names_no_lane_gets_real_time(platform: Platform) -> None:
    service = compose(platform)
    try:
        assert set(service.handlers) == {CALIBRATE_REALTIME}
    finally:
        await service.close()


async def test_a_lane_without_a_recipe_starts_no_processes(platform: Platform) -> None:
    before = set(active_children())
    service = compose(platform, "combine")
    assert set(active_children()) == before
    await service.close()


@pytest.mark.parametrize(("lane", "gives_way"), [("realtime", False), ("bulk", True)])
async def test_workers_get_the_limit_of_the_settings_and_bulk_gives_way(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, lane: Lane, gives_way: bool
) -> None:
    monkeypatch.setenv("IRIS_CALIBRATE_WORKER_MEMORY_MB", "3000")
    before = set(active_children())
    service = compose(platform, lane)
    try:
        (worker,) = set(active_children()) - before
        assert worker.pid is not None
        while resource.prlimit(worker.pid, resource.RLIMIT_DATA)[0] != 3000 * 2**20:
            assert worker.is_alive()
            await asyncio.sleep(0.05)
        # The limit is the last thing that a process sets before it works.
        assert (os.sched_getscheduler(worker.pid) == os.SCHED_IDLE) == gives_way
        assert (os.getsid(worker.pid) == worker.pid) == gives_way
        autogroup = Path(f"/proc/{worker.pid}/autogroup")
        if autogroup.exists() and os.access(autogroup, os.W_OK):
            mine = Path("/proc/self/autogroup").read_text()
            assert gives_way != (autogroup.read_text() == mine)
            assert autogroup.read_text().endswith("nice 19\n") or not gives_way
    finally:
        await service.close()


@pytest.mark.parametrize("lane", LANES)
def test_a_job_ends_before_the_time_of_its_event_does(monkeypatch: pytest.MonkeyPatch, lane: Lane) -> None:
    event_timeout_s = QUEUE_OF[lane].hard_timeout_s
    assert CalibrateSettings().hard_timeout_s < event_timeout_s
    monkeypatch.setenv("IRIS_CALIBRATE_HARD_TIMEOUT_S", f"{event_timeout_s:g}")
    with pytest.raises(ValidationError, match="hard_timeout_s"):
        CalibrateSettings()


@pytest.mark.parametrize(("name", "value"), [("workers", "0"), ("worker_memory_mb", "100"), ("hard_timeout_s", "0")])
def test_settings_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"IRIS_CALIBRATE_{name.upper()}", value)
    with pytest.raises(ValidationError, match=name):
        CalibrateSettings()
