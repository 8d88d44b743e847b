"""The system as processes on RabbitMQ and S3: a night with every server and two services failing in its middle."""

import asyncio
import contextlib
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.conftest import unavailable

from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.line import Line, open_line
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.events import Event
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.testing.servers.process import ServerMissing
from irisdrs.simulator.ledger import compare, current_products, expected_products, expected_reads
from irisdrs.simulator.night import Night, play
from irisdrs.simulator.observatory import Observatory
from irisdrs.simulator.stage import Stage, visiting

#: How long a server is away, seconds.
AWAY_S = 10.0

#: Longest wait for the night to be done, seconds: it takes a minute; only a failure waits so long.
PATIENCE_S = 300.0

#: Room of the spool, bytes: all reads of the small night.
SPOOL_BYTES = 100_000_000

Fault = Callable[[Observatory], None]


def kill(name: str) -> Fault:
    """Kill a service with everything that it has started."""
    return lambda observatory: observatory.services[name].process.signal(signal.SIGKILL)


def broker_away(observatory: Observatory) -> None:
    """Stop the broker, and start it again on its data."""
    observatory.rabbitmq.stop()
    time.sleep(AWAY_S)
    observatory.rabbitmq.start()


def store_away(observatory: Observatory) -> None:
    """Stop the store, and start it again on its data."""
    assert observatory.swift is not None
    observatory.swift.stop()
    time.sleep(AWAY_S)
    observatory.swift.start()


#: What happens after so many events of the edge; the night has 74.
FAULTS: Mapping[int, Sequence[Fault]] = {
    10: (kill("readout-IMG2"),),
    25: (broker_away,),
    40: (kill("calibrate"), kill("readout-IMG1")),
    55: (store_away,),
}


class FaultyNight:
    """Tells the edge's events, and lets a fault happen at its turn."""

    def __init__(self, line: Line, observatory: Observatory) -> None:
        self._line, self._observatory = line, observatory
        self.told = 0
        self.faults: list[asyncio.Task[None]] = []

    async def tell(self, events: Sequence[Event]) -> None:
        """Tell, count, break something."""
        await self._line.tell(events)
        self.told += len(events)
        for fault in FAULTS.get(self.told, ()):
            self.faults.append(asyncio.create_task(asyncio.to_thread(fault, self._observatory)))


@contextlib.asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[Observatory]:
    """An observatory on S3 whose dead services are started anew."""
    try:
        observatory = Observatory(data_dir, "s3")
    except ServerMissing as problem:
        unavailable(str(problem))
    await asyncio.to_thread(observatory.start)
    supervising = asyncio.create_task(observatory.supervise())
    try:
        yield observatory
    finally:
        supervising.cancel()
        await asyncio.gather(supervising, return_exceptions=True)
        await asyncio.to_thread(observatory.stop)


async def products(stage: Stage, plan: ObservationPlan) -> dict[str, str]:
    """SHA-256 of every current product by its id; there must not be two of one."""
    async with httpx.AsyncClient(base_url=stage.url, trust_env=False, timeout=60.0) as client:
        rows = await current_products(client, plan)
    ids = [str(row["product_id"]) for row in rows]
    assert compare(expected_products(plan) + expected_reads(plan), ids).duplicated == ()
    return {str(row["product_id"]): str(row["sha256"]) for row in rows}


async def until_complete(stage: Stage, plan: ObservationPlan) -> dict[str, str]:
    """Wait until nothing is lost."""
    wanted = set(expected_products(plan) + expected_reads(plan))
    found: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while wanted - found.keys():
                await asyncio.sleep(0.5)
                found = await products(stage, plan)
    return found


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_a_night_with_every_server_failing_ends_as_the_embedded_one(
    references: tuple[ObservationPlan, Path], playground: Any, tmp_path: Path
) -> None:
    plan, cache = references
    async with playground("embedded") as ground:
        await ground.play(ground.edge())
        async with asyncio.timeout(PATIENCE_S):
            while (await ground.verdict()).lost:
                await asyncio.sleep(0.1)
        calm = await ground.products()

    data_dir = tmp_path / "observatory"
    shutil.copytree(cache, data_dir / "crds")
    async with running(data_dir) as observatory, visiting(observatory) as stage:
        async with open_line(stage.settings, stage.url) as line:
            night = FaultyNight(line, observatory)
            spool = Spool(tmp_path / "spool", SPOOL_BYTES)
            async with Edge(plan, line.store, night.tell, spool) as edge:
                await play(Night(plan), edge, tmp_path / "truth")
                await edge.drained()
        await asyncio.gather(*night.faults)
        disturbed = await until_complete(stage, plan)
        parked = {queue.name: await stage.bus.parked(queue) for queue in QUEUES}
        restarted = {name for name, service in observatory.services.items() if service.starts > 1}
    assert len(night.faults) == sum(map(len, FAULTS.values()))
    assert restarted == {"readout-IMG1", "readout-IMG2", "calibrate"}  # nobody else died of it
    assert {name: [one.reason for one in messages] for name, messages in parked.items() if messages} == {}
    assert disturbed == calm
