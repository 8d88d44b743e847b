"""The history of contexts and the files that they publish, in a directory and on a real S3 server."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.crds_proxy.holdings_contract import HoldingsContract

from irisdrs.crds_proxy.exchange import publish_built
from irisdrs.crds_proxy.holdings import Change, ChangeKind, Published
from irisdrs.crds_proxy.states import States, file_key, state_key
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds.cache import Cache, read_manifest
from irisdrs.shared.errors import Fatal, MissingReference, Outage
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import JSON, Store
from irisdrs.shared.store.s3 import S3Store, s3_store
from irisdrs.shared.testing.servers.disk import SmallDisk
from irisdrs.shared.testing.servers.swift import SwiftServer

MORNING = datetime(2034, 8, 1, 17, tzinfo=UTC)
NAME = "tmt_iris_dark_0001.fits"


@contextlib.asynccontextmanager
async def opened(settings: HostSettings, scratch: Path) -> AsyncIterator[S3Store]:
    scratch.mkdir(exist_ok=True)
    store = s3_store(settings, scratch)
    await store.open()
    yield store
    await store.close()


@pytest.fixture(params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
        return
    async with opened(request.getfixturevalue("s3_settings"), tmp_path / "scratch") as s3:
        yield s3


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "crds")


def published(content: bytes) -> Published:
    return Published(len(content), hashlib.sha1(content).hexdigest(), hashlib.sha256(content).hexdigest())


def change(number: int, **files: bytes) -> Change:
    """Change of this number: a context of the same number, and more files by the ends of their names."""
    contents = {f"tmt_{number:04d}.pmap": f"context {number}".encode()}
    contents |= {f"tmt_iris_{name}.fits": content for name, content in files.items()}
    when = MORNING + timedelta(hours=number)
    facts = {name: published(content) for name, content in contents.items()}
    return Change(number, ChangeKind.DELIVERY, f"tmt_{number:04d}.pmap", when, "somebody", "a test", facts)


async def publish(store: Store, number: int, **files: bytes) -> Change:
    """Put the files of a change, and commit it."""
    made = change(number, **files)
    await store.put(file_key(made.context), f"context {number}".encode())
    for name, content in files.items():
        await store.put(file_key(f"tmt_iris_{name}.fits"), content)
    states = States(store)
    await states.changes()
    assert await states.commit(made)
    return made


async def test_nothing_is_in_force_before_the_first_change(store: Store, cache: Cache) -> None:
    catalogue = await StoreHoldings(store, Verifier(cache)).catalogue()
    assert (catalogue.changes, catalogue.files, catalogue.context) == ((), {}, None)


async def test_what_one_process_commits_another_reads(store: Store) -> None:
    reader = States(store)
    first = await publish(store, 1, dark_0001=b"dark")
    assert await reader.changes() == (first,)
    second = await publish(store, 2)
    assert await reader.changes() == (first, second)
    assert await States(store).changes() == (first, second)


async def test_of_many_who_commit_the_next_change_one_does(store: Store) -> None:
    await publish(store, 1)
    for name in "abcdefgh":
        await store.put(file_key(f"tmt_iris_dark_{name}.fits"), name.encode())
    many = [States(store) for _ in range(8)]
    await asyncio.gather(*(states.changes() for states in many))
    made = [change(2, **{f"dark_{name}": name.encode()}) for name in "abcdefgh"]
    done = await asyncio.gather(*(states.commit(one) for states, one in zip(many, made, strict=True)))
    assert sum(done) == 1
    assert (await States(store).changes())[1:] == (made[done.index(True)],)


async def test_who_commits_the_same_again_hears_that_it_is_in_force(store: Store) -> None:
    states = States(store)
    assert await states.commit(change(1))
    assert await states.commit(change(1))  # the answer to the first may have got lost


@pytest.mark.parametrize(
    ("number", "text", "reason"),
    [
        (1, "{", "Invalid JSON"),
        (1, "{}", "Field required"),
        (1, change(2), "its number is 2, not 1"),
        (2, change(2), "before that of the change before"),
        (1, "../../etc/passwd", "no name of a context"),
        (1, "tmt_0009.pmap", "nothing has published its context"),
    ],
)
async def test_a_damaged_history_says_where(tmp_path: Path, number: int, text: object, reason: str) -> None:
    store = DirectoryStore(tmp_path)
    plain = {
        "kind": "delivery", "at": (MORNING - timedelta(hours=9)).isoformat(), "by": "a", "reason": "b",
        "files": {f"tmt_{number:04d}.pmap": {"size": 1, "sha1sum": "0", "sha256": "0"}},
    }  # fmt: skip
    if isinstance(text, Change):
        text = json.dumps(plain | {"number": text.number, "context": f"tmt_{number:04d}.pmap"})
    elif "{" not in str(text):
        text = json.dumps(plain | {"number": number, "context": text})
    if number == 2:
        await publish(store, 1)
    await store.put(state_key(number), str(text).encode(), media_type=JSON)
    with pytest.raises(Fatal, match=reason) as raised:
        await States(store).changes()
    assert state_key(number) in raised.value.message


async def test_a_file_published_before_cannot_be_published_as_another(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    await publish(store, 1, dark_0001=b"dark")
    states = States(store)
    await states.changes()
    with pytest.raises(ValueError, match=r"it changes \['tmt_iris_dark_0001.fits'\]"):
        await states.commit(change(2, dark_0001=b"DARK"))


class TestStoreHoldingsContract(HoldingsContract):
    @pytest.fixture
    def published(self, built: Path) -> Cache:
        return Cache(built)

    @pytest.fixture
    def local(self, cache: Cache) -> Cache:
        return cache

    @pytest.fixture
    async def holdings(self, store: Store, published: Cache, local: Cache) -> StoreHoldings:
        assert await publish_built(store, States(store), published)
        return StoreHoldings(store, Verifier(local))


class TestStoreHoldings:
    """Files come into the local cache once, verified, and stay usable while the store is away."""

    async def test_a_new_context_is_seen_within_a_second(self, store: Store, cache: Cache) -> None:
        holdings = StoreHoldings(store, Verifier(cache))
        await publish(store, 1)
        assert (await holdings.catalogue()).context == "tmt_0001.pmap"
        await publish(store, 2)
        async with asyncio.timeout(1.0):
            while (await holdings.catalogue()).context != "tmt_0002.pmap":
                await asyncio.sleep(0.02)

    async def test_a_file_is_brought_read_only_and_is_in_the_manifest(self, store: Store, cache: Cache) -> None:
        await publish(store, 1, dark_0001=b"dark")
        holdings = StoreHoldings(store, Verifier(cache))
        paths = await asyncio.gather(*(holdings.local(NAME) for _ in range(20)))
        assert set(paths) == {cache.references / NAME}
        assert paths[0].read_bytes() == b"dark"
        assert paths[0].stat().st_mode & 0o222 == 0
        assert await holdings.local("tmt_0001.pmap") == cache.mappings / "tmt_0001.pmap"
        manifest = read_manifest(cache)
        assert (manifest[NAME].size, manifest[NAME].sha256) == (4, hashlib.sha256(b"dark").hexdigest())
        assert manifest.keys() == {NAME, "tmt_0001.pmap"}

    async def test_a_damaged_file_of_the_cache_is_brought_again(self, store: Store, cache: Cache) -> None:
        await publish(store, 1, dark_0001=b"dark")
        for holdings in (StoreHoldings(store, Verifier(cache)), StoreHoldings(store, Verifier(cache))):
            path = await holdings.local(NAME)
            assert path.read_bytes() == b"dark"
            path.chmod(0o644)
            path.write_bytes(b"DARK")
            assert (await holdings.local(NAME)).read_bytes() == b"dark"
            path.chmod(0o644)
            path.write_bytes(b"cut")

    @pytest.mark.parametrize("name", ["tmt_iris_dark_0009.fits", "../secret.fits", "/etc/passwd", ""])
    async def test_what_was_not_published_is_missing(self, tmp_path: Path, cache: Cache, name: str) -> None:
        store = DirectoryStore(tmp_path / "store")
        await publish(store, 1, dark_0001=b"dark")
        await store.put(file_key("tmt_iris_dark_0009.fits"), b"what a delivery that died has left")
        with pytest.raises(MissingReference):
            await StoreHoldings(store, Verifier(cache)).local(name)
        assert not cache.root.exists()

    async def test_an_object_that_is_damaged_is_missing_and_leaves_nothing(self, tmp_path: Path, cache: Cache) -> None:
        await publish(DirectoryStore(tmp_path / "store"), 1, dark_0001=b"dark")
        (tmp_path / "store" / file_key(NAME)).chmod(0o644)
        (tmp_path / "store" / file_key(NAME)).write_bytes(b"DARK")
        with pytest.raises(MissingReference, match="Restore"):
            await StoreHoldings(DirectoryStore(tmp_path / "store"), Verifier(cache)).local(NAME)
        assert list(cache.references.iterdir()) == []

    async def test_a_history_that_is_damaged_now_keeps_nobody_from_what_was_published_before(
        self, tmp_path: Path, cache: Cache
    ) -> None:
        store = DirectoryStore(tmp_path / "store")
        await publish(store, 1, dark_0001=b"dark")
        holdings = StoreHoldings(store, Verifier(cache), fresh_s=0.0)
        await holdings.catalogue()
        await store.put(state_key(2), b"{}", media_type=JSON)
        assert (await holdings.local(NAME)).read_bytes() == b"dark"
        with pytest.raises(Fatal, match=state_key(2)):
            await holdings.catalogue()
        with pytest.raises(Fatal, match=state_key(2)):
            await holdings.local("tmt_iris_dark_0002.fits")

    async def test_a_full_disk_is_an_outage_until_there_is_room(self, tmp_path: Path, disk: SmallDisk) -> None:
        store = DirectoryStore(tmp_path / "store")
        await publish(store, 1, dark_0001=b"x" * 300_000)
        holdings = StoreHoldings(store, Verifier(Cache(disk.folder / "crds")))
        await holdings.local("tmt_0001.pmap")
        disk.fill(leave_bytes=100_000)
        with pytest.raises(Outage, match=r"cannot take tmt_iris_dark_0001\.fits: No space left"):
            await holdings.local(NAME)
        assert list(Cache(disk.folder / "crds").references.iterdir()) == []
        disk.free()
        assert (await holdings.local(NAME)).stat().st_size == 300_000


async def test_while_the_store_is_away_what_is_here_is_answered(
    swift: SwiftServer, swift_settings: HostSettings, cache: Cache, tmp_path: Path
) -> None:
    async with opened(swift_settings, tmp_path / "scratch") as store:
        await publish(store, 1, dark_0001=b"dark", dark_0002=b"another")
        holdings = StoreHoldings(store, Verifier(cache), fresh_s=0.0)
        await holdings.local(NAME)
        before = await holdings.catalogue()
        await asyncio.to_thread(swift.stop)
        try:
            now = await holdings.catalogue()
            assert (now.stale, now.changes, now.asked_at) == (True, before.changes, before.asked_at)
            assert (await holdings.local(NAME)).read_bytes() == b"dark"
            fresh = StoreHoldings(store, Verifier(cache))
            assert (await fresh.local(NAME)).read_bytes() == b"dark"
            with pytest.raises(Outage):
                await fresh.catalogue()
            for asked, name in ((holdings, "tmt_iris_dark_0002.fits"), (fresh, "tmt_iris_dark_0003.fits")):
                with pytest.raises(Outage):
                    await asked.local(name)
        finally:
            await asyncio.to_thread(swift.start)
        assert not (await holdings.catalogue()).stale
        assert (await holdings.local("tmt_iris_dark_0002.fits")).read_bytes() == b"another"
