"""The drain: whatever store and bus do, events are told in the spool's order, each after its object, the same bytes."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from irisdrs.shared.edge.drain import WINDOW, Drain
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import BadMessage, Fatal, Outage
from irisdrs.shared.events import Event, ExposureEnded
from irisdrs.shared.identifiers import Detector, ExposureType
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import FITS, ObjectRef, Put
from irisdrs.shared.testing.small_observation import NIGHT, small_plan

PLENTY = 100_000_000
#: Longest wait for what comes at once; only a failure waits so long.
SOON_S = 20.0

_T = TypeVar("_T")


def event(number: int) -> ExposureEnded:
    """An event that says its number."""
    return ExposureEnded(
        observation="2034B-007-123",
        exposure_type=ExposureType.SCI,
        exposure=number,
        detector=Detector.IMG1,
        night=NIGHT,
        sampling=small_plan().sampling,
    )


def payload(number: int) -> bytes:
    return bytes([number]) * (100 + number)


def key(number: int) -> str:
    return f"0/{number}.fits"


async def fill(spool: Spool, numbers: Sequence[int]) -> None:
    """Entries of objects; every third announces none."""
    for number in numbers:
        data = payload(number)
        ref = ObjectRef(key=key(number), sha256=hashlib.sha256(data).hexdigest(), size=len(data))
        await (spool.append(event(number), ref, data) if number % 3 else spool.append(event(number)))


class Weather:
    """What happens to calls, one after another: they get through, fail before or after their effect, or are slow."""

    def __init__(self, forecast: Sequence[str]) -> None:
        self._forecast = iter(forecast)

    async def passes(self, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call in this weather; fine once the forecast has ended."""
        now = next(self._forecast, "fine")
        if now == "fails before":
            raise Outage("It is away.")
        if now == "slow":
            for _ in range(20):
                await asyncio.sleep(0)
        answer = await call()
        if now == "fails after":
            raise Outage("It was away before it could answer.")
        return answer


class ExposedStore(DirectoryStore):
    """A directory store in weather."""

    def __init__(self, root: Path, weather: Weather) -> None:
        super().__init__(root)
        self._weather = weather

    async def put_file(
        self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
    ) -> Put:
        put = super().put_file
        return await self._weather.passes(lambda: put(key, path, media_type=media_type, metadata=metadata))


class Listener:
    """The end of the line: notes what it is told, and that its object was there."""

    def __init__(self, store: DirectoryStore, weather: Weather) -> None:
        self._store, self._weather = store, weather
        self.heard: list[int] = []

    async def tell(self, events: Sequence[Event]) -> None:
        await self._weather.passes(lambda: self._hear(events))

    async def _hear(self, events: Sequence[Event]) -> None:
        for told in events:
            assert isinstance(told, ExposureEnded)
            if told.exposure % 3:
                assert await self._store.head(key(told.exposure)) is not None
            self.heard.append(told.exposure)


@asynccontextmanager
async def draining(drain: Drain) -> AsyncIterator[None]:
    task = asyncio.create_task(drain.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


Forecast = st.lists(st.sampled_from(["fine", "slow", "fails before", "fails after"]), max_size=12)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), Forecast, Forecast)
def test_any_outages_leave_order_and_bytes(
    entries: int, spooled_first: int, of_the_store: Sequence[str], of_the_bus: Sequence[str]
) -> None:
    numbers = list(range(1, entries + 1))

    async def play(home: Path) -> None:
        store = ExposedStore(home / "store", Weather(of_the_store))
        listener = Listener(store, Weather(of_the_bus))
        spool = Spool(home / "spool", PLENTY)
        await fill(spool, numbers[:spooled_first])
        async with draining(Drain(spool, store, listener.tell, longest_wait_s=0.0)), asyncio.timeout(SOON_S):
            await fill(spool, numbers[spooled_first:])
            await spool.emptied()
        assert list(dict.fromkeys(listener.heard)) == numbers
        assert listener.heard == sorted(listener.heard), "an event is told again at once or not at all"
        keys = await store.keys("0/")
        assert {name: (home / "store" / name).read_bytes() for name in keys} == {
            key(number): payload(number) for number in numbers if number % 3
        }
        spool.close()
        assert not (home / "spool").exists()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


async def test_puts_run_side_by_side_and_no_more_than_the_window(tmp_path: Path) -> None:
    running, most, all_run = 0, 0, asyncio.Event()

    class Gate(DirectoryStore):
        async def put_file(
            self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
        ) -> Put:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == WINDOW:
                all_run.set()
            await all_run.wait()
            put = await super().put_file(key, path, media_type=media_type, metadata=metadata)
            running -= 1
            return put

    store = Gate(tmp_path / "store")
    listener = Listener(store, Weather(()))
    spool = Spool(tmp_path / "spool", PLENTY)
    numbers = [number for number in range(1, 40) if number % 3]
    await fill(spool, numbers)
    async with draining(Drain(spool, store, listener.tell)), asyncio.timeout(SOON_S):
        await spool.emptied()
    assert most == WINDOW
    assert listener.heard == numbers


async def test_the_spooled_file_becomes_the_object(tmp_path: Path) -> None:
    async def nobody_hears(_: Sequence[Event]) -> None:
        raise Outage("The bus is away.")

    store = DirectoryStore(tmp_path / "store")
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1])
    async with draining(Drain(spool, store, nobody_hears)), asyncio.timeout(SOON_S):
        while await store.head(key(1)) is None:
            await asyncio.sleep(0.001)
    assert (tmp_path / "store" / key(1)).samefile(tmp_path / "spool" / "000000000001.payload")


async def test_what_the_store_can_never_take_is_put_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    class Choosy(DirectoryStore):
        async def put_file(
            self, key: str, path: Path, *, media_type: str = FITS, metadata: Mapping[str, str] | None = None
        ) -> Put:
            if key == "0/2.fits":
                raise Fatal("This is too large for the store.")
            return await super().put_file(key, path, media_type=media_type, metadata=metadata)

    store = Choosy(tmp_path / "store")
    listener = Listener(store, Weather(()))
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1, 2, 3, 4])
    with capture_logs() as logs:
        async with draining(Drain(spool, store, listener.tell)), asyncio.timeout(SOON_S):
            await spool.emptied()
    assert listener.heard == [1, 3, 4]
    assert [log["reason"] for log in logs] == ["This is too large for the store."]
    assert (tmp_path / "spool/damaged/000000000002.txt").read_text() == "This is too large for the store.\n"
    assert (tmp_path / "spool/damaged/000000000002.payload").read_bytes() == payload(2)


async def test_what_the_bus_refuses_is_put_aside_and_the_rest_goes_on(tmp_path: Path) -> None:
    heard: list[int] = []

    async def choosy(events: Sequence[Event]) -> None:
        for told in events:
            assert isinstance(told, ExposureEnded)
            if told.exposure == 2:
                raise BadMessage("No such event.")
            heard.append(told.exposure)

    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1, 2, 3])
    async with draining(Drain(spool, DirectoryStore(tmp_path / "store"), choosy)), asyncio.timeout(SOON_S):
        await spool.emptied()
    assert heard == [1, 3]
    assert spool.damaged == 1


async def test_a_bus_that_refuses_everything_ends_the_drain_before_the_spool_is_put_aside(tmp_path: Path) -> None:
    async def something_else(_: Sequence[Event]) -> None:
        raise BadMessage("404: no such page.")

    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, range(1, 20))
    with pytest.raises(ExceptionGroup) as death:
        await Drain(spool, DirectoryStore(tmp_path / "store"), something_else).run()
    assert death.group_contains(Fatal, match=r"has refused 3 entries in a row.*404: no such page")
    assert (spool.damaged, spool.depth) == (3, 16)


async def test_refusals_between_successes_do_not_end_the_drain(tmp_path: Path) -> None:
    heard: list[int] = []

    async def odd_only(events: Sequence[Event]) -> None:
        for told in events:
            assert isinstance(told, ExposureEnded)
            if told.exposure % 2 == 0:
                raise BadMessage("An even number.")
            heard.append(told.exposure)

    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, range(1, 20))
    async with draining(Drain(spool, DirectoryStore(tmp_path / "store"), odd_only)), asyncio.timeout(SOON_S):
        await spool.emptied()
    assert heard == list(range(1, 20, 2))
    assert spool.damaged == 9


async def test_bytes_that_changed_in_the_spool_are_put_aside(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    listener = Listener(store, Weather(()))
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1, 2])
    (tmp_path / "spool/000000000001.payload").write_bytes(b"\x00" * len(payload(1)))
    async with draining(Drain(spool, store, listener.tell)), asyncio.timeout(SOON_S):
        await spool.emptied()
    assert listener.heard == [2]
    assert await store.keys("0/") == [key(2)]


async def test_an_outage_is_told_once_and_so_is_its_end(tmp_path: Path) -> None:
    store = ExposedStore(tmp_path / "store", Weather(["fails before"] * 5))
    listener = Listener(store, Weather(["fine", "fails before", "fails before"]))
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1])
    drain = Drain(spool, store, listener.tell, longest_wait_s=0.0)
    with capture_logs() as logs:
        async with draining(drain), asyncio.timeout(SOON_S):
            await spool.emptied()
            await fill(spool, [2])
            await spool.emptied()
    assert [(log["log_level"], log["event"]) for log in logs] == [
        ("error", "the store is away: reads wait in the spool"),
        ("info", "the store is back"),
        ("error", "the bus is away: reads wait in the spool"),
        ("info", "the bus is back"),
    ]
    assert not drain.store.away
    assert not drain.bus.away


async def test_an_object_that_is_there_with_other_bytes_is_adopted_loudly(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "store")
    await store.put(key(1), b"other bytes")
    listener = Listener(store, Weather(()))
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1])
    with capture_logs() as logs:
        async with draining(Drain(spool, store, listener.tell)), asyncio.timeout(SOON_S):
            await spool.emptied()
    assert listener.heard == [1]
    assert [log["log_level"] for log in logs] == ["error"]


async def test_an_error_that_nobody_expects_ends_the_drain_and_leaves_the_entry(tmp_path: Path) -> None:
    async def broken(_: Sequence[Event]) -> None:
        raise ZeroDivisionError

    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, [1])
    with pytest.raises(ExceptionGroup) as death:
        await Drain(spool, DirectoryStore(tmp_path / "store"), broken).run()
    assert death.group_contains(ZeroDivisionError)
    assert spool.depth == 1
