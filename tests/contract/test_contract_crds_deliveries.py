"""Deliveries into a directory and a real S3 server: whole or not at all, whoever dies, whatever is away or full."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path

import pytest
import pytest_asyncio

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.delivery.deliveries import Deliveries
from irisdrs.crds_proxy.delivery.process import CrdsProcess
from irisdrs.crds_proxy.delivery.results import Refused
from irisdrs.crds_proxy.exchange import bring_mappings
from irisdrs.crds_proxy.holdings import ChangeKind
from irisdrs.crds_proxy.states import file_key
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared import crash_points
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import Outage, Retryable
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import Store
from irisdrs.shared.store.s3 import s3_store
from irisdrs.shared.testing.references import HEADER, write_certifiable, write_reference
from irisdrs.shared.testing.servers.disk import SmallDisk
from irisdrs.shared.testing.servers.swift import SwiftServer

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests share one process of the client

#: Points of a delivery in the process that delivers.
POINTS = (
    "crds.stage.after", "crds.certify.after", "crds.publish.after", "crds.commit.before", "crds.commit.after",
)  # fmt: skip

#: The same, at each file of the second delivery.
CLOSER_POINTS = (
    *(point for point in POINTS if "publish" not in point),
    *(
        f"crds.publish.after:{name}"
        for name in (
            "tmt_iris_gain_0002.fits", "tmt_iris_mask_0002.fits", "tmt_iris_gain_0002.rmap", "tmt_iris_mask_0002.rmap",
            "tmt_iris_0002.imap", "tmt_0002.pmap",
        )
    ),
)  # fmt: skip

#: The point in the process of the crds client.
PROCESS_POINT = "crds.process.call"


class Host:
    """A host with a cache of its own on a store, as it is after each start."""

    def __init__(self, store: Store, cache: Path, process: CrdsProcess) -> None:
        register()
        files = Verifier(Cache(cache))
        self.cache = files.cache
        self.holdings = StoreHoldings(store, files, fresh_s=0.0)
        self.deliveries = Deliveries(store, self.holdings, files.cache, process)
        self.references = LocalReferences(self.holdings, files)

    async def deliver(self, *paths: Path) -> str:
        return (await self.deliveries.deliver(paths, "somebody", "a test")).new_context

    async def chosen(self, kind: str, context: str) -> str:
        found = await self.references.best_references(HEADER, [kind], context)
        return found[kind].name

    async def contents(self) -> dict[str, str]:
        """SHA-256 of everything that is published, as it is in the store."""
        digests = {}
        for name in (await self.holdings.catalogue()).files:
            digests[name] = hashlib.sha256((await self.holdings.local(name)).read_bytes()).hexdigest()
        return digests


NewHost = Callable[[], Host]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process() -> AsyncIterator[CrdsProcess]:
    process = CrdsProcess()
    yield process
    await process.close()


@pytest_asyncio.fixture(loop_scope="module", params=["directory", "s3"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "directory":
        yield DirectoryStore(tmp_path / "store")
        return
    async with opened(request.getfixturevalue("s3_settings"), tmp_path / "scratch") as s3:
        yield s3


@contextlib.asynccontextmanager
async def opened(settings: HostSettings, scratch: Path) -> AsyncIterator[Store]:
    scratch.mkdir(exist_ok=True)
    store = s3_store(settings, scratch)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def disarmed() -> Iterator[None]:
    yield
    crash_points.disarm()


def written(folder: Path, kind: str, name: str = "", **cards: str | float) -> Path:
    """A reference that certifies; `name` makes it differ from others."""
    if kind not in reference_types():
        return write_reference(folder / f"{kind}.fits", kind, **cards)
    return write_certifiable(folder / f"{kind}{name}.fits", kind, None, **{"DESCRIP": f"for a test {name}"} | cards)


async def test_references_are_in_force_at_once_on_every_host(
    store: Store, tmp_path: Path, process: CrdsProcess
) -> None:
    here, there = (Host(store, tmp_path / name, process) for name in ("here", "there"))
    assert await here.deliver(written(tmp_path, "gain"), written(tmp_path, "mask")) == "tmt_0001.pmap"
    assert await there.references.default_context() == "tmt_0001.pmap"
    assert await there.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"
    assert await there.deliver(written(tmp_path, "gain", "2")) == "tmt_0002.pmap"
    assert await here.references.default_context() == "tmt_0002.pmap"
    assert await here.chosen("gain", "tmt_0002.pmap") == "tmt_iris_gain_0002.fits"
    assert await here.chosen("mask", "tmt_0002.pmap") == "tmt_iris_mask_0001.fits"
    assert await here.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"
    assert await here.contents() == await there.contents()


async def test_the_same_files_again_change_nothing(store: Store, tmp_path: Path, process: CrdsProcess) -> None:
    host = Host(store, tmp_path / "cache", process)
    await host.deliver(written(tmp_path, "gain"))
    before = await store.keys("")
    outcome = await host.deliveries.deliver([written(tmp_path, "gain")] * 2, "somebody", "once more")
    assert (outcome.old_context, outcome.new_context, outcome.number) == ("tmt_0001.pmap", "tmt_0001.pmap", None)
    assert outcome.references[0].name == "tmt_iris_gain_0001.fits"
    assert await store.keys("") == before


async def test_a_roll_back_is_a_change_from_which_the_next_delivery_derives(
    store: Store, tmp_path: Path, process: CrdsProcess
) -> None:
    host = Host(store, tmp_path / "cache", process)
    gains = [written(tmp_path, "gain", str(number)) for number in (1, 2)]
    for gain in gains:
        await host.deliver(gain)
    before = await host.contents()
    assert (await host.deliveries.roll_back("tmt_0001.pmap", "somebody", "worse")).number == 3
    assert await host.references.default_context() == "tmt_0001.pmap"
    assert await host.deliver(written(tmp_path, "mask")) == "tmt_0003.pmap"
    assert await host.chosen("gain", "tmt_0003.pmap") == "tmt_iris_gain_0001.fits"
    # Who wants the other one again delivers it: it is kept once.
    assert await host.deliver(gains[1]) == "tmt_0004.pmap"
    assert await host.chosen("gain", "tmt_0004.pmap") == "tmt_iris_gain_0002.fits"
    changes = (await host.holdings.catalogue()).changes
    assert [change.kind for change in changes] == [
        ChangeKind.DELIVERY, ChangeKind.DELIVERY, ChangeKind.ROLLBACK, ChangeKind.DELIVERY, ChangeKind.DELIVERY,
    ]  # fmt: skip
    assert "tmt_iris_gain_0002.fits" not in changes[-1].files
    after = await Host(store, tmp_path / "fresh", process).contents()
    assert before.items() <= after.items()


async def test_of_deliverers_at_the_same_time_none_is_lost(store: Store, tmp_path: Path, process: CrdsProcess) -> None:
    await Host(store, tmp_path / "first", process).deliver(written(tmp_path, "mask"))
    files = [
        written(tmp_path, "gain", "a", DETECTOR="IMG1"),
        written(tmp_path, "gain", "b", DETECTOR="IMG2"),
        written(tmp_path, "readnoise"),
    ]
    hosts = [Host(store, tmp_path / f"host-{number}", process) for number, _ in enumerate(files)]
    contexts = await asyncio.gather(*(host.deliver(file) for host, file in zip(hosts, files, strict=True)))
    assert len(set(contexts)) == len(files)
    catalogue = await hosts[0].holdings.catalogue()
    assert [change.context for change in catalogue.changes[1:]] == sorted(contexts)
    last = catalogue.changes[-1].context
    gains = {f"tmt_iris_gain_000{number}.fits" for number in (1, 2)}
    assert await hosts[0].chosen("gain", last) in gains
    other = HEADER | {"meta.instrument.detector": "IMG2"}
    found = await hosts[0].references.best_references(other, ["gain"], last)
    assert {found["gain"].name, await hosts[0].chosen("gain", last)} == gains
    assert await hosts[0].chosen("readnoise", last) == "tmt_iris_readnoise_0001.fits"
    assert await hosts[0].chosen("mask", last) == "tmt_iris_mask_0001.fits"


@pytest.mark.usefixtures("disarmed")
@pytest.mark.parametrize("point", CLOSER_POINTS)
async def test_a_crash_leaves_the_old_context_whole_and_the_next_delivery_works(
    store: Store, tmp_path: Path, process: CrdsProcess, point: str
) -> None:
    first = Host(store, tmp_path / "cache", process)
    await first.deliver(written(tmp_path, "gain"), written(tmp_path, "mask"))
    before = await first.contents()
    files = written(tmp_path, "gain", "2"), written(tmp_path, "mask", "2")

    crash_points.arm(point)
    with pytest.raises(crash_points.Crash):
        await first.deliver(*files)
    assert crash_points.armed() == {}
    committed = point == "crds.commit.after"
    again = Host(store, tmp_path / "cache", process)
    assert await again.references.default_context() == ("tmt_0002.pmap" if committed else "tmt_0001.pmap")
    assert before.items() <= (await again.contents()).items()
    if not committed:
        assert await again.contents() == before
        assert await again.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"

    other = await again.deliver(written(tmp_path, "gain", "3", DETECTOR="IMG2"))
    third = Host(store, tmp_path / "fresh", process)
    assert await third.references.default_context() == other
    last = await third.deliver(*files)
    assert (last == other) is committed
    catalogue = await third.holdings.catalogue()
    assert [change.number for change in catalogue.changes] == [1, 2, 3]
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for kind in ("gain", "mask"):
        assert catalogue.files[await third.chosen(kind, last)].sha256 == digests[f"{kind}2.fits"]
    assert before.items() <= (await third.contents()).items()
    assert await third.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"


async def test_a_process_of_the_client_that_dies_changes_nothing(
    directory: DirectoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = tmp_path / "points"
    points.mkdir()
    monkeypatch.setenv(crash_points.FOLDER, str(points))
    process = CrdsProcess()
    host = Host(directory, tmp_path / "cache", process)
    try:
        for manner in ("", "segfault"):
            (points / PROCESS_POINT).write_text(manner)
            with pytest.raises(Retryable, match="died"):
                await host.deliver(written(tmp_path, "gain"))
            assert list(points.iterdir()) == []
            assert await directory.keys("") == []
        assert await host.deliver(written(tmp_path, "gain")) == "tmt_0001.pmap"
    finally:
        await process.close()


async def test_names_that_others_have_left_are_passed_over(
    directory: DirectoryStore, tmp_path: Path, process: CrdsProcess
) -> None:
    for name in ("tmt_iris_gain_0001.fits", "tmt_iris_gain_0002.fits", "tmt_iris_0001.imap", "tmt_0001.pmap"):
        await directory.put(file_key(name), b"what a delivery that died has left")
    host = Host(directory, tmp_path / "cache", process)
    assert await host.deliver(written(tmp_path, "gain")) == "tmt_0002.pmap"
    assert await host.chosen("gain", "tmt_0002.pmap") == "tmt_iris_gain_0003.fits"


def not_fits(folder: Path) -> list[Path]:
    (folder / "mask.fits").write_bytes(b"no FITS")
    return [folder / "mask.fits"]


#: What is refused, by what is wrong; and what is said of it.
REFUSED: Mapping[str, tuple[Callable[[Path], list[Path]], str]] = {
    "no FITS file": (not_fits, r"mask\.fits"),
    "another kind of file": (lambda folder: [Path(__file__)], r"\.fits, \.asdf or \.json"),
    "no file": (lambda folder: [folder / "absent.fits"], "no such file"),
    "nothing": (lambda folder: [], "no file is named"),
    "USEAFTER unreadable": (lambda folder: [written(folder, "mask", USEAFTER="soon")], "USEAFTER 'soon' is no date"),
    "USEAFTER absent": (lambda folder: [written(folder, "mask", USEAFTER="")], "USEAFTER is missing"),
    "another instrument": (lambda folder: [written(folder, "mask", INSTRUME="WFOS")], "INSTRUME is 'WFOS'"),
    "unknown type": (lambda folder: [written(folder, "bias")], "REFTYPE 'bias'"),
    "unknown detector": (lambda folder: [written(folder, "mask", DETECTOR="IMG7")], "DETECTOR 'IMG7'"),
    "another telescope": (lambda folder: [written(folder, "mask", TELESCOP="JWST")], "TELESCOP"),
    "no author": (lambda folder: [written(folder, "mask", AUTHOR="")], "AUTHOR"),
    "two for one place": (lambda folder: [written(folder, "gain", n) for n in "ab"], "are both the gain of IMG1"),
    "an equal weight special case": (
        lambda folder: [written(folder, "readnoise", SAMPMODE="ANY", DETECTOR="IMG1"),
                        written(folder, "readnoise", "2", SAMPMODE="UTR", DETECTOR="ANY")],
        "overlaps",
    ),
    "a special case of what is in force": (
        lambda folder: [written(folder, "dark", "2", SAMPMODE="UTR")], "overlaps tmt_iris_dark_0001",
    ),
    "overlaps one that is in force": (
        lambda folder: [written(folder, "dark", "2", DETECTOR="ANY", SAMPMODE="UTR", SARRMODE="FULL")],
        "overlaps tmt_iris_dark_0001",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_refused_says_why_and_leaves_nothing(
    directory: DirectoryStore, tmp_path: Path, process: CrdsProcess, case: str
) -> None:
    host = Host(directory, tmp_path / "cache", process)
    await host.deliver(written(tmp_path, "dark", DETECTOR="IMG1", SAMPMODE="ANY"))
    before = await directory.keys("")
    files, reason = REFUSED[case]
    folder = tmp_path / "delivered"
    folder.mkdir()
    for good in ([], [written(tmp_path, "saturation")] if case != "nothing" else []):
        with pytest.raises(Refused, match=reason) as raised:
            await host.deliver(*good, *files(folder))
        assert raised.value.problems
    assert await directory.keys("") == before
    assert list((host.cache.root / "deliveries").iterdir()) == []
    assert await host.references.default_context() == "tmt_0001.pmap"


async def test_while_the_store_is_away_nothing_is_changed(
    swift: SwiftServer, swift_settings: HostSettings, tmp_path: Path, process: CrdsProcess
) -> None:
    async with opened(swift_settings, tmp_path / "scratch") as store:
        host = Host(store, tmp_path / "cache", process)
        await host.deliver(written(tmp_path, "gain"))
        assert await host.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"
        await asyncio.to_thread(swift.stop)
        try:
            with pytest.raises(Outage, match="Start or mend the server"):
                await host.deliver(written(tmp_path, "gain", "2"))
            assert await host.chosen("gain", "tmt_0001.pmap") == "tmt_iris_gain_0001.fits"
        finally:
            await asyncio.to_thread(swift.start)
        assert await host.references.default_context() == "tmt_0001.pmap"
        assert await host.deliver(written(tmp_path, "gain", "2")) == "tmt_0002.pmap"


async def test_a_server_that_errs_now_and_then_loses_and_doubles_nothing(
    swift: SwiftServer, swift_settings: HostSettings, tmp_path: Path, process: CrdsProcess
) -> None:
    async with opened(swift_settings, tmp_path / "scratch") as store:
        host = Host(store, tmp_path / "cache", process)
        swift.faults(errors=0.1, late_errors=0.15, seed=3)
        try:
            for number in range(4):
                await until_done(lambda number=number: host.deliver(written(tmp_path, "gain", str(number))))  # type: ignore[misc]
        finally:
            swift.heal()
        catalogue = await Host(store, tmp_path / "fresh", process).holdings.catalogue()
        assert [change.number for change in catalogue.changes] == [1, 2, 3, 4]
        assert await host.chosen("gain", str(catalogue.context)) == "tmt_iris_gain_0004.fits"


async def until_done(work: Callable[[], Awaitable[str]]) -> None:
    async with asyncio.timeout(60.0):
        while True:
            with contextlib.suppress(Outage):
                await work()
                return


@pytest.mark.parametrize("what", ["store", "cache"])
async def test_a_disk_that_is_full_at_whatever_step_changes_nothing(
    disk: SmallDisk, tmp_path: Path, process: CrdsProcess, what: str
) -> None:
    places = {"store": tmp_path / "store", "cache": tmp_path / "cache"} | {what: disk.folder / what}
    store = DirectoryStore(places["store"])
    await Host(store, places["cache"], process).deliver(written(tmp_path, "gain"))
    before, outages = await Host(store, tmp_path / "look", process).contents(), 0
    better = written(tmp_path, "gain", "2")
    for room in range(0, 400_000, 8192):
        disk.fill(leave_bytes=room)
        try:
            context = await Host(store, places["cache"], process).deliver(better)
        except Outage as problem:
            assert "No space left" in problem.message
            outages += 1
        else:
            break
        finally:
            disk.free()
        looked = Host(store, tmp_path / f"look-{room}", process)
        assert await looked.references.default_context() == "tmt_0001.pmap"
        assert await looked.contents() == before
    assert outages > 2
    assert context == "tmt_0002.pmap"
    found = Host(store, tmp_path / "after", process)
    assert "tmt_iris_gain_0002.rmap" in await bring_mappings(found.holdings, context)
    assert before.items() <= (await found.contents()).items()
