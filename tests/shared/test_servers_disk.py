"""A disk that is full: the store says so and shows nothing half-written; the spool waits; both go on with room."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from irisdrs.shared.edge.gauge import Level
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Outage
from irisdrs.shared.events import ExposureEnded
from irisdrs.shared.identifiers import Detector, ExposureType
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.testing.servers.disk import SmallDisk, small_disk
from irisdrs.shared.testing.small_observation import NIGHT, small_plan

PIXELS = bytes(range(256)) * 1024
PAGE = 4096


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.name != ".ballast"]


@pytest.mark.usefixtures("disk")  # where one can be mounted, so can another
def test_a_disk_is_filled_freed_and_gone_at_last(tmp_path: Path) -> None:
    with small_disk(tmp_path / "another", 1_000_000) as disk:
        disk.fill(leave_bytes=2 * PAGE)
        assert disk.free_bytes == 2 * PAGE
        disk.fill()
        with pytest.raises(OSError, match="No space left"):
            (disk.folder / "a").write_bytes(b"x")
        disk.free()
        (disk.folder / "b").write_bytes(b"x")
        held = (disk.folder / "b").open("rb")
    assert list((tmp_path / "another").iterdir()) == []  # unmounted, though a file is open
    held.close()


@pytest.mark.parametrize("pages", [0, 1, 2, 8, 64])
async def test_a_full_store_is_an_outage_and_shows_nothing_half_written(disk: SmallDisk, pages: int) -> None:
    store = DirectoryStore(disk.folder / "store")
    first = (await store.put("a/first", PIXELS)).stored.ref
    before = files(disk.folder)
    disk.fill(leave_bytes=pages * PAGE)
    with pytest.raises(Outage, match=r"cannot take b/second: No space left on device\. Free or mend its disk"):
        await store.put("b/second", PIXELS)
    assert files(disk.folder) == before
    assert await store.head("b/second") is None
    assert await store.keys("") == ["a/first"]
    assert await store.get(first) == PIXELS
    disk.free()
    put = await store.put("b/second", PIXELS)
    assert put.created
    assert await store.get(put.stored.ref) == PIXELS


@pytest.mark.parametrize("pages", [0, 1, 2])
async def test_a_file_that_a_full_store_cannot_take_stays_with_its_owner(
    disk: SmallDisk, tmp_path: Path, pages: int
) -> None:
    store = DirectoryStore(disk.folder / "store")
    for folder in (disk.folder, tmp_path):  # where it can be linked, and where it is copied
        source = folder / "source"
        source.write_bytes(PIXELS)
        disk.fill(leave_bytes=pages * PAGE)
        key = f"b/{folder.name}"
        try:
            await store.put_file(key, source)  # a link needs little room
        except Outage:
            assert await store.head(key) is None
            assert not [path for path in files(disk.folder / "store") if "b" not in path.parts]
        assert source.read_bytes() == PIXELS
        disk.free()
        assert (await store.put_file(key, source)).stored.ref.size == len(PIXELS)


async def test_the_spool_waits_for_room_and_goes_on(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("irisdrs.shared.edge.spool.DISK_RETRY_S", 0.01)
    spool = Spool(disk.folder / "spool", 100_000_000)
    event = ExposureEnded(
        observation="2034B-007-123",
        exposure_type=ExposureType.SCI,
        exposure=1,
        detector=Detector.IMG1,
        night=NIGHT,
        sampling=small_plan().sampling,
    )
    ref = ObjectRef(key="0/1.fits", sha256=hashlib.sha256(PIXELS).hexdigest(), size=len(PIXELS))
    disk.fill(leave_bytes=PAGE)
    adding = asyncio.create_task(spool.append(event, ref, PIXELS))
    async with asyncio.timeout(20.0):
        while spool.level is not Level.FULL:
            await asyncio.sleep(0.01)
    assert spool.depth == 0
    disk.free()
    async with asyncio.timeout(20.0):
        number = await adding
    _, payload = await spool.load(number)
    assert payload.read_bytes() == PIXELS
    await spool.remove(number)
    spool.close()
