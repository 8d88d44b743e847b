"""crds_proxy in front of a CRDS server that refuses, drips or packs its answers, and on a disk that takes nothing."""

import asyncio
import gzip
import json
import os
import shutil
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.crds_proxy.faulty_line import SOON_S, Line, Message, Send, served
from tests.crds_proxy.in_front import GAIN, in_front_of, until_stale

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.upstream import holdings as upstream_holdings
from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings
from irisdrs.crds_proxy.upstream.server import CrdsServer
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.errors import Outage

DARK, FLAT = (f"tmt_iris_{kind}_0001.fits" for kind in ("dark", "flat"))


class Moody:
    """A server that answers, or refuses every call in the envelope, as one does whose database is locked."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.refuses = False

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        if not self.refuses:
            await self._inner(scope, receive, send)
            return
        refusal = {"result": None, "error": {"message": "database is locked"}, "id": "1"}
        await answer(send, json.dumps(refusal).encode())


async def answer(send: Send, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def test_while_the_server_refuses_what_it_said_goes_on_until_it_answers_again(line: Line, local: Cache) -> None:
    moody = Moody(line)
    async with served(moody) as url:
        holdings = in_front_of(url, local)
        before = await holdings.catalogue()
        moody.refuses = True
        await until_stale(holdings)
        assert (await holdings.catalogue()).context == before.context
        await asyncio.sleep(5.5)  # it is asked again, and refuses again
        assert (await holdings.catalogue()).stale
        moody.refuses = False
        await until_stale(holdings, stale=False)
        await holdings.close()


async def test_a_server_that_refuses_from_the_start_is_away_and_its_word_is_told(line: Line, local: Cache) -> None:
    moody = Moody(line)
    moody.refuses = True
    async with served(moody) as url:
        holdings = in_front_of(url, local)
        with pytest.raises(Outage, match="database is locked"):
            await holdings.catalogue()
        await holdings.close()


async def test_an_answer_that_drips_is_not_waited_for() -> None:
    told = asyncio.Event()

    async def dripping(scope: Message, receive: Any, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not told.is_set():
            await send({"type": "http.response.body", "body": b" ", "more_body": True})
            await asyncio.sleep(0.05)

    async with served(dripping) as url, asyncio.timeout(SOON_S):
        server = CrdsServer(url, answer_s=0.5)
        with pytest.raises(Outage, match="IRIS_CRDS_UPSTREAM"):
            await server.info()
        told.set()
        await server.close()


async def test_an_answer_that_was_not_asked_to_be_packed_is_not_unpacked() -> None:
    bomb = gzip.compress(gzip.compress(bytes(200_000_000), 1), 9)

    async def packing(scope: Message, receive: Any, send: Send) -> None:
        await answer(send, bomb, (b"content-encoding", b"gzip, gzip"))

    async with served(packing) as url:
        server = CrdsServer(url)
        tracemalloc.start()
        try:
            with pytest.raises(Outage, match="IRIS_CRDS_UPSTREAM"):
                await server.info()
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        await server.close()
    assert most < 50_000_000


async def test_a_file_that_is_here_and_not_in_the_manifest_is_entered_and_served(
    holdings: UpstreamHoldings, line: Line, local: Cache, published: Cache
) -> None:
    """As `crds sync` leaves it, or who died while it was given up."""
    for name in (GAIN, "tmt_0001.pmap"):
        shutil.copy(published.path(name), local.path(name))
    references = LocalReferences(holdings, holdings.files)
    for name in (GAIN, "tmt_0001.pmap"):
        assert (await references.published(name)).path.read_bytes() == published.path(name).read_bytes()
    assert line.downloads == []


async def test_a_disk_that_takes_no_notes_costs_no_answer(url: str, local: Cache, published: Cache) -> None:
    local.prepare()
    (local.config / "uses").touch()  # a folder should be here
    (local.config / "upstream.json").mkdir()  # and a file here
    holdings = in_front_of(url, local)
    references = LocalReferences(holdings, holdings.files)
    for _ in range(2):
        assert (await references.file(GAIN)).path.read_bytes() == published.path(GAIN).read_bytes()
    assert not (await holdings.catalogue()).stale
    await holdings.close()


async def test_references_that_come_at_once_stay_within_the_bound_together(
    url: str, line: Line, local: Cache, published: Cache
) -> None:
    sizes = [published.path(name).stat().st_size for name in (DARK, FLAT)]
    holdings = in_front_of(url, local, bound=sum(sizes))
    line.open.clear()
    coming = [asyncio.create_task(holdings.local(name)) for name in (DARK, FLAT)]
    await line.until_download(2)
    with pytest.raises(Outage, match="IRIS_CRDS_CACHE_BYTES"):
        await holdings.local(GAIN)
    line.open.set()
    assert [path.stat().st_size for path in await asyncio.gather(*coming)] == sizes
    await holdings.close()


async def test_what_came_in_part_and_was_never_asked_for_again_is_removed(
    holdings: UpstreamHoldings, local: Cache
) -> None:
    left, recent = (local.references / f".tmt_iris_{kind}_0001.fits.part" for kind in ("dark", "flat"))
    for part in (left, recent):
        part.write_bytes(b"begun")
    then = datetime.now(UTC).timestamp() - 25 * 3600
    os.utime(left, (then, then))
    await holdings.local(GAIN)
    assert (left.exists(), recent.exists()) == (False, True)


async def test_a_context_of_no_known_date_is_in_force_since_it_was_seen_first(
    line: Line, local: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def without_history(scope: Message, receive: Any, send: Send) -> None:
        if scope["path"].startswith("/json/get_context_history/"):
            await answer(send, b'{"result": [], "error": null, "id": "1"}')
        else:
            await line(scope, receive, send)

    monkeypatch.setattr(upstream_holdings, "_WHOLE_S", 0.0)
    async with served(without_history) as url:
        holdings = in_front_of(url, local)
        first = await holdings.catalogue()
        await asyncio.sleep(1.1)
        second = await holdings.catalogue()
        await holdings.close()
    assert second.asked_at > first.asked_at
    assert second.changes == first.changes
    assert second.context_at(first.asked_at) == "tmt_0001.pmap"
