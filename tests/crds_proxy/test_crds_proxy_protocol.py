"""The CRDS protocol, call by call: answers, files, and what is made of calls that are none."""

import asyncio
import base64
import gzip
import hashlib
import html
import json
import shutil
import sqlite3
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry
from tests.crds_proxy.published import NEW, NEW_FLAT, NEXT, OLD, OLD_FLAT, publish, publish_two

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.protocol.envelope import MAX_CALL_BYTES
from irisdrs.crds_proxy.protocol.methods import METHODS
from irisdrs.crds_proxy.store_holdings import StoreHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import CARDS, HEADER, write_reference
from irisdrs.shared.web_server import serving

#: Longest wait for what must happen at once, seconds: generous, only a failure waits that long.
SOON_S = 20.0

#: Within which a new context must be seen, seconds.
VISIBLE_S = 1.0


class Server:
    """What is published, the references of the server, and a client of it."""

    def __init__(self, store: DirectoryStore, source: Cache, cache: Cache) -> None:
        self.store, self.source, self.cache = store, source, cache
        files = Verifier(cache)
        self.references = LocalReferences(StoreHoldings(store, files), files)
        self.client = httpx.AsyncClient()

    async def call(self, method: str, *parameters: Any, **named: Any) -> Any:
        """The result of a call, as the official client sends it."""
        body = await self.envelope(method, *parameters, **named)
        assert body["error"] is None, body
        return body["result"]

    async def failure(self, method: str, *parameters: Any, **named: Any) -> str:
        """What a call that fails is told, as the official client shows it."""
        body = await self.envelope(method, *parameters, **named)
        assert body["result"] is None
        assert set(body["error"]) == {"name", "message"}
        return html.unescape(body["error"]["message"])

    async def envelope(self, method: str, *parameters: Any, **named: Any) -> dict[str, Any]:
        body = {"jsonrpc": "1.0", "method": method, "params": named or parameters, "id": "crds-14-1"}
        answer = await self.client.post(
            f"/json/{method}/crds-14-1/",
            content=json.dumps(body),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
        found: dict[str, Any] = answer.json()
        assert set(found) == {"result", "error", "id"}
        assert found["id"] == "crds-14-1"
        return found


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store, and the cache from which it was published."""
    folder = tmp_path_factory.mktemp("published")
    asyncio.run(publish_two(DirectoryStore(folder / "store"), folder / "source"))
    return folder


@pytest.fixture
async def server(published: Path, tmp_path: Path) -> AsyncIterator[Server]:
    register()
    shutil.copytree(published, tmp_path, dirs_exist_ok=True)
    source = Cache(tmp_path / "source" / "built")
    server = Server(DirectoryStore(tmp_path / "store"), source, Cache(tmp_path / "server"))
    async with (
        serving(application(server.references), "127.0.0.1", 0) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=SOON_S) as client,
    ):
        server.client = client
        yield server


async def test_the_server_says_what_it_is(server: Server) -> None:
    info = await server.call("get_server_info")
    url = str(server.client.base_url).rstrip("/")
    assert {name: info[name] for name in info if name.endswith("_context")} == dict.fromkeys(
        ("latest_context", "operational_context", "edit_context", "versions_context"), NEW
    )
    assert (info["observatory"], info["force_remote_mode"], info["bad_files_list"]) == ("tmt", False, [])
    assert info["mapping_url"] == {"tmt": f"{url}/mappings/tmt"}
    assert info["reference_url"] == {"tmt": f"{url}/references/tmt"}
    assert {OLD, NEW, "tmt_iris_0002.imap", "tmt_iris_flat_0002.rmap"} <= set(info["mappings"])
    assert (info["stale"], info["crds_version"]) == (False, {"str": "14.0.3"})
    packed = info["download_metadata"]
    assert packed["crds_encoded"] == "1.0"
    facts = json.loads(gzip.decompress(base64.b64decode(packed["crds_payload"])))
    content = server.source.path(NEW_FLAT).read_bytes()
    assert facts[NEW_FLAT] == {"size": str(len(content)), "sha1sum": hashlib.sha1(content).hexdigest()}
    assert set(facts) == {*info["mappings"], *(f"tmt_iris_{kind}_0001.fits" for kind in CARDS), NEW_FLAT}


async def test_contexts_have_names_dates_and_states(server: Server) -> None:
    history = await server.call("get_context_history", "tmt")
    assert [context for _, context, _ in history] == [OLD, NEW]
    assert history[0][0] == "2020-03-01 00:00:00.000000"
    for state in (None, "latest", "edit", "build", "operational"):
        assert await server.call("get_default_context", "tmt", state) == NEW
    for date, context in {
        "tmt-2021-01-01T00:00:00": OLD,
        "2021-01-01": OLD,
        "tmt-2020-03-01T00:00:00.000": OLD,
        "tmt-iris-2021-01-01": "tmt_iris_0001.imap",
        "tmt-iris-flat-2021-01-01": "tmt_iris_flat_0001.rmap",
        "tmt-iris-flat-latest": "tmt_iris_flat_0002.rmap",
        "tmt-latest": NEW,
        "latest": NEW,
        f"tmt-{history[1][0].replace(' ', 'T')}": NEW,
        OLD: OLD,
    }.items():
        assert await server.call("get_context_by_date", date, "tmt") == context


@pytest.mark.parametrize(
    ("date", "word"),
    [
        ("tmt-2020-02-29T23:59:59", "was in force at 2020-02-29T23:59:59, the first one came into force at 2020-03-01"),
        ("tmt-2021-02-30", "is no date"),
        ("tmt-yesterday", "is no context"),
        ("hst-latest", "is no context"),
        ("../../tmt_0001.pmap", "is no context"),
        ("tmt-iris-bias-latest", "has no mapping for"),
        ("tmt-2021-01-01T00:00:00\n", "is no context"),
    ],
)
async def test_what_is_no_context_is_told(server: Server, date: str, word: str) -> None:
    assert word in await server.failure("get_context_by_date", date, "tmt")


async def test_contexts_list_their_files(server: Server) -> None:
    names = await server.call("get_mapping_names", "tmt-2021-01-01T00:00:00")
    assert {OLD, "tmt_iris_0001.imap", "tmt_iris_flat_0001.rmap"} <= set(names)
    assert NEW not in names
    assert await server.call("get_mapping_names", "tmt_iris_flat_0002.rmap") == ["tmt_iris_flat_0002.rmap"]
    assert set(await server.call("get_mapping_names", "tmt_iris_0001.imap")) == set(names) - {OLD}
    references = await server.call("get_reference_names", OLD)
    assert references == sorted(f"tmt_iris_{kind}_0001.fits" for kind in CARDS)
    assert await server.call("get_reference_names", "tmt_iris_flat_0002.rmap") == [NEW_FLAT]
    assert await server.call("list_mappings", "tmt", "*.pmap") == [OLD, NEW]
    assert await server.call("list_references", "tmt", "*flat*") == [OLD_FLAT, NEW_FLAT]
    keys = await server.call("get_required_parkeys", OLD)
    assert {"META.INSTRUMENT.NAME", "META.INSTRUMENT.DETECTOR", "META.OBSERVATION.DATE"} <= set(keys["iris"])


async def test_best_references_for_any_spelling_of_a_header(server: Server) -> None:
    for context, flat in ((OLD, OLD_FLAT), (NEW, NEW_FLAT), ("tmt-latest", NEW_FLAT), ("tmt-2021-01-01", OLD_FLAT)):
        assert await server.call("get_best_references", context, HEADER, ["flat"]) == {"flat": flat}
    keywords = {"INSTRUME": "IRIS", "DETECTOR": "IMG1", "DATE-OBS": "2034-08-01", "TIME-OBS": "05:04:03"}
    keywords |= {"SAMPMODE": "UTR", "SARRMODE": "FULL"}
    found = await server.call("get_best_references", OLD, {**keywords, "RAMPINTT": 5.7600001}, ["DARK"])
    assert found == {"dark": "tmt_iris_dark_0001.fits"}
    everything = await server.call("get_best_references", NEW, HEADER, None)
    assert {kind: everything[kind] for kind in CARDS} == {
        kind: NEW_FLAT if kind == "flat" else f"tmt_iris_{kind}_0001.fits" for kind in CARDS
    }
    assert await server.call("get_best_references", NEW, HEADER, []) == {}
    named = await server.call("get_best_references", context=NEW, header=HEADER, reftypes=["gain"])
    assert named == {"gain": "tmt_iris_gain_0001.fits"}
    assert not list(server.cache.references.glob("*.fits"))  # names need no files


async def test_what_has_no_match_is_told_as_the_client_tells_it(server: Server) -> None:
    found = await server.call(
        "get_best_references", NEW, HEADER | {"meta.instrument.filter": "Zn1"}, ["flat", "bias", "gain"]
    )
    assert found["flat"].startswith("NOT FOUND")
    assert "Unknown reference type" in found["bias"]
    assert found["gain"] == "tmt_iris_gain_0001.fits"
    assert "Unknown instrument" in await server.failure("get_best_references", NEW, {"INSTRUME": "<WFOS>"}, ["flat"])
    assert "keyword in header for determining instrument" in await server.failure("get_best_references", NEW, {}, None)
    assert "tmt_0099.pmap" in await server.failure("get_best_references", "tmt_0099.pmap", HEADER, ["flat"])
    assert "is no name of a CRDS context" in await server.failure("get_best_references", "/x/a.pmap", HEADER, ["flat"])


async def test_facts_of_files(server: Server) -> None:
    content = server.source.path(NEW_FLAT).read_bytes()
    fields = ["size", "rejected", "blacklisted", "state", "sha1sum"]
    found = await server.call("get_file_info_map", "tmt", [NEW_FLAT, "tmt_iris_flat_0009.fits", "/etc/passwd"], fields)
    assert found == {
        NEW_FLAT: {
            "size": str(len(content)),
            "sha1sum": hashlib.sha1(content).hexdigest(),
            "rejected": "false",
            "blacklisted": "false",
            "state": "archived",
        },
        "tmt_iris_flat_0009.fits": "NOT FOUND",
        "/etc/passwd": "NOT FOUND",
    }
    assert set(await server.call("get_file_info_map", "tmt")) >= {OLD, NEW, OLD_FLAT, NEW_FLAT}
    info = await server.call("get_file_info", NEW, NEW_FLAT)
    assert {name: info[name] for name in ("type", "instrument", "filekind", "deliverer_user", "description")} == {
        "type": "reference", "instrument": "iris", "filekind": "flat", "deliverer_user": "somebody",
        "description": f"to have {NEW}",
    }  # fmt: skip
    assert "tmt_iris_flat_0009.fits" in await server.failure("get_file_info", NEW, "tmt_iris_flat_0009.fits")


async def test_the_catalogue_is_a_sqlite_file(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "crds_db.sqlite3"
    path.write_bytes(zlib.decompress(base64.b64decode(await server.call("get_sqlite_db", "tmt"))))
    connection = sqlite3.connect(path)
    catalogue = set(connection.execute("select name, sha256 from crds_tmt_catalog"))
    assert (NEW_FLAT, hashlib.sha256(server.source.path(NEW_FLAT).read_bytes()).hexdigest()) in catalogue
    assert len(catalogue) == len(await server.call("get_file_info_map", "tmt"))
    views = "select name from crds_tmt_mappings union all select name from crds_tmt_references"
    assert {name for (name,) in connection.execute(views)} == {name for name, _ in catalogue}
    history = connection.execute("select context from crds_tmt_context_history order by start_date").fetchall()
    assert history == [(OLD,), (NEW,)]
    connection.close()


async def test_a_new_context_is_seen_within_a_second_and_old_ones_stay(server: Server, tmp_path: Path) -> None:
    asked = [await server.call("get_best_references", context, HEADER, ["flat"]) for context in (OLD, NEW)]
    build_context(server.source.root, [write_reference(tmp_path / "best.fits", "flat", DESCRIP="best")])
    await publish(server.store, server.source, datetime.now(UTC))
    await asyncio.sleep(VISIBLE_S)
    assert await server.call("get_default_context", "tmt", None) == NEXT
    assert (await server.call("get_server_info"))["latest_context"] == NEXT
    found = await server.call("get_best_references", "tmt-latest", HEADER, ["flat"])
    assert found == {"flat": "tmt_iris_flat_0003.fits"}
    assert [await server.call("get_best_references", context, HEADER, ["flat"]) for context in (OLD, NEW)] == asked


@pytest.mark.parametrize(
    "path",
    [
        f"references/tmt/{NEW_FLAT}",
        f"references/files/{NEW_FLAT}",
        f"mappings/tmt/{NEW}",
        "mappings/tmt/tmt_iris_flat_0002.rmap",
    ],
)
async def test_files_whole_in_parts_and_not_again(server: Server, path: str) -> None:
    content = server.source.path(path.rpartition("/")[2]).read_bytes()
    whole = await server.client.get(f"/{path}")
    assert (whole.status_code, whole.content) == (200, content)
    etag = whole.headers["etag"]
    assert (etag, whole.headers["accept-ranges"]) == (f'"{hashlib.sha256(content).hexdigest()}"', "bytes")
    part = await server.client.get(f"/{path}", headers={"Range": "bytes=80-159"})
    assert (part.status_code, part.content) == (206, content[80:160])
    assert part.headers["content-range"] == f"bytes 80-159/{len(content)}"
    last = await server.client.get(f"/{path}", headers={"Range": "bytes=-10", "If-Range": etag})
    assert (last.status_code, last.content) == (206, content[-10:])
    same = await server.client.get(f"/{path}", headers={"If-None-Match": f'"another", {etag}'})
    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    head = await server.client.head(f"/{path}")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))


@pytest.mark.parametrize("folder", ["mappings/tmt", "references/tmt"])
@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2F..%2Fconfig%2Ftmt%2Fmanifest.json", "%2Fetc%2Fpasswd", "..", "%2e%2e", "%00", "manifest.json", "",
        f"{NEW}%00", f"{NEW_FLAT}%0A", f"{NEW}/x", "a" * 300 + ".fits", "tmt_0099.pmap", "..%5C..%5Cx.pmap", "%FF.pmap",
    ],
)  # fmt: skip
async def test_no_name_leads_out_of_the_published_files(server: Server, folder: str, name: str) -> None:
    answer = await server.client.get(f"/{folder}/{name}")
    assert answer.status_code == 404
    assert str(server.cache.root) not in answer.text


async def test_a_kind_of_file_is_under_its_own_address_only(server: Server) -> None:
    assert (await server.client.get(f"/references/tmt/{NEW}")).status_code == 404
    assert (await server.client.get(f"/mappings/tmt/{NEW_FLAT}")).status_code == 404
    assert (await server.client.put(f"/mappings/tmt/{NEW}", content=b"x")).status_code == 405
    assert (await server.client.get("/json/get_server_info/1/")).status_code == 405


BAD_CALLS = {
    "nothing": b"",
    "no JSON": b"{",
    "no text": b'{"method": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "deep parameters": b'{"method": "get_server_info", "params": ' + b"[" * 100_000,
    "a long number": b'{"method": "get_server_info", "params": [' + b"9" * 10_000 + b"]}",
    "a form": b"method=get_server_info",
    "no method": b'{"params": []}',
    "a method that is none": b'{"method": ["get_server_info"], "params": []}',
    "parameters that are none": b'{"method": "get_server_info", "params": "x"}',
}


@pytest.mark.parametrize("case", BAD_CALLS)
async def test_what_is_no_call_is_refused_in_the_envelope(server: Server, case: str) -> None:
    answer = await server.client.post("/json/get_server_info/1/", content=BAD_CALLS[case])
    assert answer.status_code == 400
    assert set(answer.json()) == {"result", "error", "id"}
    assert answer.json()["error"]["message"]
    assert await server.call("get_default_context", "tmt") == NEW


@pytest.mark.parametrize(
    ("method", "parameters", "word"),
    [
        ("get_nothing", [], "There is no method 'get_nothing'"),
        ("_now", [], "There is no method '_now'"),
        ("__class__", [], "There is no method '__class__'"),
        ("push_remote_context", ["tmt", "latest", "key", NEW], "There is no method"),
        ("get_server_info", [1], "get_server_info cannot be called so"),
        ("get_default_context", ["hst"], "observatory: Input should be 'tmt'"),
        ("get_mapping_names", [], "context: Missing required argument"),
        ("get_mapping_names", [5], "context: Input should be a valid string"),
        ("get_mapping_names", ["x" * 10_000], "context: String should have at most"),
        ("get_mapping_names", ["tmt_0001.fits"], "is no context"),
        ("get_mapping_names", ["/etc/tmt_0001.pmap"], "is no context"),
        ("get_best_references", [NEW, [], ["flat"]], "header: Input should be a valid dictionary"),
        ("get_best_references", [NEW, {"a": {"b": "c"}}, None], "header.a"),
        ("get_best_references", [NEW, HEADER, "flat"], "reftypes"),
        ("get_best_references", [NEW, HEADER, ["x"] * 300], "reftypes: List should have at most 250 items"),
    ],
)
async def test_a_call_that_cannot_be_is_told_why(server: Server, method: str, parameters: list[Any], word: str) -> None:
    assert word in await server.failure(method, *parameters)


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose size is not announced."""
    for _ in range(size >> 16):
        yield b" " * (1 << 16)


@pytest.mark.parametrize("announced", [True, False])
async def test_a_call_of_100_mb_is_refused_and_the_next_one_answered(server: Server, announced: bool) -> None:
    size = 100 << 20
    body = b" " * size if announced else in_pieces(size)
    answer = await server.client.post("/json/get_server_info/1/", content=body)
    assert answer.status_code == 413
    assert str(MAX_CALL_BYTES) in answer.json()["error"]["message"]
    assert await server.call("get_default_context", "tmt") == NEW


async def test_figures_tell_calls_memory_and_bytes(server: Server) -> None:
    registry = CollectorRegistry()
    for collector in server.references.figures.collectors():
        registry.register(collector)
    for _ in range(3):
        await server.call("get_best_references", NEW, HEADER, ["flat"])
    await server.failure("get_mapping_names", "x")
    await server.failure("get_nothing_of_any_name")
    await server.client.post("/json/get_server_info/1/", content=b"{")
    content = (await server.client.get(f"/references/tmt/{NEW_FLAT}", headers={"Range": "bytes=0-99"})).content

    def figure(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert figure("iris_crds_calls_total", method="get_best_references", outcome="ok") == 3
    assert figure("iris_crds_calls_total", method="get_mapping_names", outcome="error") == 1
    assert figure("iris_crds_calls_total", method="unknown", outcome="error") == 1
    assert figure("iris_crds_calls_total", method="none", outcome="refused") == 1
    assert figure("iris_crds_call_seconds_count", method="get_best_references") == 3
    assert figure("iris_crds_choices_total", answer="new") == 1
    assert figure("iris_crds_choices_total", answer="remembered") == 2
    assert figure("iris_crds_file_bytes_total", kind="reference") == len(content) == 100


def test_every_method_of_the_protocol_can_be_called() -> None:
    assert set(METHODS) == {
        "get_server_info", "get_mapping_names", "get_best_references", "get_context_by_date", "get_file_info_map",
        "get_sqlite_db", "get_default_context", "get_context_history", "get_reference_names", "get_required_parkeys",
        "list_mappings", "list_references", "get_file_info",
    }  # fmt: skip
