"""The whole system in one process: a night, and the same night under every disturbance that is known."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.flow.test_flow_crash_points import SERVICE_POINTS, WORKER_POINT

from irisdrs.shared import crash_points
from irisdrs.simulator.disturbance import BadLine

#: Longest wait for a night to be done, seconds: it takes a few; only a failure waits so long.
PATIENCE_S = 180.0


async def until_complete(ground: Any) -> None:
    """Wait until nothing is lost."""
    async with asyncio.timeout(PATIENCE_S):
        while (await ground.verdict()).lost:
            await asyncio.sleep(0.1)


async def test_a_disturbed_night_ends_as_a_calm_one(
    playground: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with playground("calm") as ground:
        await ground.play(ground.edge())
        await until_complete(ground)
        calm = await ground.products()
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}
        assert sum(ground.system.restarts.values()) == 0

    token = tmp_path / "crash-points" / WORKER_POINT
    token.parent.mkdir()
    token.touch()
    monkeypatch.setenv(crash_points.FOLDER, str(token.parent))
    for point in SERVICE_POINTS:
        crash_points.arm(point)
    async with playground("disturbed") as ground:
        line = BadLine(ground.tell, seed=1, drop=0.15, repeat=0.3, window=12)
        await ground.play(ground.edge(line.tell))
        await line.flush()
        assert line.dropped > 5
        assert line.repeated > 5
        await ground.system.bus.quiet()
        await ground.system.begin()  # tells again what the line has lost, as at a start
        await until_complete(ground)
        await ground.system.bus.quiet()
        assert crash_points.armed() == {}
        assert not token.exists()
        idle = {"crds_proxy"}  # nothing is delivered in this night
        assert all(deaths > 0 for name, deaths in ground.system.restarts.items() if name not in idle)
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}
        assert await ground.products() == calm


async def test_a_new_process_takes_up_what_the_old_one_left(playground: Any) -> None:
    async def nobody_hears(_: object) -> None:
        return None

    async with playground() as ground:
        await ground.play(ground.edge(nobody_hears))
        assert await ground.products() == {}
    async with playground() as ground:  # reconciles at its start
        await until_complete(ground)
        first = await ground.products()
        assert await ground.parked() == {}
    async with playground() as ground:
        await ground.system.bus.quiet()
        assert await ground.products() == first  # nothing is made twice
        assert not (await ground.verdict()).duplicated
