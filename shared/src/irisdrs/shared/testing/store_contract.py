"""What every store does: subclass, give a `store` fixture, and run."""

import asyncio
import hashlib
from pathlib import Path

import pytest

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.store.port import JSON, ObjectRef, Store

KEY = "0/2034/08/01/2034B-007-123/SCI0-0034/IMG1/0001/00001-0123456789abcdef.fits"


class StoreContract:
    """Contract of `irisdrs.shared.store.port.Store`."""

    async def test_gives_back_what_was_put(self, store: Store) -> None:
        put = await store.put(KEY, b"pixels", metadata={"reads-used": "8"})
        assert put.created
        assert put.stored.ref.sha256 == hashlib.sha256(b"pixels").hexdigest()
        assert await store.get(put.stored.ref) == b"pixels"
        assert await store.head(KEY) == put.stored
        assert put.stored.metadata == {"reads-used": "8"}

    async def test_put_of_a_file_is_a_put_of_its_bytes(self, store: Store, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(b"x" * 10_000_000)
        put = await store.put_file(KEY, source, media_type=JSON)
        assert (put.stored.ref.size, put.stored.ref.media_type) == (10_000_000, JSON)
        source.unlink()
        async with store.local(put.stored.ref) as path:
            assert path.read_bytes() == b"x" * 10_000_000

    async def test_writes_once_and_adopts(self, store: Store) -> None:
        first = await store.put(KEY, b"first", metadata={"device": "cpu"})
        second = await store.put(KEY, b"second", metadata={"device": "cuda"})
        assert not second.created
        assert second.stored == first.stored
        assert await store.get(first.stored.ref) == b"first"

    async def test_of_many_writers_one_wins(self, store: Store) -> None:
        puts = await asyncio.gather(*(store.put(KEY, f"writer {n}".encode()) for n in range(16)))
        assert sum(put.created for put in puts) == 1
        assert len({put.stored.ref.sha256 for put in puts}) == 1
        winner = next(put for put in puts if put.created)
        assert await store.get(winner.stored.ref)

    async def test_refuses_bytes_that_are_not_the_announced_ones(self, store: Store) -> None:
        ref = (await store.put(KEY, b"pixels")).stored.ref
        for wrong in (ref.model_copy(update={"sha256": "0" * 64}), ref.model_copy(update={"size": 5})):
            with pytest.raises(CorruptObject, match="announced"):
                await store.get(wrong)
            with pytest.raises(CorruptObject, match="announced"):
                async with store.local(wrong):
                    pass

    async def test_an_absent_object_is_said_to_be_absent(self, store: Store) -> None:
        assert await store.head(KEY) is None
        with pytest.raises(CorruptObject, match="not in the store"):
            await store.get(ObjectRef(key=KEY, sha256="0" * 64, size=1))

    async def test_lists_keys_by_prefix_in_order(self, store: Store) -> None:
        for name in ("a/2.fits", "a/1.fits", "a/b/1.fits", "ab/1.fits", "c.json"):
            await store.put(name, b"")
        assert await store.keys("a/") == ["a/1.fits", "a/2.fits", "a/b/1.fits"]
        assert await store.keys("a") == ["a/1.fits", "a/2.fits", "a/b/1.fits", "ab/1.fits"]
        assert await store.keys("a/1") == ["a/1.fits"]
        assert await store.keys("none/") == []

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", ".hidden", "a//b", "a/", "a b", "a/.meta/b"])
    async def test_refuses_keys_that_are_no_keys(self, store: Store, key: str) -> None:
        with pytest.raises(ValueError, match="is no key"):
            await store.put(key, b"")
        with pytest.raises(ValueError, match="is no key"):
            await store.head(key)

    async def test_refuses_metadata_that_s3_could_not_carry(self, store: Store) -> None:
        with pytest.raises(ValueError, match="metadata"):
            await store.put(KEY, b"", metadata={"Name": "x"})
        with pytest.raises(ValueError, match="metadata"):
            await store.put(KEY, b"", metadata={"name": "é"})
