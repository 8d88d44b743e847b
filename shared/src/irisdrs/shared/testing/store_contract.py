"""What every store does: subclass, give a `store` fixture, and run."""

import asyncio
import hashlib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.store.port import JSON, METADATA_MAX_BYTES, ObjectRef, Store

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

    async def test_an_object_may_be_empty(self, store: Store) -> None:
        ref = (await store.put(KEY, b"")).stored.ref
        assert ref.size == 0
        assert await store.get(ref) == b""
        async with store.local(ref) as path:
            assert path.read_bytes() == b""

    async def test_the_same_bytes_again_are_adopted(self, store: Store, tmp_path: Path) -> None:
        first = await store.put(KEY, b"pixels", metadata={"reads-used": "8"})
        source = tmp_path / "source"
        source.write_bytes(b"pixels")
        for again in (await store.put(KEY, b"pixels"), await store.put_file(KEY, source)):
            assert not again.created
            assert again.stored == first.stored

    async def test_keeps_metadata_as_they_are(self, store: Store) -> None:
        printable = "".join(map(chr, range(0x21, 0x7F)))
        metadata = {"a": printable, "b-1": '{"steps": ["x", "y"]}', "c": "two  spaces", "d": "x" * 1000}
        stored = (await store.put(KEY, b"", metadata=metadata)).stored
        assert stored.metadata == metadata
        assert await store.head(KEY) == stored

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

    async def test_that_another_has_a_contested_key_is_no_error(self, store: Store) -> None:
        with capture_logs() as logs:
            await asyncio.gather(*(store.put(KEY, f"writer {n}".encode(), contested=True) for n in range(16)))
        assert not [line for line in logs if line["log_level"] == "error"]

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
        assert await store.keys("") == ["a/1.fits", "a/2.fits", "a/b/1.fits", "ab/1.fits", "c.json"]

    async def test_what_keys_begin_with_is_no_object(self, store: Store) -> None:
        await store.put("a/b/1.fits", b"pixels")
        assert await store.head("a/b") is None
        assert await store.head("a") is None
        with pytest.raises(CorruptObject, match="not in the store"):
            await store.get(ObjectRef(key="a/b", sha256="0" * 64, size=1))

    async def test_a_local_file_is_read_only_and_named_as_its_key(self, store: Store) -> None:
        ref = (await store.put(KEY, b"pixels")).stored.ref
        async with store.local(ref) as path:
            assert path.name == KEY.rpartition("/")[2]
            assert path.stat().st_mode & 0o222 == 0

    async def test_a_local_file_lasts_as_long_as_its_user_needs_it(self, store: Store) -> None:
        ref = (await store.put(KEY, b"pixels")).stored.ref
        async with store.local(ref) as path:
            async with store.local(ref) as another:
                assert another.read_bytes() == b"pixels"
            assert path.read_bytes() == b"pixels"

    @pytest.mark.parametrize("key", ["", "/etc/passwd", "../x", "a/../b", ".hidden", "a//b", "a/", "a b", "a/.meta/b"])
    async def test_refuses_keys_that_are_no_keys(self, store: Store, key: str) -> None:
        with pytest.raises(ValueError, match="is no key"):
            await store.put(key, b"")
        with pytest.raises(ValueError, match="is no key"):
            await store.head(key)

    @pytest.mark.parametrize(
        "metadata",
        [
            {"Name": "x"},
            {"sha256": "x"},
            {"name": "é"},
            {"name": ""},
            {"name": " x"},
            {"name": "x\n"},
            {"name": "x\r\nx-amz-acl: public-read"},
            {"name": "x" * METADATA_MAX_BYTES},
        ],
    )
    async def test_refuses_metadata_that_s3_could_not_carry(self, store: Store, metadata: dict[str, str]) -> None:
        with pytest.raises(ValueError, match="metadata"):
            await store.put(KEY, b"", metadata=metadata)
        assert await store.head(KEY) is None
