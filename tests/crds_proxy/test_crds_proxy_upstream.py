"""crds_proxy in front of another CRDS server, which is one of ours behind a bad line."""

import asyncio
import hashlib
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.crds_proxy.faulty_line import (
    SOON_S,
    Fault,
    Line,
    Message,
    cut_off,
    failing,
    flipped,
    longer,
    served,
    shorter,
)
from tests.crds_proxy.holdings_contract import HoldingsContract
from tests.crds_proxy.in_front import GAIN, LARGE, in_front_of, until_stale

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.holdings import ChangeKind, Published
from irisdrs.crds_proxy.preload import preloading
from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings, changes_of
from irisdrs.crds_proxy.upstream.retention import to_give_up
from irisdrs.crds_proxy.upstream.server import CrdsServer
from irisdrs.shared.adapters import local_references
from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.crds.cache import Cache, FileFacts
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import Fatal, MissingReference, Outage
from irisdrs.shared.events import ObservationStarted
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import HEADER, write_reference
from irisdrs.shared.testing.servers.disk import SmallDisk
from irisdrs.shared.testing.servers.process import reserved_port


class TestUpstreamHoldings(HoldingsContract):
    """In front of a server that has published what the contract wants."""


def whole(published: Cache, name: str = GAIN) -> bytes:
    return published.path(name).read_bytes()


async def test_many_who_ask_at_once_make_one_download(holdings: UpstreamHoldings, line: Line, published: Cache) -> None:
    paths = await asyncio.gather(*(holdings.local(GAIN) for _ in range(30)))
    assert {path.read_bytes() for path in paths} == {whole(published)}
    assert line.downloads == [GAIN]


ASK = """
import asyncio, hashlib, sys
from pathlib import Path
from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings
from irisdrs.crds_proxy.upstream.server import CrdsServer
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds.cache import Cache

async def ask():
    holdings = UpstreamHoldings(CrdsServer(sys.argv[1]), Verifier(Cache(Path(sys.argv[2]))), bound=10**9)
    arrival = await holdings.arriving(sys.argv[3])
    streamed = hashlib.sha1()
    if arrival is not None:
        async for piece in arrival.pieces():
            streamed.update(piece)
    path = await holdings.local(sys.argv[3])
    print(hashlib.sha1(path.read_bytes()).hexdigest(), "here" if arrival is None else streamed.hexdigest())
    await holdings.close()

asyncio.run(ask())
"""


async def another_process(url: str, local: Cache) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", ASK, url, str(local.root), GAIN, stdout=asyncio.subprocess.PIPE
    )


async def test_processes_that_share_a_cache_make_one_download_and_all_can_stream_it(
    url: str, line: Line, local: Cache, published: Cache
) -> None:
    line.open.clear()
    processes = [await another_process(url, local) for _ in range(4)]
    await line.until_download()
    line.open.set()
    wanted = hashlib.sha1(whole(published)).hexdigest()
    for process in processes:
        out, _ = await asyncio.wait_for(process.communicate(), SOON_S)
        whole_sum, streamed_sum = out.decode().split()
        assert whole_sum == wanted
        assert streamed_sum in (wanted, "here")
    assert line.downloads == [GAIN]


async def test_what_a_killed_process_has_fetched_is_not_fetched_again(
    url: str, line: Line, local: Cache, published: Cache
) -> None:
    half = Half(line)
    process = await another_process(url, local)
    await half.reached(local.references / f".{GAIN}.part")
    process.send_signal(signal.SIGKILL)
    await process.communicate()
    assert not local.path(GAIN).exists()
    kept = (local.references / f".{GAIN}.part").stat().st_size
    half.rest.set()
    holdings = in_front_of(url, local)
    assert (await holdings.local(GAIN)).read_bytes() == whole(published)
    await holdings.close()
    assert line.ranges == ["", f"bytes={kept}-"]


class Half:
    """The next download stops after its first pieces, until it may go on."""

    def __init__(self, line: Line) -> None:
        self.rest = asyncio.Event()
        self._sent = 0
        inner = line._inner

        async def halting(scope: Message, receive, send) -> None:  # type: ignore[no-untyped-def]
            async def counted(message: Message) -> None:
                self._sent += len(message.get("body", b""))
                await send(message)
                if self._sent > LARGE // 2:
                    await self.rest.wait()

            await inner(scope, receive, counted if GAIN in scope["path"] else send)

        line._inner = halting

    async def reached(self, part: Path) -> None:
        async with asyncio.timeout(SOON_S):
            while not part.exists() or part.stat().st_size < LARGE // 4:
                await asyncio.sleep(0.01)


async def test_who_waits_gets_the_bytes_while_they_come(
    holdings: UpstreamHoldings, line: Line, local: Cache, published: Cache
) -> None:
    half = Half(line)
    arrival = await holdings.arriving(GAIN)
    assert arrival is not None
    pieces = arrival.pieces()
    received = b""
    async with asyncio.timeout(SOON_S):
        while len(received) < LARGE // 4:
            received += await anext(pieces)
    assert not local.path(GAIN).exists()
    half.rest.set()
    async for piece in pieces:
        received += piece
    assert received == whole(published)
    assert await holdings.arriving(GAIN) is None


async def test_nobody_gets_the_end_of_a_file_that_arrives_damaged(
    holdings: UpstreamHoldings, line: Line, local: Cache
) -> None:
    line.faults = [flipped] * 3
    arrival = await holdings.arriving(GAIN)
    assert arrival is not None
    received = 0
    with pytest.raises(Outage):
        async for piece in arrival.pieces():
            received += len(piece)
    assert received < arrival.size
    with pytest.raises(Outage):
        await arrival.whole()
    assert not local.path(GAIN).exists()


def begun(message: Message) -> Message | None:
    """The connection ends within the body: the server closes it when the answer is not complete."""
    if "body" not in message:
        return message
    begun_before = getattr(begun, "pieces", 0)
    begun.pieces = begun_before + 1  # type: ignore[attr-defined]
    return message if begun_before < 3 else None


async def test_a_download_that_is_cut_goes_on_where_it_ended(
    holdings: UpstreamHoldings, line: Line, published: Cache
) -> None:
    begun.pieces = 0  # type: ignore[attr-defined]
    line.faults = [begun]
    assert (await holdings.local(GAIN)).read_bytes() == whole(published)
    first, second = line.ranges
    assert first == ""
    assert 0 < int(second.removeprefix("bytes=").removesuffix("-")) < LARGE


async def test_a_server_that_does_not_know_parts_is_asked_for_all(
    holdings: UpstreamHoldings, line: Line, published: Cache, local: Cache
) -> None:
    inner = line._inner

    async def without_parts(scope: Message, receive, send) -> None:  # type: ignore[no-untyped-def]
        headers = [(name, value) for name, value in scope.get("headers", []) if name != b"range"]
        await inner(scope | {"headers": headers}, receive, send)

    await holdings.catalogue()
    (local.references / f".{GAIN}.part").write_bytes(b"something of another day")
    line._inner = without_parts
    assert (await holdings.local(GAIN)).read_bytes() == whole(published)


async def test_parts_of_another_day_that_do_not_fit_are_fetched_anew(
    holdings: UpstreamHoldings, line: Line, published: Cache, local: Cache
) -> None:
    (local.references / f".{GAIN}.part").write_bytes(b"something of another day")
    assert (await holdings.local(GAIN)).read_bytes() == whole(published)
    assert line.ranges == ["bytes=24-", ""]


@pytest.mark.parametrize("fault", [flipped, cut_off, shorter, longer, failing])
async def test_a_download_that_fails_once_is_repeated(
    holdings: UpstreamHoldings, line: Line, published: Cache, local: Cache, fault: Fault
) -> None:
    line.faults = [fault]
    assert (await holdings.local(GAIN)).read_bytes() == whole(published)
    assert len(line.downloads) == 2
    assert list(local.references.glob(".*.part")) == []


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (flipped, "SHA-1"),
        (shorter, "was cut after|does not answer"),
        (longer, "more than"),
        (cut_off, "does not answer"),
        (failing, "500"),
    ],
)
async def test_a_download_that_goes_on_failing_says_why_and_is_not_asked_for_again_at_once(
    holdings: UpstreamHoldings, line: Line, local: Cache, fault: Fault, text: str
) -> None:
    line.faults = [fault] * 9
    with pytest.raises(Outage, match=text) as raised:
        await holdings.local(GAIN)
    assert raised.value.remedy
    asked = len(line.downloads)
    with pytest.raises(Outage, match=text):
        await holdings.local(GAIN)
    assert len(line.downloads) == asked
    assert not local.path(GAIN).exists()


async def test_a_server_that_hangs_counts_as_away(url: str, line: Line, local: Cache) -> None:
    line.open.clear()
    holdings = in_front_of(url, local, silence_s=0.3)
    with pytest.raises(Outage, match="IRIS_CRDS_UPSTREAM"):
        await holdings.local(GAIN)
    line.open.set()
    await holdings.close()


async def test_what_was_never_published_costs_the_server_nothing(holdings: UpstreamHoldings, line: Line) -> None:
    for _ in range(20):
        with pytest.raises(MissingReference, match="tmt_iris_gain_0099"):
            await holdings.local("tmt_iris_gain_0099.fits")
    assert line.downloads == []
    assert len(line.requests) < 10


async def test_while_the_server_is_away_what_is_here_goes_on(
    line: Line, local: Cache, published: Cache, tmp_path: Path
) -> None:
    with reserved_port() as port:
        address = f"http://127.0.0.1:{port}"
        holdings = in_front_of(address, local)
        with pytest.raises(Outage, match="IRIS_CRDS_UPSTREAM"):
            await holdings.catalogue()
        async with served(line, port):
            before = await holdings.catalogue()
            await holdings.local(GAIN)
        again = in_front_of(address, local)  # as after a restart
        for one in (holdings, again):
            await until_stale(one)
            now = await one.catalogue()
            assert (now.changes, now.files, now.asked_at) == (before.changes, before.files, before.asked_at)
            assert (await one.local(GAIN)).read_bytes() == whole(published)
            with pytest.raises(Outage, match="does not answer"):
                await one.local("tmt_iris_flat_0001.fits")
        new = build_context(published.root, [write_reference(tmp_path / "m.fits", "mask", DESCRIP="better")])
        async with served(line, port):
            async with asyncio.timeout(SOON_S):
                while (await again.catalogue()).context != new:
                    await asyncio.sleep(0.1)
            assert not (await again.catalogue()).stale
        await holdings.close()
        await again.close()


async def test_a_new_context_upstream_is_seen(holdings: UpstreamHoldings, published: Cache, tmp_path: Path) -> None:
    before = await holdings.catalogue()
    new = build_context(published.root, [write_reference(tmp_path / "m.fits", "mask", DESCRIP="better")])
    async with asyncio.timeout(SOON_S):
        while (await holdings.catalogue()).context != new:
            await asyncio.sleep(0.1)
    after = await holdings.catalogue()
    assert after.files.keys() - before.files.keys() == {
        "tmt_0002.pmap", "tmt_iris_0002.imap", "tmt_iris_mask_0002.rmap", "tmt_iris_mask_0002.fits",
    }  # fmt: skip


async def test_a_bounded_cache_gives_up_what_nobody_has_asked_for_longest(
    url: str, line: Line, local: Cache, published: Cache
) -> None:
    names = [f"tmt_iris_{kind}_0001.fits" for kind in ("dark", "flat", "mask")]
    sizes = [published.path(name).stat().st_size for name in names]
    holdings = in_front_of(url, local, bound=LARGE + sizes[0] + sizes[1])
    for name in names[:2]:
        await holdings.local(name)
    with pytest.raises(Outage, match="IRIS_CRDS_CACHE_BYTES"):  # what was used just now is in use
        await in_front_of(url, local, bound=LARGE).local(GAIN)
    for hours, name in zip((3, 2), names, strict=False):
        then = datetime.now(UTC).timestamp() - hours * 3600
        os.utime(local.config / "uses" / name, (then, then))
    later = in_front_of(url, local, bound=LARGE + sizes[0])
    await later.local(GAIN)
    assert [local.path(name).exists() for name in (*names[:2], GAIN)] == [False, True, True]
    assert (await later.local("tmt_0001.pmap")).is_file()
    await later.close()
    await holdings.close()


def test_what_is_given_up_is_the_least_that_makes_room() -> None:
    references = {name: FileFacts(100, "", "") for name in "abcd"}
    last = {"a": 30.0, "b": 10.0, "c": 20.0, "d": 5.0}
    assert to_give_up(references, last, wanted=100, bound=500) == []
    assert to_give_up(references, last, wanted=150, bound=500) == ["d"]
    assert to_give_up(references, last, wanted=250, bound=500) == ["d", "b"]
    assert to_give_up({}, {}, wanted=500, bound=500) == []
    with pytest.raises(Outage, match="no room for 501 bytes"):
        to_give_up(references, last, wanted=501, bound=500)


def test_a_history_is_read_as_far_as_it_makes_sense() -> None:
    now, files = datetime(2034, 1, 1, tzinfo=UTC), {GAIN: Published(1, "0" * 40)}
    told = [
        ("2021-01-01 00:00:00.000", "tmt_0002.pmap", ""),
        ("2020-01-01 00:00:00", "tmt_0001.pmap", "first"),
        ("yesterday", "tmt_0003.pmap", ""),
        ("2022-01-01 00:00:00", "../tmt_0004.pmap", ""),
    ]
    changes = changes_of(told, "tmt_0005.pmap", files, now)
    assert [(one.number, one.context, one.at.year) for one in changes] == [
        (1, "tmt_0001.pmap", 2020), (2, "tmt_0002.pmap", 2021), (3, "tmt_0005.pmap", 2034),
    ]  # fmt: skip
    assert {one.kind for one in changes} == {ChangeKind.UPSTREAM}
    assert [one.files for one in changes] == [files, {}, {}]
    assert changes_of([], "none", {}, now) == ()


@pytest.mark.parametrize("url", ["", "ftp://crds", "crds.example.org", "http://"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(Fatal, match="IRIS_CRDS_UPSTREAM"):
        CrdsServer(url)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not JSON",
        b"[]",
        b'{"result": 3, "error": null}',
        b"[" * 100_000,
        b'{"result": {"operational_context": 1}}',
    ],
)
async def test_an_answer_that_is_none_is_an_outage_that_says_so(body: bytes, local: Cache) -> None:
    async def strange(scope: Message, receive, send) -> None:  # type: ignore[no-untyped-def]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async with served(strange) as url:
        holdings = in_front_of(url, local)
        with pytest.raises(Outage, match="IRIS_CRDS_UPSTREAM"):
            await holdings.catalogue()
        await holdings.close()


class Stage:
    """crds_proxy in front of a server, as a client sees it."""

    def __init__(self, url: str, local: Cache) -> None:
        self.holdings = in_front_of(url, local)
        self.application = application(LocalReferences(self.holdings, self.holdings.files))


async def test_clients_get_a_reference_while_it_comes_and_best_references_of_the_server(
    url: str, line: Line, local: Cache, published: Cache
) -> None:
    stage = Stage(url, local)
    async with served(stage.application) as proxy, httpx.AsyncClient(base_url=proxy, trust_env=False) as client:
        half = Half(line)
        async with client.stream("GET", f"/references/tmt/{GAIN}") as answer:
            assert answer.headers["Content-Length"] == str(LARGE)
            pieces = answer.aiter_raw()
            received = b""
            async with asyncio.timeout(SOON_S):
                while len(received) < LARGE // 4:
                    received += await anext(pieces)
            assert not local.path(GAIN).exists()
            half.rest.set()
            async for piece in pieces:
                received += piece
        assert received == whole(published)
        part = await client.get(f"/references/files/{GAIN}", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, whole(published)[10:20])
        references = HttpReferences(proxy, local.root.parent / "worker")
        found = await references.best_references(HEADER, ("gain", "flat"), await references.default_context())
        assert {name: one.name for name, one in found.items()} == {"gain": GAIN, "flat": "tmt_iris_flat_0001.fits"}
        await references.close()
    assert line.downloads.count(GAIN) == 1
    await stage.holdings.close()


async def test_a_client_sees_a_cut_line_when_a_reference_arrives_damaged(url: str, line: Line, local: Cache) -> None:
    stage = Stage(url, local)
    line.faults = [flipped] * 3
    async with served(stage.application) as proxy, httpx.AsyncClient(base_url=proxy, trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"/references/tmt/{GAIN}", timeout=SOON_S)
        line.faults = [failing] * 9
        answer = await client.get("/references/tmt/tmt_iris_flat_0001.fits", timeout=SOON_S)
        assert (answer.status_code, answer.json()["error_class"]) == (503, "Outage")
    await stage.holdings.close()


async def started(context: str) -> ObservationStarted:
    """An observation that asks for what `CARDS` have, under a context."""
    (event,) = [each for each in EXAMPLES if isinstance(each, ObservationStarted) and each.plan.sampling.mode == "UTR"]
    sampling = event.plan.sampling.model_copy(update={"read_time_s": 0.72, "reads": 8})
    return ObservationStarted(
        plan=event.plan.model_copy(update={"filter": "Ks", "sampling": sampling, "crds_context": context})
    )


async def test_the_references_of_an_observation_are_brought_when_it_starts(
    holdings: UpstreamHoldings, line: Line, local: Cache
) -> None:
    references = LocalReferences(holdings, holdings.files)
    answer = preloading(references)[ObservationStarted]
    assert list(await answer(await started("tmt_0001.pmap"))) == []
    here = {path.name for path in local.references.glob("*.fits")}
    assert GAIN in here
    assert {name.split("_")[2] for name in here} >= {"mask", "nonlincoeff", "saturation", "gain", "readnoise"}
    downloads = list(line.downloads)
    await answer(await started("tmt_0001.pmap"))
    assert line.downloads == downloads


async def test_services_that_ask_in_their_own_process_use_the_server_upstream_too(
    url: str, line: Line, tmp_path: Path
) -> None:
    settings = HostSettings(data_dir=tmp_path / "data", crds_upstream=url)
    async with local_references(settings, DirectoryStore(settings.store_dir)) as references:
        context = await references.default_context()
        found = await references.best_references(HEADER, ("gain",), context)
    assert (context, found["gain"].name) == ("tmt_0001.pmap", GAIN)
    assert line.downloads.count(GAIN) == 1


async def test_an_observation_under_a_context_that_is_not_there_waits_for_nothing(
    holdings: UpstreamHoldings, local: Cache
) -> None:
    answer = preloading(LocalReferences(holdings, holdings.files))[ObservationStarted]
    assert list(await answer(await started("tmt_9999.pmap"))) == []
    assert list(local.references.glob("*.fits")) == []


async def test_a_full_disk_is_an_outage_and_leaves_nothing_behind(url: str, disk: SmallDisk, published: Cache) -> None:
    local = Cache(disk.folder / "local")
    holdings = in_front_of(url, local)
    with pytest.raises(Outage, match=rf"cannot take {GAIN}: .* are free"):
        await holdings.local(GAIN)
    flat = "tmt_iris_flat_0001.fits"
    assert (await holdings.local(flat)).read_bytes() == whole(published, flat)
    assert list(local.references.glob(".*.part")) == []
    await holdings.close()
