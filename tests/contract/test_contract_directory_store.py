"""The directory store keeps the store's contract, and some promises of its own."""

import os
import resource
import signal
from pathlib import Path

import pytest

from irisdrs.shared.errors import CorruptObject, Outage
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.store_contract import KEY, StoreContract


class TestDirectoryStore(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "store")


async def test_an_object_is_a_plain_read_only_file_under_its_key(tmp_path: Path) -> None:
    await DirectoryStore(tmp_path).put(KEY, b"pixels")
    assert (tmp_path / KEY).read_bytes() == b"pixels"
    assert (tmp_path / KEY).stat().st_mode & 0o222 == 0
    assert list((tmp_path / ".uploads").iterdir()) == []


async def test_metadata_survive_a_new_process_and_a_copy_of_the_tree(tmp_path: Path) -> None:
    put = await DirectoryStore(tmp_path / "one").put(KEY, b"pixels", metadata={"reads-used": "8"})
    (tmp_path / "one").rename(tmp_path / "two")
    assert await DirectoryStore(tmp_path / "two").head(KEY) == put.stored


async def test_metadata_of_a_writer_that_died_before_the_object_appeared_are_not_the_winners(tmp_path: Path) -> None:
    dead = DirectoryStore(tmp_path)
    await dead.put(KEY, b"the dead writer's", metadata={"writer": "dead"})
    (tmp_path / KEY).unlink()  # as if it had been killed between its metadata and its link
    winner = await DirectoryStore(tmp_path).put(KEY, b"the winner's", metadata={"writer": "winner"})
    assert winner.created
    stored = await DirectoryStore(tmp_path).head(KEY)
    assert stored == winner.stored
    assert stored is not None and stored.metadata == {"writer": "winner"}


async def test_a_truncated_object_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    ref = (await store.put(KEY, b"pixels")).stored.ref
    (tmp_path / KEY).chmod(0o644)
    os.truncate(tmp_path / KEY, 3)
    with pytest.raises(CorruptObject, match="has 3 bytes, announced were 6"):
        await store.get(ref)


async def test_a_full_disk_is_an_outage_and_leaves_nothing_half_written(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)  # a file size limit fails a write as a full disk does
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3, hard))
    try:
        with pytest.raises(Outage, match="cannot take"):
            await store.put(KEY, b"pixels")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert await store.head(KEY) is None
    assert list((tmp_path / ".uploads").iterdir()) == []


async def test_an_object_that_is_changed_after_it_was_verified_is_refused(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    ref = (await store.put(KEY, b"pixels")).stored.ref
    async with store.local(ref):
        pass
    (tmp_path / KEY).chmod(0o644)
    (tmp_path / KEY).write_bytes(b"PIXELS")
    with pytest.raises(CorruptObject, match="announced was"):
        async with store.local(ref):
            pass
