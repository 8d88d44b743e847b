"""Services as processes on RabbitMQ and S3, each killed between the end of a handler and the acknowledgement."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.chaos.arena import Arena, Setting, opened
from tests.chaos.performance import Case, Performance, perform
from tests.chaos.verdict import Verdict
from tests.conftest import unavailable

from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.testing.servers.process import ServerMissing

#: Whose crash points are armed, closer than by the service where most of its events return nothing.
VICTIMS = ("readout:FrameReady", "calibrate", "archive:ProductStored")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def arena(
    references: tuple[ObservationPlan, Path], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Arena]:
    """A running observatory whose dead services are started anew."""
    try:
        async with opened(Setting.SWIFT, tmp_path_factory.mktemp("observatory") / "data", references) as made:
            yield made
    except ServerMissing as problem:
        unavailable(str(problem))


@pytest.mark.timeout(600)
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("number", [1, 2, 3])
async def test_processes_killed_between_handling_and_acknowledging_lose_and_double_nothing(
    arena: Arena, number: int
) -> None:
    step = ("dispatch.publish.before", "dispatch.publish.after", "dispatch.ack.before")[number - 1]
    points = [arena.observatory.crash_points / f"{step}:{victim}" for victim in VICTIMS]
    starts = sum(service.starts for service in arena.observatory.services.values())

    async def arm(_: Performance) -> None:
        for point in points:
            point.touch()

    outcome = await perform(Performance(arena, Case(step, "a kill", arm, exposures=1), number, seed=1))
    assert outcome.verdict == Verdict()
    assert outcome.recovery_s is not None
    assert not any(point.exists() for point in points), "the night never came to a point"
    assert sum(service.starts for service in arena.observatory.services.values()) == starts + len(VICTIMS)
