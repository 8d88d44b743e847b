"""`iris edge` is killed and started again: nothing is lost, nothing comes twice, the order stays."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI, Request, Response

from irisdrs.shared import crash_points
from irisdrs.shared.data.fits import encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.events import Event, ReadWritten, decode
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.small_observation import header_of, pixels_of, small_plan
from irisdrs.shared.web_server import serving

PLAN = small_plan(exposures=2, reads=6)
HEADERS = [header_of(PLAN, exposure, read) for exposure in PLAN.exposure_ids() for read in range(1, 7)]
EXPOSURE = ["ExposureStarted", *["ReadWritten"] * 6, "ExposureEnded"]
NAMES = ["ObservationStarted", *EXPOSURE * 2, "ObservationEnded"]

#: Longest wait for a process to do what it does in some seconds.
PATIENCE_S = 120.0

#: `iris edge` alone: without the services, whose commands take some seconds to load.
EDGE = "import typer; from irisdrs.shared.edge.command import edge; typer.run(edge)"

POINTS = (
    "edge.spool.payload.after",
    "edge.incoming.spooled",
    "edge.spool.commit.before",
    "edge.put.before",
    "edge.remove.half",
    "edge.put.after",
    "edge.spool.commit.after",
    "edge.tell.after",
)


class Site:
    """A folder for incoming reads, a system that takes events, and processes between them."""

    def __init__(self, home: Path) -> None:
        self.home, self.incoming = home, home / "incoming"
        self.incoming.mkdir()
        (home / "plan.json").write_text(PLAN.model_dump_json())
        self.told: list[Event] = []
        self.url = ""
        self.answers = True

    def application(self) -> FastAPI:
        """Takes events as a system on this machine does."""
        app = FastAPI()

        @app.post("/bus/events")
        async def take(request: Request) -> Response:
            if not self.answers:
                return Response(status_code=503)
            self.told.append(decode(await request.body())[1])
            return Response(status_code=202)

        return app

    def bring(self, header: ReadHeader) -> None:
        """A detector moves a read in."""
        name = f"{header.exposure}-{header.read}.fits"
        (self.home / name).write_bytes(encode_read(pixels_of(header), header))
        (self.home / name).rename(self.incoming / name)

    @asynccontextmanager
    async def edge(self, crash_point: str = "") -> AsyncIterator[asyncio.subprocess.Process]:
        """A process that runs `iris edge`."""
        arguments = ("--incoming", "incoming", "--plan", "plan.json", "--data", "data", "--url", self.url)
        points = self.home / "crash-points"
        points.mkdir(exist_ok=True)
        if crash_point:
            (points / crash_point).touch()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", EDGE, *arguments),
            cwd=self.home,
            env=os.environ | {crash_points.FOLDER: str(points)},
            stderr=subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    async def until_all_are_spooled(self) -> None:
        while any(self.incoming.glob("*.fits")):
            await asyncio.sleep(0.02)

    def spooled(self) -> int:
        """Entries in the spool."""
        return len(list((self.home / "data/spool" / PLAN.observation).glob("*.json")))

    async def stored(self) -> dict[str, bytes]:
        """Every read in the store, by key."""
        store = DirectoryStore(self.home / "data/store")
        keys = [key for key in await store.keys("0/") if key.endswith(".fits")]
        return {key: (self.home / "data/store" / key).read_bytes() for key in keys}

    async def check(self) -> None:
        """Hold what was told and stored against what the detectors took."""
        first: dict[str, Event] = {}
        for event in self.told:
            assert first.setdefault(event.event_id, event) == event, "told again, and told otherwise"
        assert [type(event).__name__ for event in first.values()] == NAMES
        reads = [event for event in first.values() if isinstance(event, ReadWritten)]
        assert [(event.exposure_id, event.read) for event in reads] == [(h.exposure_id, h.read) for h in HEADERS]
        expected = [encode_read(pixels_of(header), header) for header in HEADERS]
        assert await self.stored() == dict(zip([event.object.key for event in reads], expected, strict=True))
        assert list(self.incoming.iterdir()) == []
        assert not (self.home / "data/spool" / PLAN.observation).exists()


Open = Callable[[], AbstractAsyncContextManager[Site]]


@pytest.fixture
def site(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_() -> AsyncIterator[Site]:
        made = Site(tmp_path)
        async with serving(made.application(), "127.0.0.1", 0) as made.url:
            yield made

    return open_


async def test_a_process_that_dies_at_every_named_point_loses_and_doubles_nothing(site: Open) -> None:
    async with site() as made:
        reads = iter(HEADERS)
        for point in POINTS:  # another process dies at each of them, with another read under way
            made.bring(next(reads))
            async with made.edge(point) as process:
                assert await process.wait() == crash_points.KILLED, point
            assert not list((made.home / "crash-points").iterdir())
        for header in reads:
            made.bring(header)
        async with made.edge() as process:
            assert await process.wait() == 0
        await made.check()


async def test_what_is_spooled_survives_a_kill_while_nobody_hears(site: Open) -> None:
    async with site() as made:
        made.answers = False
        for header in HEADERS:
            made.bring(header)
        async with made.edge() as process:
            await made.until_all_are_spooled()
            process.send_signal(signal.SIGKILL)
            assert await process.wait() == -signal.SIGKILL
        assert made.told == []
        assert made.spooled() >= len(NAMES) - 2
        made.answers = True
        async with made.edge() as process:
            assert await process.wait() == 0
        await made.check()


async def test_a_process_that_is_asked_to_end_says_what_is_left_and_leaves_it(site: Open) -> None:
    async with site() as made:
        made.answers = False
        for header in HEADERS:
            made.bring(header)
        async with made.edge() as process:
            while made.spooled() < len(NAMES):
                await asyncio.sleep(0.02)
            process.terminate()
            _, said = await process.communicate()
            assert process.returncode == 0
        assert f"Stopped. {len(NAMES)} entries (0.2 MB) wait in" in " ".join(said.decode().split())
        assert made.spooled() == len(NAMES)
        made.answers = True
        async with made.edge() as process:
            _, said = await process.communicate()
            assert process.returncode == 0
        assert f"goes first: {len(NAMES)} entries" in " ".join(said.decode().split())
        await made.check()


def test_a_wrong_plan_is_said_to_be_wrong(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("{}")
    iris = (sys.executable, "-c", "from irisdrs.shared.cli import main; main()")
    done = subprocess.run(
        (*iris, "edge", "--incoming", ".", "--plan", "plan.json"), cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "is no plan of an observation" in " ".join(done.stderr.split())
