"""The S3 store on a server that answers with errors, late or not to the end: an outage at most, never wrong bytes."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from irisdrs.shared.errors import Outage
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.s3 import S3Store, s3_store
from irisdrs.shared.testing.servers.swift import SwiftServer

PIXELS = bytes(range(256)) * 8192


@pytest.fixture
def ailing(swift: SwiftServer) -> Iterator[SwiftServer]:
    """The private server; its faults end with the test."""
    yield swift
    swift.heal()


@pytest.fixture
async def store(ailing: SwiftServer, swift_settings: HostSettings, tmp_path: Path) -> AsyncIterator[S3Store]:
    store = s3_store(swift_settings, tmp_path)
    await store.open()
    yield store
    await store.close()


async def test_a_server_that_only_errs_is_an_outage(store: S3Store, ailing: SwiftServer) -> None:
    ref = (await store.put("a", PIXELS)).stored.ref
    ailing.faults(errors=1.0)
    for call in (store.put("b", b""), store.get(ref), store.head("a"), store.keys("")):
        with pytest.raises(Outage, match="503"):
            await call
    ailing.heal()
    assert await store.keys("") == ["a"]
    assert await store.get(ref) == PIXELS


async def test_a_server_that_errs_now_and_then_is_asked_until_all_is_there(store: S3Store, ailing: SwiftServer) -> None:
    ailing.faults(errors=0.3, late_errors=0.1, seed=2)
    for number in range(20):
        await _until_done(store, f"{number:02d}", PIXELS[number:])
    ailing.heal()
    assert await store.keys("") == [f"{number:02d}" for number in range(20)]


async def test_a_put_that_was_done_and_answered_503_is_adopted(store: S3Store, ailing: SwiftServer) -> None:
    ailing.faults(late_errors=1.0)
    with pytest.raises(Outage):
        await store.put("a", PIXELS, metadata={"reads-used": "8"})
    ailing.heal()
    again = await store.put("a", PIXELS, metadata={"reads-used": "8"})
    assert not again.created
    assert again.stored.metadata == {"reads-used": "8"}
    assert await store.get(again.stored.ref) == PIXELS


async def test_a_body_that_is_cut_off_is_an_outage_not_a_corrupt_object(store: S3Store, ailing: SwiftServer) -> None:
    ref = (await store.put("a", PIXELS)).stored.ref
    ailing.faults(truncated=1.0)
    with pytest.raises(Outage):
        await store.get(ref)
    with pytest.raises(Outage):
        async with store.local(ref):
            pass
    with pytest.raises(Outage):
        await store.keys("")
    ailing.heal()
    assert await store.get(ref) == PIXELS
    async with store.local(ref) as path:
        assert path.read_bytes() == PIXELS
    assert await store.keys("") == ["a"]


async def test_a_slow_server_is_waited_for(store: S3Store, ailing: SwiftServer) -> None:
    ailing.faults(delay_s=0.5)
    start_s = time.monotonic()
    assert await store.head("a") is None
    assert time.monotonic() - start_s >= 0.5


async def test_the_same_seed_makes_the_same_faults(store: S3Store, ailing: SwiftServer) -> None:
    seen = []
    for seed in (7, 7, 8):
        ailing.faults(errors=0.5, seed=seed)
        seen.append([await _answers(store) for _ in range(20)])
    assert seen[0] == seen[1] != seen[2]


async def _answers(store: S3Store) -> bool:
    try:
        await store.head("nothing")
    except Outage:
        return False
    return True


async def _until_done(store: S3Store, key: str, data: bytes) -> None:
    while True:
        try:
            put = await store.put(key, data)
            assert await store.get(put.stored.ref) == data
        except Outage:
            await asyncio.sleep(0.01)
        else:
            return
