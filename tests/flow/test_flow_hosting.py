"""What a host and a night refuse before they touch anything."""

import asyncio
import shutil
import socket
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from irisdrs.shared.data_lock import holder
from irisdrs.shared.embedded import run, serve_web
from irisdrs.shared.errors import Fatal, Outage
from irisdrs.shared.events import Event, ObservationStarted
from irisdrs.shared.service import Round, Service
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.keys import fact_key, observation_key
from irisdrs.shared.store.port import JSON, ObjectRef
from irisdrs.shared.testing.small_observation import small_plan
from irisdrs.simulator.cli import app
from irisdrs.simulator.host import check_host

IRIS = (sys.executable, "-c", "from irisdrs.shared.cli import main; main()")
SMALL_NIGHT = ("night", "--size", "64", "--reads", "2", "--science", "1", "--sky", "0", "--quiet")


async def play(url: str, data: Path) -> tuple[int | None, str]:
    """Play a small night from a process of its own; gives its exit status and what it says of errors."""
    command = (*IRIS, *SMALL_NIGHT, "--url", url, "--data", str(data))
    process = await asyncio.create_subprocess_exec(*command, stderr=PIPE)
    try:
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, " ".join(errors.decode().split())


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port at which nobody listens, and nobody can as long as the test runs."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def no_host() -> Iterator[str]:
    """Where something answers that is no host of this system."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_second_host_on_the_same_data_is_refused_and_the_first_goes_on(playground: Any) -> None:
    async with playground() as ground:
        working = ground.system.platform.scratch / "in-use"
        working.touch()
        with pytest.raises(Fatal, match="Another process runs the system"):
            async with run(ground.system.settings):
                pass
        assert working.exists()
        assert holder(ground.system.settings.data_dir) == ground.system.identity


async def test_a_night_goes_only_into_the_folder_of_the_system(playground: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    async with playground() as ground, serve_web(ground.system) as url:
        status, errors = await play(url, other)
        assert status == 1
        assert f"{url} works on other data than {other}" in errors
        assert not other.exists()
        assert await play(url, ground.system.settings.data_dir) == (0, "")
        await ground.system.bus.quiet()
        assert await ground.parked() == {}
        assert sum("-L2-" in name for name in await ground.products()) == len(ground.plan.detectors)


async def test_a_copy_of_the_folder_is_another_folder(playground: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    async with playground() as ground:
        copy.mkdir()
        shutil.copy(ground.system.settings.data_dir / ".lock", copy)
        assert holder(copy) == ground.system.identity
    async with playground() as ground:
        assert holder(copy) != ground.system.identity


async def test_a_night_without_a_system_says_how_to_start_one(tmp_path: Path, closed_port: int) -> None:
    async with asyncio.timeout(50):  # less than the time for which a teller of events tries again
        status, errors = await play(f"http://127.0.0.1:{closed_port}", tmp_path / "data")
    assert status == 1
    assert f"Nobody answers at http://127.0.0.1:{closed_port}" in errors
    assert "Start the system with `iris up`" in errors
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "http://[", "http://127.0.0.1:x"])
def test_what_is_no_address_is_said_to_be_none(tmp_path: Path, url: str) -> None:
    with pytest.raises(Outage, match="Nobody answers at"):
        check_host(url, tmp_path)


def test_what_is_no_host_is_said_to_be_none(tmp_path: Path, no_host: str) -> None:
    with pytest.raises(Fatal, match="is no IRIS DRS of this version"):
        check_host(no_host, tmp_path)


@pytest.mark.parametrize("key", ["../catalogue.sqlite", "/etc/passwd", "a/../b", "", ".hidden"])
def test_no_event_names_an_object_outside_of_the_store(key: str) -> None:
    with pytest.raises(ValidationError):
        ObjectRef(key=key, sha256="0" * 64, size=1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("--size 65", "a multiple of 64"),
        ("--observation ../x", "an observation id is such as"),
        ("--filter none", "IRIS has no filter 'none'"),
        ("--reads 1", "a ramp of UTR has no slope"),
        ("--mode SINGLE", "a ramp of SINGLE has 1 read, not 8"),
        ("--mode MCDS --group-reads 5", "two groups of 5 reads do not fit"),
        ("--group-reads 2", "UTR has no groups of 2 reads"),
    ],
)
def test_wrong_arguments_are_said_to_be_wrong(tmp_path: Path, wrong: str, says: str) -> None:
    result = CliRunner().invoke(app, ["--data", str(tmp_path), *wrong.split()])
    assert result.exit_code == 2
    assert says in " ".join(result.output.replace("│", " ").split())
    assert list(tmp_path.iterdir()) == []


async def test_a_system_starts_whatever_lies_in_its_store_and_whatever_its_rounds_meet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRIS_ARCHIVE_RECONCILE_FIRST_S", "1e9")
    plan = small_plan()
    settings = HostSettings(data_dir=tmp_path / "data")
    store = DirectoryStore(settings.store_dir)
    await store.put(observation_key(plan.night, plan.observation), plan.model_dump_json().encode(), media_type=JSON)
    for exposure in plan.exposure_ids():
        await store.put(fact_key(plan.night, exposure, "started"), b"[" * 200_000, media_type=JSON)

    async def broken() -> AsyncIterator[Event]:
        yield ObservationStarted(plan=plan)
        raise ZeroDivisionError("nobody has foreseen it")

    async def whole() -> AsyncIterator[Event]:
        yield ObservationStarted(plan=plan)

    async with run(settings) as system:
        await system.bus.quiet()
        assert await system.begin() == 0  # the plan was told at the start
        rounds = tuple(Round(look.__name__, look, every_s=None) for look in (broken, whole))
        system.services["more"] = Service("more", {}, rounds=rounds)
        assert await system.begin() == 1
        await system.bus.quiet()
