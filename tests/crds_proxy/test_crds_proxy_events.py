"""A reference that calibrate has made is certified or rejected once; every change of contexts is told."""

import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from irisdrs.crds_proxy.announcements import Announcements
from irisdrs.crds_proxy.delivery.deliveries import Deliveries
from irisdrs.crds_proxy.delivery.process import CrdsProcess
from irisdrs.crds_proxy.handlers import handlers
from irisdrs.crds_proxy.holdings import Change, ChangeKind, Published
from irisdrs.crds_proxy.states import file_key
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared import crash_points
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events import ContextChanged, Event, ReferenceCertified, ReferenceCreated, ReferenceRejected
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.testing.references import write_certifiable, write_reference

pytestmark = pytest.mark.asyncio(loop_scope="module")  # all tests share one process of the client


class Proxy:
    """What one start of crds_proxy has, on a data folder."""

    def __init__(self, data: Path, process: CrdsProcess) -> None:
        register()
        self.store = DirectoryStore(data / "store")
        self.cache = Cache(data / "crds")
        self.holdings = StoreHoldings(self.store, Verifier(self.cache), fresh_s=0.0)
        self.deliveries = Deliveries(self.store, self.holdings, self.cache, process)
        self.announcements = Announcements(self.store, self.holdings, self.cache)

    async def create(self, file: Path, kind: str) -> ReferenceCreated:
        """Put a reference into the store as calibrate does; gives what is told of it."""
        ref = (await self.store.put(f"3/{file.name}", file.read_bytes())).stored.ref
        useafter = datetime(2030, 1, 1, tzinfo=UTC)
        return ReferenceCreated(reference_type=kind, object=ref, useafter=useafter, inputs=(("frame", "0" * 64),))

    async def handle(self, event: ReferenceCreated) -> list[Event]:
        return list(await handlers(self.store, self.deliveries)[ReferenceCreated](event))

    async def told(self) -> list[ContextChanged]:
        """Events of one round."""
        return [event async for event in self.announcements.look() if isinstance(event, ContextChanged)]

    async def kinds(self) -> list[str]:
        return [change.kind for change in (await self.holdings.catalogue()).changes]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def process() -> AsyncIterator[CrdsProcess]:
    process = CrdsProcess()
    yield process
    await process.close()


@pytest.fixture
def proxy(tmp_path: Path, process: CrdsProcess) -> Proxy:
    return Proxy(tmp_path / "data", process)


async def test_an_event_delivers_once_however_often_it_comes(proxy: Proxy, tmp_path: Path) -> None:
    event = await proxy.create(write_certifiable(tmp_path / "gain.fits", "gain"), "gain")
    (certified,) = await proxy.handle(event)
    assert isinstance(certified, ReferenceCertified)
    assert certified.file_name == "tmt_iris_gain_0001.fits"
    assert certified.object == event.object
    assert any("crds certify 14" in check for check in certified.checks)
    other = await proxy.create(write_certifiable(tmp_path / "better.fits", "gain", DESCRIP="x"), "gain")
    await proxy.handle(other)
    assert await proxy.handle(event) == [certified]
    catalogue = await proxy.holdings.catalogue()
    assert [change.context for change in catalogue.changes] == ["tmt_0001.pmap", "tmt_0002.pmap"]
    assert catalogue.changes[0].by == "calibrate"


async def test_an_event_is_not_carried_out_again_after_a_roll_back(proxy: Proxy, tmp_path: Path) -> None:
    events = [
        await proxy.create(write_certifiable(tmp_path / f"{name}.fits", "gain", DESCRIP=name), "gain") for name in "ab"
    ]
    for event in events:
        await proxy.handle(event)
    await proxy.deliveries.roll_back("tmt_0001.pmap", "somebody", "worse")
    await proxy.handle(events[1])
    assert (await proxy.holdings.catalogue()).context == "tmt_0001.pmap"


async def test_a_crash_after_the_commit_loses_no_event(proxy: Proxy, tmp_path: Path, process: CrdsProcess) -> None:
    event = await proxy.create(write_certifiable(tmp_path / "gain.fits", "gain"), "gain")
    crash_points.arm("crds.commit.after")
    try:
        with pytest.raises(crash_points.Crash):
            await proxy.handle(event)
    finally:
        crash_points.disarm()
    restarted = Proxy(tmp_path / "data", process)
    assert [type(told) for told in await restarted.handle(event)] == [ReferenceCertified]
    (changed,) = await restarted.told()
    assert (changed.old_context, changed.new_context) == ("NONE", "tmt_0001.pmap")
    assert await restarted.kinds() == ["delivery"]


@pytest.mark.parametrize(
    ("cards", "kind", "reason"),
    [
        ({"AUTHOR": ""}, "gain", "Missing required keyword 'AUTHOR'"),
        ({"USEAFTER": "soon"}, "gain", "USEAFTER 'soon'"),
        ({}, "mask", "announced as mask, and its REFTYPE is gain"),
    ],
)
async def test_a_reference_that_is_wrong_is_rejected_with_the_reason(
    proxy: Proxy, tmp_path: Path, cards: dict[str, str], kind: str, reason: str
) -> None:
    event = await proxy.create(write_certifiable(tmp_path / "gain.fits", "gain", None, **cards), kind)
    (rejected,) = await proxy.handle(event)
    assert isinstance(rejected, ReferenceRejected)
    assert reason in rejected.reason
    assert str(tmp_path) not in rejected.reason
    assert rejected.file_name == "gain.fits"
    assert await proxy.handle(event) == [rejected]
    assert await proxy.kinds() == []
    assert await proxy.store.keys("crds/") == []


async def test_an_object_that_is_damaged_is_no_reason_to_reject(proxy: Proxy) -> None:
    ref = ObjectRef(key="3/absent.fits", sha256="0" * 64, size=1)
    event = ReferenceCreated(reference_type="gain", object=ref, useafter=datetime(2030, 1, 1, tzinfo=UTC), inputs=())
    with pytest.raises(CorruptObject):
        await proxy.handle(event)


async def test_every_change_is_told_once_and_whose_teller_died_again(
    proxy: Proxy, tmp_path: Path, process: CrdsProcess
) -> None:
    files = [write_certifiable(tmp_path / f"{kind}.fits", kind) for kind in ("gain", "mask", "readnoise")]
    await proxy.deliveries.deliver(files[:2], "somebody", "by command")
    (changed,) = await proxy.told()
    assert (changed.old_context, changed.new_context, changed.number) == ("NONE", "tmt_0001.pmap", 1)
    assert changed.types == tuple(sorted(reference_types()))  # each has a mapping from the first context on
    await proxy.deliveries.deliver(files[2:], "somebody", "by command")
    await proxy.deliveries.roll_back("tmt_0001.pmap", "somebody", "worse")

    restarted = Proxy(tmp_path / "data", process)
    first = await anext(restarted.announcements.look())  # and it died before the broker had confirmed

    told = await Proxy(tmp_path / "data", process).told()
    assert [(one.old_context, one.new_context, one.types) for one in told] == [
        ("tmt_0001.pmap", "tmt_0002.pmap", ("readnoise",)),
        ("tmt_0002.pmap", "tmt_0001.pmap", ("readnoise",)),
    ]
    assert told[0] == first
    assert len({one.event_id for one in told}) == 2
    assert await proxy.told() == []


async def test_a_change_whose_context_cannot_be_read_here_is_told_of_all_types(proxy: Proxy) -> None:
    content = b"written by a host of another day"
    await proxy.store.put(file_key("tmt_0001.pmap"), content)
    facts = Published(len(content), hashlib.sha1(content).hexdigest(), hashlib.sha256(content).hexdigest())
    change = Change(
        1, ChangeKind.DELIVERY, "tmt_0001.pmap", datetime.now(UTC), "somebody", "a test", {"tmt_0001.pmap": facts}
    )
    assert await proxy.holdings.states.commit(change)
    told = await anext(proxy.announcements.look())
    assert isinstance(told, ContextChanged)
    assert (told.new_context, told.types) == ("tmt_0001.pmap", tuple(sorted(reference_types())))


async def test_the_cache_keeps_up_with_the_store_and_the_store_with_the_cache(proxy: Proxy, tmp_path: Path) -> None:
    build_context(proxy.cache.root, [write_reference(tmp_path / "dark.fits", "dark")])
    await proxy.told()
    assert await proxy.kinds() == [ChangeKind.IMPORT]
    gain = write_certifiable(tmp_path / "gain.fits", "gain")
    await proxy.deliveries.deliver([gain], "somebody", "by command")
    await proxy.told()
    assert context_in_force(proxy.cache) == "tmt_0002.pmap"

    built = build_context(proxy.cache.root, [write_reference(tmp_path / "flat.fits", "flat")])
    assert built == "tmt_0003.pmap"
    assert (await proxy.holdings.local("tmt_iris_flat_0001.fits")).is_file()  # before anybody has published it
    (changed,) = await proxy.told()
    assert (changed.old_context, changed.new_context, changed.types) == ("tmt_0002.pmap", built, ("flat",))
    assert await proxy.kinds() == ["import", "delivery", "import"]


async def test_what_was_built_here_under_names_of_others_stays_here(
    proxy: Proxy, tmp_path: Path, process: CrdsProcess
) -> None:
    gain = write_certifiable(tmp_path / "gain.fits", "gain")
    await Proxy(tmp_path / "data", process).deliveries.deliver([gain], "somebody", "by command")
    proxy.cache = Cache(tmp_path / "other")
    proxy.holdings = StoreHoldings(proxy.store, Verifier(proxy.cache))
    proxy.announcements = Announcements(proxy.store, proxy.holdings, proxy.cache)
    for name in "ab":
        built = build_context(proxy.cache.root, [write_reference(tmp_path / "g.fits", "gain", DESCRIP=name)])
    assert built == "tmt_0002.pmap"
    assert [one.new_context for one in await proxy.told()] == ["tmt_0001.pmap"]
    assert await proxy.kinds() == ["delivery"]
    assert await proxy.told() == []
    assert context_in_force(proxy.cache) == built
    assert (await proxy.holdings.local(built)).is_file()
