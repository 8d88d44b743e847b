"""Composition: settings from the environment, the queue of the topology table, processes that end with the service."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import pytest
from pydantic import ValidationError

from irisdrs.calibrate.main import CalibrateSettings, compose
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared.bus.topology import CALIBRATE_REALTIME, QUEUES
from irisdrs.shared.service import Platform
from irisdrs.shared.store.directory import DirectoryStore


async def test_compose_starts_the_workers_and_close_ends_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_CALIBRATE_WORKERS", "2")
    before = set(active_children())
    with ThreadPoolExecutor(1) as threads:
        references = open_references(tmp_path / "crds")
        service = compose(Platform(DirectoryStore(tmp_path / "store"), references, tmp_path, tmp_path, threads))
        started = set(active_children()) - before
        assert [process.name for process in started] == ["iris-calibrate"] * 2
        await service.close()
    assert not any(process.is_alive() for process in started)
    (queue,) = (queue for queue in QUEUES if queue.service == "calibrate")
    assert queue.name == CALIBRATE_REALTIME
    assert set(service.handlers[queue.name]) == set(queue.takes)


def test_settings_that_make_no_sense_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_CALIBRATE_WORKERS", "0")
    with pytest.raises(ValidationError, match="workers"):
        CalibrateSettings()
