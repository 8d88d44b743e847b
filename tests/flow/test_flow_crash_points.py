"""A crash at every named point, one at a time: nothing is lost, nothing is made twice, nothing is parked."""

import ast
import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import date
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from tests.chaos.shelf import DirectoryShelf
from tests.chaos.verdict import Account, Verdict, WitnessedEdge, audit, missing
from tests.contract.test_contract_crds_deliveries import POINTS as DELIVERY_POINTS
from tests.contract.test_contract_crds_deliveries import PROCESS_POINT
from tests.edge.test_edge_crashes import POINTS as EDGE_POINTS
from tests.flow.test_flow_reconciliation import POINTS as ROUND_POINTS
from tests.shared.test_dead_letters_crashes import POINTS as LETTER_POINTS

from irisdrs.shared import crash_points
from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.embedded import EmbeddedSystem, run, web_application
from irisdrs.shared.events import Event
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.night import Night, plan_observation, play

#: Points in services, where this process may die.
SERVICE_POINTS = (
    "readout.fold.after",
    "readout.put.before",
    "readout.put.after",
    "calibrate.put.before",
    "calibrate.put.after",
    "archive.commit.before",
    "archive.commit.after",
    "dispatch.publish.before",
    "dispatch.publish.after",
    "dispatch.ack.before",
)

#: The point in the worker process of calibrate.
WORKER_POINT = "calibrate.worker.reduce"

#: The steps of dispatch, at what each service tells last.
DISPATCH_POINTS = tuple(
    f"dispatch.{step}:{closer}"
    for step in ("publish.before", "publish.after", "ack.before")
    for closer in ("readout:ExposureDue", "readout:FrameReady", "calibrate:FrameReduced", "archive:ProductStored")
)

#: Longest wait for a night of two frames, seconds: it takes two; only a failure waits so long.
PATIENCE_S = 90.0


class Ground:
    """One embedded system, in which every test plays a night of its own."""

    def __init__(self, system: EmbeddedSystem, client: httpx.AsyncClient, plan: ObservationPlan) -> None:
        self.system, self._client, self._plan = system, client, plan
        self._numbers = itertools.count(1)

    async def play(self) -> Verdict:
        """Play a night, wait until it is complete and nothing is under way, and audit it."""
        plan = self._plan.model_copy(update={"observation": f"2034B-007-{next(self._numbers):03d}"})
        settings, account = self.system.settings, Account(plan)
        spool = Spool(settings.spool_of(plan.observation), settings.spool_max_bytes)

        async def tell(events: list[Event]) -> None:
            for event in events:
                account.hear(event)
            await publish(self.system.bus, "edge", events)

        edge = WitnessedEdge(plan, self.system.platform.store, tell, spool)  # type: ignore[arg-type]
        edge.account = account
        async with asyncio.timeout(PATIENCE_S):
            async with edge:
                await play(Night(plan), edge, settings.data_dir / "truth")
                await edge.drained()
            while await missing(account, self._client):
                await asyncio.sleep(0.05)
            await self.system.bus.quiet()
        return await audit(account, DirectoryShelf(settings.store_dir), self._client, await self._parked())

    async def _parked(self) -> list[str]:
        found = [await self.system.bus.parked(queue) for queue in QUEUES]
        return [f"{one.queue} {one.reason.error_class}" for parked in found for one in parked]


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder through which worker processes are armed."""
    folder = tmp_path_factory.mktemp("crash-points")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(crash_points.FOLDER, str(folder))
        yield folder


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(tmp_path_factory: pytest.TempPathFactory, points: Path) -> AsyncIterator[Ground]:
    """A running system with references for a night of two detectors."""
    settings = HostSettings(data_dir=tmp_path_factory.mktemp("system"), archive_port=0)
    draft = plan_observation(
        night=date(2034, 8, 1),
        crds_context="",
        size=64,
        reads=4,
        science=1,
        sky=0,
        detectors=(Detector.IMG1, Detector.IMG2),
    )
    plan = draft.model_copy(update={"crds_context": prepare_references(draft, settings.crds_dir, 0)})
    async with run(settings, retry_delays_s=(0.2, 0.5, 1.0), recirculate_s=0.2) as system:
        transport = httpx.ASGITransport(app=web_application(system))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Ground(system, client, plan)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("point", (*(one for one in SERVICE_POINTS if "dispatch" not in one), *DISPATCH_POINTS))
async def test_a_service_that_dies_at_a_point_loses_and_doubles_nothing(ground: Ground, point: str) -> None:
    deaths = sum(ground.system.restarts.values())
    crash_points.arm(point)
    try:
        assert await ground.play() == Verdict()
        assert crash_points.armed() == {}, "the night never came to the point"
        assert sum(ground.system.restarts.values()) == deaths + 1
    finally:
        crash_points.disarm()


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("manner", ["", "segfault", "memory"])
async def test_a_job_that_takes_its_process_along_is_done_again(ground: Ground, points: Path, manner: str) -> None:
    (points / WORKER_POINT).write_text(manner, encoding="ascii")
    assert await ground.play() == Verdict()
    assert not list(points.iterdir()), "the night never came to the point"


def test_every_point_in_the_source_is_tested() -> None:
    in_services = (*SERVICE_POINTS, *DISPATCH_POINTS, *DELIVERY_POINTS, WORKER_POINT, PROCESS_POINT)
    named = (*in_services, *EDGE_POINTS, *LETTER_POINTS, *ROUND_POINTS)
    tested = {point.partition(":")[0] for point in named}
    root = Path(__file__).parents[2]
    sources = [*root.glob("shared/src/**/*.py"), *root.glob("services/*/src/**/*.py")]
    assert {point for source in sources for point in _points(source)} == tested


def _points(source: Path) -> Iterator[str]:
    """Names of the points of a file."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and node.args and ast.unparse(node.func) in ("reach", "crash_points.reach"):
            assert isinstance(node.args[0], ast.Constant), f"{source}: a point has a fixed name"
            yield str(node.args[0].value)
