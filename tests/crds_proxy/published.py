"""An observatory that has published contexts: one of 2020, and one of today."""

from datetime import UTC, datetime
from pathlib import Path

from irisdrs.crds_proxy.holdings import Change, ChangeKind, Published
from irisdrs.crds_proxy.states import States, file_key
from irisdrs.shared.crds.cache import Cache, read_manifest
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.store.port import Store
from irisdrs.shared.testing.references import write_reference, write_references

#: When the first context came into force.
IN_2020 = datetime(2020, 3, 1, tzinfo=UTC)

OLD, NEW, NEXT = "tmt_0001.pmap", "tmt_0002.pmap", "tmt_0003.pmap"
OLD_FLAT, NEW_FLAT = "tmt_iris_flat_0001.fits", "tmt_iris_flat_0002.fits"


async def publish_two(store: Store, folder: Path) -> tuple[Cache, datetime]:
    """Publish one reference of every type in 2020, and a better flat now.

    Returns
    -------
    Cache, datetime
        Where they were built, and when the better flat was published.
    """
    folder.mkdir()
    source = Cache(folder / "built")
    build_context(source.root, write_references(folder))
    await publish(store, source, IN_2020)
    build_context(source.root, [write_reference(folder / "better.fits", "flat", DESCRIP="better")])
    return source, (await publish(store, source, datetime.now(UTC))).at


async def publish(store: Store, source: Cache, at: datetime) -> Change:
    """Publish what a cache has that the store has not, and put its newest context in force."""
    states = States(store)
    changes = await states.changes()
    before = {name for change in changes for name in change.files}
    files = {}
    for name, facts in read_manifest(source).items():
        if name not in before:
            await store.put_file(file_key(name), source.path(name))
            files[name] = Published(facts.size, facts.sha1sum, facts.sha256)
    context = max(name for name in read_manifest(source) if name.endswith(".pmap"))
    change = Change(len(changes) + 1, ChangeKind.DELIVERY, context, at, "somebody", f"to have {context}", files)
    assert await states.commit(change)
    return change
