"""The official, unforked client against a fresh server, from an empty cache: what a user types, and what must come."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from tests.crds_proxy.official_client import OfficialClient
from tests.crds_proxy.published import NEW, NEW_FLAT, NEXT, OLD, OLD_FLAT, publish, publish_two

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.embedded import run, serve_web
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import CARDS, HEADER, write_certifiable, write_reference, write_references
from irisdrs.shared.web_server import serving

pytestmark = pytest.mark.peers

#: FITS keywords of the exposure of `HEADER`.
RAW: dict[str, str | float] = {
    "DETECTOR": "IMG1", "OBSMODE": "IMG", "FILTER": "Ks", "PUPIL": "CLEAR", "EXPTYPE": "SCI", "SAMPMODE": "UTR",
    "RAMPINTT": 5.76, "SARRMODE": "FULL", "DATE-OBS": "2034-08-01", "TIME-OBS": "05:04:03.000",
}  # fmt: skip

#: Asks for a flat as a pipeline does, under several contexts, and prints what comes.
ASK = """
import crds
for context in {contexts!r}:
    try:
        print(crds.getreferences({header!r}, reftypes=["flat"], context=context, observatory="tmt")["flat"])
    except Exception as error:
        print(error)
"""


@dataclass(frozen=True, slots=True)
class Observatory:
    """A server, and what it publishes from."""

    url: str
    store: DirectoryStore
    source: Cache
    published_at: datetime
    stop: AsyncExitStack

    async def deliver(self, folder: Path) -> None:
        """Publish a context with a third flat."""
        build_context(self.source.root, [write_reference(folder / "best.fits", "flat", DESCRIP="best")])
        await publish(self.store, self.source, datetime.now(UTC))


@pytest.fixture
async def observatory(tmp_path: Path) -> AsyncIterator[Observatory]:
    """A fresh server with an empty cache of its own."""
    store = DirectoryStore(tmp_path / "store")
    source, published_at = await publish_two(store, tmp_path / "source")
    files = Verifier(Cache(tmp_path / "server"))
    references = LocalReferences(StoreHoldings(store, files), files)
    async with AsyncExitStack() as stop:
        url = await stop.enter_async_context(serving(application(references), "127.0.0.1", 0))
        yield Observatory(url, store, source, published_at, stop)


@pytest.fixture
def user(observatory: Observatory, tmp_path: Path) -> OfficialClient:
    return OfficialClient(observatory.url, tmp_path / "user")


async def flats(user: OfficialClient, *contexts: str | None, header: dict[str, str] = HEADER) -> list[str]:
    """Names of the flats that a user's pipeline gets, all of them in the cache; else what it is told."""
    ran = await user.python(ASK.format(header=header, contexts=contexts))
    assert ran.code == 0, ran.log
    folder = str(user.cache / "references" / "tmt" / "iris") + "/"
    return [line.removeprefix(folder) for line in ran.lines]


async def test_it_lists_syncs_certifies_and_works_on_when_the_server_is_gone(
    user: OfficialClient, observatory: Observatory
) -> None:
    status = await user.command("list", "--status")
    assert status.code == 0
    assert f"Effective Context = {NEW!r}" in status.out
    assert (await user.command("list", "--operational-context")).lines == [NEW]
    assert (await user.command("list", "--latest-context")).lines == [NEW]

    names = await user.command("list", "--contexts", "tmt-2021-01-01T00:00:00", "--mappings")
    assert names.lines == [
        OLD,
        "tmt_iris_0001.imap",
        *sorted(f"tmt_iris_{kind}_0001.rmap" for kind in reference_types()),
    ]
    assert not (user.cache / "references").exists()

    asked = ("--contexts", "tmt-latest", "--fetch-references", "--check-files", "--check-sha1sum")
    synced = await user.command("sync", *asked)
    assert (synced.code, "CRDS - INFO -  0 errors" in synced.log) == (0, True), synced.log
    files = {path.name: path for path in (user.cache / "references").rglob("*.fits")}
    assert set(files) == {NEW_FLAT, *(f"tmt_iris_{kind}_0001.fits" for kind in CARDS if kind != "flat")}
    for name, path in files.items():
        assert path.read_bytes() == observatory.source.path(name).read_bytes()

    dark = write_certifiable(user.home / "new_dark.fits", "dark", RAMPINTT=1.44)
    certified = await user.command("certify", dark.name, "--comparison-context", "tmt-latest")
    assert (certified.code, f"relative to context {NEW!r}" in certified.log) == (0, True), certified.log
    refused = write_certifiable(user.home / "bad_dark.fits", "dark", RAMPINTT=1.44, PEDIGREE="")
    certified = await user.command("certify", refused.name, "--comparison-context", "tmt-latest")
    assert (certified.code, "keyword 'PEDIGREE'" in certified.log) == (1, True), certified.log

    database = await user.command("sync", "--fetch-sqlite-db")
    assert database.code == 0, database.log
    with sqlite3.connect(user.cache / "config" / "tmt" / "crds_db.sqlite3") as connection:
        rows = connection.execute("select context from crds_tmt_context_history order by id").fetchall()
        assert rows == [(OLD,), (NEW,)]
        found = connection.execute("select size, sha1sum from crds_tmt_references where name = ?", (NEW_FLAT,))
        assert found.fetchone()[0] == str(observatory.source.path(NEW_FLAT).stat().st_size)
    connection.close()

    await observatory.stop.aclose()
    assert await flats(user, None, NEW) == [NEW_FLAT, NEW_FLAT]


async def test_it_gives_best_references_to_files_headers_and_pipelines(
    user: OfficialClient, observatory: Observatory
) -> None:
    user.home.mkdir()
    raw = write_reference(user.home / "raw.fits", "", REFTYPE="", USEAFTER="", **RAW)
    updated = await user.command(
        "bestrefs", "--files", raw.name, "--new-context", "tmt-latest", "--types", "flat", "--update-bestrefs"
    )
    assert updated.code == 0, updated.log
    assert f"R_FLAT  = 'crds://{NEW_FLAT}'" in raw.read_bytes().decode("ascii"), updated.log

    for mode in ("local", "remote"):
        asking = OfficialClient(user.server, user.home / mode, {"CRDS_MODE": mode})
        asking.home.mkdir()
        found = await flats(asking, None, "tmt-edit", OLD, "tmt-2021-01-01T00:00:00")
        assert found == [NEW_FLAT, NEW_FLAT, OLD_FLAT, OLD_FLAT]
        assert (asking.cache / "mappings").exists() is (mode == "local")


async def test_a_delivery_is_the_new_default_while_old_contexts_and_dates_give_the_old_files(
    user: OfficialClient, observatory: Observatory, tmp_path: Path
) -> None:
    assert await flats(user, None) == [NEW_FLAT]
    await observatory.deliver(tmp_path)
    assert (await user.command("list", "--latest-context")).lines == [NEXT]
    at = f"tmt-{observatory.published_at:%Y-%m-%dT%H:%M:%S.%f}"
    found = await flats(user, None, NEW, at, "tmt-2021-01-01T00:00:00")
    assert found == ["tmt_iris_flat_0003.fits", NEW_FLAT, NEW_FLAT, OLD_FLAT]


async def test_mistakes_are_told_in_the_client_s_own_words(user: OfficialClient) -> None:
    user.home.mkdir()
    remote = OfficialClient(user.server, user.home, {"CRDS_MODE": "remote"})
    unknown, early = await flats(remote, "tmt_0099.pmap", "tmt-2019-01-01T00:00:00")
    assert "tmt_0099.pmap" in unknown
    assert "No context of tmt was in force at 2019-01-01T00:00:00" in early
    header = HEADER | {"meta.instrument.name": "WFOS"}
    assert "Unknown instrument 'wfos'" in (await flats(remote, NEW, header=header))[0]
    header = HEADER | {"meta.instrument.filter": "<K&s>"}
    assert "value='<K&S>' is not in ['KS']" in (await flats(remote, NEW, header=header))[0]


async def test_the_embedded_system_answers_it_beside_the_archive(tmp_path: Path) -> None:
    settings = HostSettings(data_dir=tmp_path / "data", archive_port=0)
    build_context(settings.crds_dir, write_references(tmp_path))
    async with run(settings) as system, serve_web(system) as url, httpx.AsyncClient(trust_env=False) as browser:
        user = OfficialClient(url, tmp_path / "user")
        assert await flats(user, "tmt-latest") == [OLD_FLAT]
        page = await browser.get(url)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert (await browser.get(f"{url}/references/context")).json() == {"context": OLD}
