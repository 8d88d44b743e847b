"""Room for reads that wait: in memory up to a bound, else in files without a name; given back when nobody holds it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irisdrs.readout.ring import Ring, Room
from irisdrs.shared.errors import Outage
from irisdrs.shared.testing.servers.disk import SmallDisk

SHAPE = (8, 16)
RING_BYTES = 3 * 8 * 16 * 2


def mapped_files(folder: Path) -> int:
    """How many files of a folder this process has in its memory, names or not."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sum(f" {folder}/" in line for line in lines)


def comes_to(room: Room, expected_bytes: int) -> bool:
    """Whether a room takes so much memory, once threads that have just finished let go of what they worked on."""
    deadline_s = time.monotonic() + 60.0
    while room.in_memory_bytes != expected_bytes and time.monotonic() < deadline_s:
        time.sleep(0.001)
    return room.in_memory_bytes == expected_bytes


@pytest.mark.parametrize("limit_bytes", [0, RING_BYTES])
def test_a_ring_gives_back_what_it_took_wherever_it_is(tmp_path: Path, limit_bytes: int) -> None:
    room = Room(limit_bytes, tmp_path)
    ring = Ring(room, 3, SHAPE)
    assert room.in_memory_bytes == limit_bytes
    rng = np.random.default_rng(1)
    for _ in range(2):  # two ramps, one after the other
        reads = rng.integers(0, 65536, (2, *SHAPE)).astype(np.uint16)
        column_offset, row_offset = rng.normal(0, 9, (2, 16)).astype(np.float32), rng.normal(0, 9, (2, 8))
        for k, read in enumerate(reads):
            ring.take(read, 0.7 * (k + 1), (column_offset[k], row_offset[k].astype(np.float32)))
        np.testing.assert_array_equal(ring.reads, reads)
        np.testing.assert_array_equal(ring.column_offset, column_offset)
        np.testing.assert_array_equal(ring.row_offset[..., 0], row_offset.astype(np.float32))
        np.testing.assert_array_equal(ring.times_s, [0.7, 1.4])
        assert ring.reads.flags.c_contiguous
        assert ring.reads.flags.writeable
        ring.clear()
        assert len(ring.reads) == len(ring.times_s) == 0
    assert list(tmp_path.iterdir()) == []  # a file of it has no name


def test_memory_is_bounded_and_given_back(tmp_path: Path) -> None:
    room = Room(2 * RING_BYTES, tmp_path)
    first, second = Ring(room, 3, SHAPE), Ring(room, 3, SHAPE)
    third = Ring(room, 3, SHAPE)
    assert room.in_memory_bytes == 2 * RING_BYTES
    assert mapped_files(tmp_path) == 1
    reads = second.reads  # whoever still holds reads, holds their memory
    del first, second
    assert room.in_memory_bytes == RING_BYTES
    fourth = Ring(room, 3, SHAPE)
    assert room.in_memory_bytes == 2 * RING_BYTES
    assert mapped_files(tmp_path) == 1
    del third, fourth, reads
    assert room.in_memory_bytes == 0
    assert mapped_files(tmp_path) == 0


def test_copies_are_the_same_wherever_they_are_and_take_one_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    planes: tuple[NDArray[Any], ...] = (
        rng.normal(0, 1, (3, 5)).astype(np.float32),
        rng.integers(0, 65536, (3, 5)).astype(np.uint16),
        rng.integers(0, 2**32, (3, 5)).astype(np.uint32),
    )
    pieces = 64 + 32 + 64  # 60, 30 and 60 bytes, each from a multiple of 16 on
    for limit_bytes in (0, pieces):
        room = Room(limit_bytes, tmp_path)
        copies = room.copies(*planes)
        for plane, copy in zip(planes, copies, strict=True):
            np.testing.assert_array_equal(copy, plane)
            assert copy.dtype == plane.dtype
            assert copy.flags.aligned
            assert not np.shares_memory(copy, plane)
        assert room.in_memory_bytes == limit_bytes
        assert mapped_files(tmp_path) == (limit_bytes == 0)
        last = copies[-1]
        del copies, copy
        assert room.in_memory_bytes == limit_bytes  # whoever holds one, holds the piece
        np.testing.assert_array_equal(last, planes[-1])
        del last
        assert room.in_memory_bytes == mapped_files(tmp_path) == 0


def test_a_full_disk_is_said_at_once_and_goes_by(disk: SmallDisk) -> None:
    room = Room(0, disk.folder)
    ring = Ring(room, 3, SHAPE)
    disk.fill()
    with pytest.raises(Outage, match="No space left on device") as found:
        Ring(room, 300, SHAPE)
    assert str(300 * 8 * 16 * 2) in found.value.message
    assert "IRIS_READOUT_RING_BYTES" in found.value.remedy
    ring.take(np.full(SHAPE, 7, np.uint16), 0.7, (np.zeros(16, np.float32), np.zeros(8, np.float32)))
    assert (ring.reads == 7).all()  # what has room keeps it
    disk.free()
    Ring(room, 300, SHAPE)


def test_a_folder_that_is_gone_is_an_outage_too(tmp_path: Path) -> None:
    with pytest.raises(Outage, match="No such file or directory"):
        Ring(Room(0, tmp_path / "gone"), 3, SHAPE)
