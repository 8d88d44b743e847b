"""A small night and a system to play it into."""

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import httpx
import pytest

from irisdrs.shared import crash_points
from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.embedded import EmbeddedSystem, run, web_application
from irisdrs.shared.events import Event
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.ledger import Verdict, compare, current_products, expected_products, expected_reads
from irisdrs.simulator.night import Night, plan_observation, play

SIZE = 64
READS = 4


@dataclass(frozen=True)
class Playground:
    """A running system, a plan, and what the archive says."""

    system: EmbeddedSystem
    plan: ObservationPlan
    client: httpx.AsyncClient

    async def tell(self, events: list[Event]) -> None:
        """Publish as the edge."""
        await publish(self.system.bus, "edge", events)

    def edge(self, tell: Callable[[list[Event]], Awaitable[None]] | None = None) -> Edge:
        """The edge of the plan, on a good line unless another is given."""
        settings = self.system.settings
        spool = Spool(settings.spool_of(self.plan.observation), settings.spool_max_bytes)
        return Edge(self.plan, self.system.platform.store, tell or self.tell, spool)  # type: ignore[arg-type]

    async def play(self, edge: Edge) -> None:
        """Play the night and tell all of it; its times are the plan's, so that its reads are the same bytes always."""
        async with edge:
            await play(Night(self.plan), edge, self.system.settings.data_dir / "truth")
            await edge.drained()

    async def products(self) -> dict[str, str]:
        """SHA-256 of every current product, reads included, by id."""
        rows = await current_products(self.client, self.plan)
        return {str(row["product_id"]): str(row["sha256"]) for row in rows}

    async def verdict(self) -> Verdict:
        """The ledger's verdict on everything that the plan comes to."""
        rows = await current_products(self.client, self.plan)
        expected = expected_products(self.plan) + expected_reads(self.plan)
        return compare(expected, [str(row["product_id"]) for row in rows])

    async def parked(self) -> dict[str, list[str]]:
        """Error classes of parked events by queue."""
        found = {queue.name: await self.system.bus.parked(queue) for queue in QUEUES}
        return {name: [one.reason.error_class for one in parked] for name, parked in found.items() if parked}


Open = Callable[..., AbstractAsyncContextManager[Playground]]


@pytest.fixture(scope="session")
def references(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObservationPlan, Path]:
    """A plan of two science exposures and a sky of four detectors, and a CRDS cache for it."""
    cache = tmp_path_factory.mktemp("references") / "crds"
    draft = plan_observation(night=date(2034, 8, 1), crds_context="", size=SIZE, reads=READS)
    return draft.model_copy(update={"crds_context": prepare_references(draft, cache, 0)}), cache


@pytest.fixture
def playground(references: tuple[ObservationPlan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Opens systems, each with a folder of its own; they reconcile at their start and when a test says so."""
    made, cache = references
    monkeypatch.setenv("IRIS_ARCHIVE_RECONCILE_FIRST_S", "1e9")
    monkeypatch.setenv("IRIS_ARCHIVE_RECONCILE_CONFIRM_S", "0")

    @asynccontextmanager
    async def open_(name: str = "data", plan: ObservationPlan = made) -> AsyncIterator[Playground]:
        settings = HostSettings(data_dir=tmp_path / name, archive_port=0)
        if not settings.crds_dir.exists():
            shutil.copytree(cache, settings.crds_dir)
        try:
            async with run(settings, retry_delays_s=(0.2, 0.5, 1.0), recirculate_s=0.2) as system:
                transport = httpx.ASGITransport(app=web_application(system))
                async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                    yield Playground(system, plan, client)
        finally:
            crash_points.disarm()

    return open_
