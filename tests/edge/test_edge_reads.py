"""The edge: what it puts and tells of an observation, and what it does with a read that is not as planned."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irisdrs.shared.data.fits import decode_read
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal, Outage, WrongShape
from irisdrs.shared.events import Event, ExposureAborted, ReadFailed
from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.keys import exposure_prefix
from irisdrs.shared.testing.replay import replay
from irisdrs.shared.testing.small_observation import header_of, pixels_of, small_plan

PLENTY = 100_000_000
SOON_S = 20.0
PLAN = small_plan(exposures=1, reads=2)
EXPOSURE = PLAN.exposure_ids()[0]
DUE = datetime(2034, 8, 1, 6, tzinfo=UTC)


class Scene:
    """An edge, its store, and what it told."""

    def __init__(self, home: Path) -> None:
        self.store = DirectoryStore(home / "store")
        self.told: list[Event] = []
        self.edge = Edge(PLAN, self.store, self.tell, Spool(home / "spool", PLENTY))

    async def tell(self, events: Sequence[Event]) -> None:
        self.told.extend(events)

    async def names(self) -> list[str]:
        """Names of the facts and reads of the exposure, without their hashes."""
        prefix = exposure_prefix(PLAN.night, EXPOSURE)
        return [key.removeprefix(prefix).partition("-0")[0] for key in await self.store.keys(prefix)]

    async def drained(self) -> list[str]:
        """What was told, by name, once everything is."""
        async with asyncio.timeout(SOON_S):
            await self.edge.drained()
        return [type(event).__name__ for event in self.told]


Open = Callable[[], AbstractAsyncContextManager[Scene]]


@pytest.fixture
def scene(tmp_path: Path) -> Open:
    @asynccontextmanager
    async def open_() -> AsyncIterator[Scene]:
        made = Scene(tmp_path)
        async with made.edge:
            yield made

    return open_


async def test_an_observation_is_stored_told_in_order_and_can_be_told_again_from_the_store(scene: Open) -> None:
    async with scene() as made:
        edge = made.edge
        await edge.start_observation()
        await edge.start_exposure(EXPOSURE, DUE)
        for read in (1, 2):
            header = header_of(PLAN, EXPOSURE, read)
            event = await edge.write_read(pixels_of(header), header)
            assert event.photons_end == header.ended_at
        await edge.end_exposure(EXPOSURE)
        await edge.end_observation()
        names = ["ObservationStarted", "ExposureStarted", "ReadWritten", "ReadWritten", "ExposureEnded"]
        assert await made.drained() == [*names, "ObservationEnded"]
        assert [event async for event in replay(made.store, PLAN)] == made.told[:-1]
        assert event.object is not None
        pixels, found = decode_read(await made.store.get(event.object), PLAN.sampling.shape)
        assert found == header
        assert (pixels == pixels_of(header)).all()


async def test_a_fact_is_in_the_store_before_it_is_told(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    seen: list[tuple[str, int]] = []

    async def tell(events: Sequence[Event]) -> None:
        seen.extend([(type(event).__name__, len(await store.keys(""))) for event in events])

    async with Edge(PLAN, store, tell, Spool(tmp_path / "spool", PLENTY)) as edge:
        await edge.start_observation()
        await edge.drained()
        await edge.start_exposure(EXPOSURE, DUE)
        await edge.drained()
        await edge.abort_exposure(EXPOSURE, "for a test" * 1000)
        await edge.drained()
    assert seen == [("ObservationStarted", 1), ("ExposureStarted", 2), ("ExposureAborted", 3)]


async def test_an_aborted_exposure_says_why(scene: Open) -> None:
    async with scene() as made:
        await made.edge.abort_exposure(EXPOSURE, "The shutter fell off.")
        assert await made.drained() == ["ExposureAborted"]
        (event,) = made.told
        assert isinstance(event, ExposureAborted)
        assert event.reason == "The shutter fell off."
        assert await made.names() == ["aborted.json"]


@pytest.mark.parametrize(
    ("pixels", "changes", "error", "says"),
    [
        (np.zeros((6, 9), np.uint16), {}, WrongShape, r"uint16 \(6, 9\), planned is uint16 \(6, 8\)"),
        (np.zeros((6, 8), np.int16), {}, WrongShape, r"int16 \(6, 8\), planned is uint16"),
        (None, {"shape": (8, 6)}, WrongShape, r"has the shape \(8, 6\), planned is \(6, 8\)"),
        (None, {"filter": "J"}, Fatal, "filter is J, planned is H"),
        (None, {"reads": 3}, Fatal, "reads is 3, planned is 2"),
        (None, {"group_reads": 2}, Fatal, "group_reads is 2, planned is 1"),
        (None, {"read_interval_s": 1.44}, Fatal, "read_interval_s is 1.44, planned is "),
        (None, {"sampling_mode": SamplingMode.CDS, "grating": "4000"}, Fatal, "grating is 4000.*sampling_mode is CDS"),
    ],
)
async def test_a_read_that_is_not_as_planned_is_refused_and_its_exposure_does_not_wait(
    scene: Open, pixels: NDArray[Any] | None, changes: dict[str, Any], error: type[Fatal], says: str
) -> None:
    header = header_of(PLAN, EXPOSURE, 2)
    content = pixels_of(header) if pixels is None else pixels
    async with scene() as made:
        with pytest.raises(error, match=says) as problem:
            await made.edge.write_read(content, header.model_copy(update=changes))
        assert await made.drained() == ["ReadFailed"]
        (event,) = made.told
        assert isinstance(event, ReadFailed)
        assert (event.ramp, event.read, event.reason) == (1, 2, str(problem.value))
        assert await made.names() == ["failed"]


@pytest.mark.parametrize(
    "changes",
    [{"observation": "2034B-007-999"}, {"exposure": 7}, {"detector": Detector.IMG2}, {"ramp": 2}, {"read": 3}],
)
async def test_a_read_of_something_else_is_refused_and_nothing_is_told(scene: Open, changes: dict[str, Any]) -> None:
    header = header_of(PLAN, EXPOSURE, 1)
    async with scene() as made:
        with pytest.raises(Fatal, match="is no read of the plan of 2034B-007-123"):
            await made.edge.write_read(pixels_of(header), header.model_copy(update=changes))
        assert await made.drained() == []


async def test_reads_are_taken_while_the_system_is_away_and_sent_as_they_were(tmp_path: Path) -> None:
    """What a first process spooled is sent by a second one."""

    async def nobody(_: Sequence[Event]) -> None:
        raise Outage("The bus is away.")

    header = header_of(PLAN, EXPOSURE, 1)
    store = DirectoryStore(tmp_path / "store")
    async with Edge(PLAN, store, nobody, Spool(tmp_path / "spool", PLENTY)) as edge:
        await edge.start_observation()
        first = await edge.write_read(pixels_of(header), header)
    told: list[Event] = []

    async def tell(events: Sequence[Event]) -> None:
        told.extend(events)

    async with Edge(PLAN, store, tell, Spool(tmp_path / "spool", PLENTY)) as edge, asyncio.timeout(SOON_S):
        await edge.drained()
    assert told[1:] == [first]
    assert await store.keys(exposure_prefix(PLAN.night, EXPOSURE)) == [first.object.key]
    assert not (tmp_path / "spool").exists()


async def test_an_edge_whose_drain_died_takes_nothing_more(tmp_path: Path) -> None:
    async def broken(_: Sequence[Event]) -> None:
        raise ZeroDivisionError

    edge = Edge(PLAN, DirectoryStore(tmp_path / "store"), broken, Spool(tmp_path / "spool", PLENTY))
    with pytest.raises(ExceptionGroup) as death:
        async with edge:
            await edge.start_observation()
            await edge.drained()
    assert death.group_contains(ZeroDivisionError)
    assert edge.spool.depth == 1, "the next process sends it"


async def test_an_edge_works_inside_of_its_context(tmp_path: Path) -> None:
    async def tell(_: Sequence[Event]) -> None:
        return None

    edge = Edge(PLAN, DirectoryStore(tmp_path / "store"), tell, Spool(tmp_path / "spool", PLENTY))
    with pytest.raises(RuntimeError, match="inside of `async with`"):
        await edge.start_observation()
