"""The spool: whole entries in order, whatever happens to process and disk; nothing is dropped for want of room."""

import asyncio
import contextlib
import hashlib
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from irisdrs.shared.edge.gauge import Gauge, Level
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events import ExposureEnded
from irisdrs.shared.identifiers import Detector, ExposureType
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.testing.small_observation import NIGHT, small_plan

PLENTY = 100_000_000
#: Longest wait for what comes at once; only a failure waits so long.
SOON_S = 20.0


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


async def fill(spool: Spool, *numbers: int, size: int = 1000) -> None:
    """Append an entry of a payload for each number."""
    for number in numbers:
        data = bytes([number]) * size
        ref = ObjectRef(key=f"0/{number}.fits", sha256=hashlib.sha256(data).hexdigest(), size=size)
        await spool.append(event(number), ref, data, {"number": str(number)})


async def contents(spool: Spool) -> list[tuple[int, bytes]]:
    """Number of the event and payload of every entry, in order."""
    found, number = [], 0
    for _ in range(spool.depth):
        number = await spool.following(number)
        entry, payload = await spool.load(number)
        told = entry.event()
        assert isinstance(told, ExposureEnded)
        found.append((told.exposure, payload.read_bytes() if entry.object else b""))
    return found


async def until_full(spool: Spool) -> None:
    """Wait until an entry waits for room."""
    while spool.level is not Level.FULL:
        await asyncio.sleep(0.001)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


async def test_a_new_process_finds_the_entries_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, 3, 1)
    await spool.append(event(2))
    before = spool.bytes
    spool.close()
    spool = Spool(tmp_path / "spool", PLENTY)
    assert await contents(spool) == [(3, b"\x03" * 1000), (1, b"\x01" * 1000), (2, b"")]
    assert (spool.depth, spool.bytes, spool.keys()) == (3, before, ["0/3.fits", "0/1.fits"])
    entry, _ = await spool.load(1)
    assert entry.metadata == {"number": "3"}
    await fill(spool, 4)
    assert [number for number, _ in await contents(spool)] == [3, 1, 2, 4]


async def test_only_what_is_removed_is_gone(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, 1, 2, 3)
    await spool.remove(2)
    spool.close()
    spool = Spool(tmp_path / "spool", PLENTY)
    assert [number for number, _ in await contents(spool)] == [1, 3]
    assert spool.oldest_age_s >= 0.0


async def test_what_a_dead_process_left_half_written_is_removed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1)
    spool.close()
    (tmp_path / "000000000002.payload").write_bytes(b"no descriptor yet")
    (tmp_path / "000000000002.part").write_bytes(b'{"number"')
    (tmp_path / "000000000001.part").write_bytes(b"")
    spool = Spool(tmp_path, PLENTY)
    assert await contents(spool) == [(1, b"\x01" * 1000)]
    assert files(tmp_path) == ["000000000001.json", "000000000001.payload"]


def cut_descriptor(folder: Path) -> None:
    os.truncate(folder / "000000000002.json", 40)


def other_number(folder: Path) -> None:
    (folder / "000000000002.json").write_bytes((folder / "000000000001.json").read_bytes())


def cut_payload(folder: Path) -> None:
    os.truncate(folder / "000000000002.payload", 40)


def no_payload(folder: Path) -> None:
    (folder / "000000000002.payload").unlink()


@pytest.mark.parametrize("damage", [cut_descriptor, other_number, cut_payload, no_payload])
async def test_a_damaged_entry_is_put_aside_and_the_others_go_on(tmp_path: Path, damage: object) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1, 2, 3)
    spool.close()
    assert callable(damage)
    damage(tmp_path)
    with capture_logs() as logs:
        spool = Spool(tmp_path, PLENTY)
    assert [(log["log_level"], "put aside" in log["event"]) for log in logs] == [("error", True)]
    assert [number for number, _ in await contents(spool)] == [1, 3]
    assert spool.damaged == 1
    assert (tmp_path / "damaged" / "000000000002.txt").read_text()
    assert (tmp_path / "damaged" / "000000000002.json").exists()


async def test_numbers_of_damaged_entries_do_not_come_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1, 2)
    await spool.remove(1)
    await spool.set_aside(2, "for a test")
    spool.close()
    spool = Spool(tmp_path, PLENTY)
    assert await spool.append(event(9)) == 3


async def test_bytes_that_have_changed_on_the_disk_are_not_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1)
    (tmp_path / "000000000001.payload").write_bytes(b"\x00" * 1000)
    with pytest.raises(CorruptObject, match="have changed"):
        await spool.load(1)


async def test_a_full_spool_waits_and_drops_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1)
    bound = 10 * spool.bytes + spool.bytes // 2
    spool.close()
    spool = Spool(tmp_path, bound)
    with capture_logs() as logs:
        await fill(spool, *range(2, 11))
        assert spool.level is Level.FILLING
        adding = asyncio.create_task(fill(spool, 11, 12))
        await until_full(spool)
        assert spool.depth == 10
        await spool.remove(1)
        while spool.depth < 10:
            await asyncio.sleep(0)
        assert not adding.done()
        await spool.remove(2)
        async with asyncio.timeout(SOON_S):
            await adding
    assert [number for number, _ in await contents(spool)] == list(range(3, 13))
    filling, full = [log for log in logs if log["log_level"] == "error"]
    assert "fills up" in filling["event"]
    assert "takes nothing" in full["event"]
    assert "IRIS_SPOOL_MAX_BYTES" in full["why"]


async def test_an_entry_larger_than_the_spool_is_refused(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 5000)
    with pytest.raises(Fatal, match=r"holds at most 5000\. Raise IRIS_SPOOL_MAX_BYTES"):
        await fill(spool, 1, size=6000)
    assert files(tmp_path) == []


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow larger, bytes: a write fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


async def test_a_full_disk_makes_an_entry_wait_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    await fill(spool, 1)
    with capture_logs() as logs:
        with largest_file(4_000_000):
            adding = asyncio.create_task(fill(spool, 2, size=5_000_000))
            await until_full(spool)
            assert files(tmp_path) == ["000000000001.json", "000000000001.payload"]
        await spool.remove(1)  # room: the waiting entry tries again at once
        async with asyncio.timeout(SOON_S):
            await adding
    assert await contents(spool) == [(2, b"\x02" * 5_000_000)]
    assert "cannot be written: File too large" in next(log["why"] for log in logs if log["log_level"] == "error")


async def test_a_disk_that_has_room_again_is_found_without_a_removal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("irisdrs.shared.edge.spool.DISK_RETRY_S", 0.01)
    spool = Spool(tmp_path, PLENTY)
    with largest_file(4_000_000):
        adding = asyncio.create_task(fill(spool, 2, size=5_000_000))
        await until_full(spool)
    async with asyncio.timeout(SOON_S):
        await adding
    assert [number for number, _ in await contents(spool)] == [2]


async def test_a_caller_that_is_cancelled_leaves_no_entry_that_only_the_disk_knows(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for number in range(20):
        adding = asyncio.create_task(fill(spool, number, size=100_000))
        for _ in range(number):  # at another step each time
            await asyncio.sleep(0)
        adding.cancel()
        await asyncio.wait({adding})
        assert len(files(tmp_path)) == 2 * spool.depth
    assert len(await contents(spool)) == spool.depth


async def test_a_caller_that_is_cancelled_at_every_step_leaves_no_such_entry_either(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    for number in range(10):
        adding = asyncio.create_task(fill(spool, number, size=100_000))
        await asyncio.sleep(0)
        while not adding.done():
            adding.cancel()
            await asyncio.sleep(0)
        assert len(files(tmp_path)) == 2 * spool.depth
    assert spool.depth > 0
    assert len(await contents(spool)) == spool.depth


async def test_one_process_at_a_time_uses_a_spool(tmp_path: Path) -> None:
    spool = Spool(tmp_path, PLENTY)
    with pytest.raises(Fatal, match="Another process uses the spool"):
        Spool(tmp_path, PLENTY)
    spool.close()
    Spool(tmp_path, PLENTY).close()


async def test_an_empty_spool_is_removed_and_a_damaged_entry_is_kept(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", PLENTY)
    await fill(spool, 1)
    await spool.set_aside(1, "for a test")
    spool.close()
    assert (tmp_path / "spool" / "damaged" / "000000000001.txt").read_text() == "for a test\n"
    (tmp_path / "spool" / "damaged" / "000000000001.json").rename(tmp_path / "spool" / "000000000001.json")
    (tmp_path / "spool" / "damaged" / "000000000001.payload").rename(tmp_path / "spool" / "000000000001.payload")
    (tmp_path / "spool" / "damaged" / "000000000001.txt").unlink()
    spool = Spool(tmp_path / "spool", PLENTY)  # mended by a person
    assert await contents(spool) == [(1, b"\x01" * 1000)]
    await spool.remove(1)
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_the_alarm_says_once_how_many_minutes_are_left() -> None:
    seconds = iter([0.0, 30.0, 60.0, 90.0, 120.0, 150.0, 180.0, 210.0])
    gauge = Gauge(1000, clock=lambda: next(seconds))
    with capture_logs() as logs:
        for used in (0, 300, 600, 800, 850):  # 300 bytes in 30 s, then slower
            gauge.show(used)
        assert gauge.level is Level.FILLING
        assert gauge.minutes_left() == pytest.approx(150 / (250 / 60.0) / 60.0, abs=0.05)
        gauge.show(790)
        assert gauge.level is Level.FILLING, "no new alarm for a spool that hovers at the limit"
        gauge.show(690)
        assert gauge.minutes_left() is None
        gauge.show(800)
    assert [(log["log_level"], log.get("minutes_left")) for log in logs] == [
        ("error", 0.4),  # 200 bytes more, at 500 a minute
        ("info", None),
        ("error", 20.0),  # at 10 a minute
    ]
