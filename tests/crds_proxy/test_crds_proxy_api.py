"""crds_proxy over HTTP: what it answers, and what it makes of requests that are none."""

import asyncio
import hashlib
import json
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.main import compose, open_references
from irisdrs.shared.bus.topology import CRDS, CRDS_PRELOAD
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.mappings import CRDS_LOCK
from irisdrs.shared.reference_wire import MAX_QUESTION_BYTES
from irisdrs.shared.service import Platform
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import CARDS, HEADER, write_reference, write_references
from irisdrs.shared.testing.references_contract import cut
from irisdrs.shared.web_server import serving

TYPES = tuple(CARDS)
GAIN = "tmt_iris_gain_0001.fits"

#: Longest wait for what must happen at once, seconds: generous, only a failure waits that long.
SOON_S = 20.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("references")
    build_context(folder / "cache", write_references(folder))
    return folder / "cache"


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Cache:
    shutil.copytree(built, tmp_path / "crds")
    return Cache(tmp_path / "crds")


@pytest.fixture
async def client(cache: Cache) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(open_references(cache.root)), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://crds") as client:
        yield client


@pytest.fixture
async def served(cache: Cache) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        serving(application(open_references(cache.root)), "127.0.0.1", 0) as url,
        httpx.AsyncClient(base_url=url, trust_env=False, timeout=SOON_S) as client,
    ):
        yield client


def question(**changed: object) -> dict[str, object]:
    return {"context": "tmt_0001.pmap", "types": list(TYPES), "header": HEADER} | changed


def is_problem(answer: httpx.Response, status: int, error_class: str, *words: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"error_class", "message", "remedy"}
    assert body["error_class"] == error_class
    assert body["remedy"]
    for word in words:
        assert word in body["message"]


async def test_the_context_in_force(client: httpx.AsyncClient) -> None:
    answer = await client.get("/references/context")
    assert (answer.status_code, answer.json()) == (200, {"context": "tmt_0001.pmap"})


async def test_the_best_references_with_what_verifies_them(client: httpx.AsyncClient, cache: Cache) -> None:
    answer = await client.post("/references/best", json=question())
    assert answer.status_code == 200
    assert [found["type"] for found in answer.json()] == list(TYPES)
    for found in answer.json():
        content = (cache.references / f"tmt_iris_{found['type']}_0001.fits").read_bytes()
        assert found == {
            "type": found["type"],
            "name": f"tmt_iris_{found['type']}_0001.fits",
            "sha256": hashlib.sha256(content).hexdigest(),
            "size": len(content),
        }


async def test_a_file_and_parts_of_it(served: httpx.AsyncClient, cache: Cache) -> None:
    content = (cache.references / GAIN).read_bytes()
    url = f"/references/files/{GAIN}"
    whole = await served.get(url)
    assert (whole.status_code, whole.content) == (200, content)
    assert whole.headers["etag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["content-length"] == str(len(content))
    part = await served.get(url, headers={"Range": "bytes=80-159", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, content[80:160])
    changed = await served.get(url, headers={"Range": "bytes=80-159", "If-Range": '"another"'})
    assert (changed.status_code, changed.content) == (200, content)
    assert (await served.get(url, headers={"Range": f"bytes={len(content)}-"})).status_code == 416


@pytest.mark.parametrize(
    "name",
    [
        "..%2F..%2F..%2Fconfig%2Ftmt%2Fmanifest.json", "%2Fetc%2Fpasswd", "..", "%2e%2e", "%00", "tmt_0001.pmap",
        "tmt_iris_gain_0001.rmap", "TMT_IRIS_GAIN_0001.FITS", f"{GAIN}%00", f"{GAIN}%0A", f"{GAIN}/x", "manifest.json",
        "a" * 300 + ".fits", "tmt_iris_gain_0002.fits", "%FF%FE.fits", "server_config", "..%5C..%5Cx.fits", "",
    ],
)  # fmt: skip
async def test_what_is_no_reference_is_not_handed_out(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/references/files/{name}")
    assert answer.status_code == 404
    assert set(answer.json()) == {"error_class", "message", "remedy"}


async def test_an_unknown_file_is_a_missing_reference(client: httpx.AsyncClient) -> None:
    answer = await client.get("/references/files/tmt_iris_gain_0002.fits")
    is_problem(answer, 404, "MissingReference", "tmt_iris_gain_0002.fits", "manifest")


async def test_a_truncated_file_is_not_handed_out_until_it_is_restored(
    client: httpx.AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    whole = Path(shutil.copy2(cache.references / GAIN, tmp_path / "whole"))
    assert (await client.get(f"/references/files/{GAIN}")).status_code == 200
    cut(cache.references / GAIN)
    is_problem(await client.post("/references/best", json=question()), 404, "MissingReference", GAIN, "is damaged")
    is_problem(await client.get(f"/references/files/{GAIN}"), 404, "MissingReference", GAIN, "is damaged")
    whole.replace(cache.references / GAIN)
    assert (await client.get(f"/references/files/{GAIN}")).status_code == 200
    assert (await client.post("/references/best", json=question())).status_code == 200


BAD_QUESTIONS = {
    "nothing": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"context": "\xff"}',
    "a list": b"[]",
    "null": b"null",
    "deep": b"[" * 100_000,
    "half a letter": json.dumps(question(context="\ud800")).encode(),
    "a form": b"context=tmt_0001.pmap",
    "no context": json.dumps({"types": [], "header": {}}).encode(),
    "no types": json.dumps({"context": "", "header": {}}).encode(),
    "no header": json.dumps({"context": "", "types": []}).encode(),
    "one type": json.dumps(question(types="dark")).encode(),
    "types that are none": json.dumps(question(types=[{"dark": 1}])).encode(),
    "a header that is none": json.dumps(question(header=[["a", "b"]])).encode(),
    "a number in the header": json.dumps(question(header={"RAMPINTT": 5.76})).encode(),
    "a header in the header": json.dumps(question(header={"a": {"b": "c"}})).encode(),
    "something else": json.dumps(question(path="/etc/passwd")).encode(),
}


@pytest.mark.parametrize("case", BAD_QUESTIONS)
async def test_what_is_no_question_is_refused(client: httpx.AsyncClient, case: str) -> None:
    is_problem(await client.post("/references/best", content=BAD_QUESTIONS[case]), 422, "Fatal", "no question")


async def in_pieces(size: int) -> AsyncIterator[bytes]:
    """A body whose size is not announced."""
    for _ in range(size // 4096):
        yield b" " * 4096


@pytest.mark.parametrize("announced", [True, False])
async def test_a_question_that_is_too_large_is_refused_and_the_next_one_answered(
    served: httpx.AsyncClient, announced: bool
) -> None:
    size = MAX_QUESTION_BYTES + 4096
    body = b" " * size if announced else in_pieces(size)
    is_problem(await served.post("/references/best", content=body), 413, "Fatal", str(MAX_QUESTION_BYTES))
    assert (await served.post("/references/best", json=question())).status_code == 200


async def test_a_question_may_have_the_largest_size(client: httpx.AsyncClient) -> None:
    body = json.dumps(question()).encode()
    assert (await client.post("/references/best", content=body.ljust(MAX_QUESTION_BYTES))).status_code == 200
    assert (await client.post("/references/best", content=body.ljust(MAX_QUESTION_BYTES + 1))).status_code == 413


async def test_what_is_nowhere_and_what_cannot_be_done(client: httpx.AsyncClient) -> None:
    is_problem(await client.get("/nothing"), 404, "NotFound")
    is_problem(await client.get("/references/best"), 405, "MethodNotAllowed")
    is_problem(await client.delete(f"/references/files/{GAIN}"), 405, "MethodNotAllowed")


async def test_a_damaged_cache_is_a_conflict_and_a_mistake_of_ours_an_internal_error(
    client: httpx.AsyncClient, cache: Cache
) -> None:
    manifest = cache.manifest.read_text()
    cache.manifest.write_text("no JSON")
    is_problem(await client.get(f"/references/files/{GAIN}"), 409, "Fatal", "damaged")
    cache.manifest.write_text(manifest)
    cache.server_config.unlink()
    is_problem(await client.get("/references/context"), 409, "Fatal", "holds no context")
    cache.server_config.mkdir()
    answer = await client.get("/references/context")
    is_problem(answer, 500, "IsADirectoryError")
    assert str(cache.root) not in answer.text


async def test_it_answers_while_a_cold_context_is_loaded(
    served: httpx.AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    new = build_context(cache.root, [write_reference(tmp_path / "better.fits", "gain", DESCRIP="better")])
    assert (await served.post("/references/best", json=question())).status_code == 200
    cold = question(context=new)
    with CRDS_LOCK:  # as a large context holds it while it is loaded
        waiting = [asyncio.create_task(served.post("/references/best", json=cold)) for _ in range(20)]
        await asyncio.sleep(0)
        async with asyncio.timeout(SOON_S):
            assert (await served.post("/references/best", json=question())).status_code == 200
            assert (await served.get("/references/context")).json() == {"context": new}
            assert (await served.get(f"/references/files/{GAIN}")).status_code == 200
        assert not any(task.done() for task in waiting)
    for answer in await asyncio.gather(*waiting):
        assert "tmt_iris_gain_0002.fits" in {found["name"] for found in answer.json()}


async def test_it_describes_itself(client: httpx.AsyncClient) -> None:
    description = (await client.get("/references/openapi.json")).json()
    assert set(description["paths"]) == {"/references/context", "/references/best", "/references/files/{name}"}
    body = description["paths"]["/references/best"]["post"]["requestBody"]["content"]["application/json"]
    assert set(body["schema"]["properties"]) == {"context", "types", "header"}


async def test_the_service_answers_from_the_cache_of_its_host(cache: Cache, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as threads:
        store = DirectoryStore(tmp_path / "store")
        service = compose(Platform(store, open_references(tmp_path / "other"), cache.root.parent, tmp_path, threads))
    assert (service.name, set(service.handlers)) == ("crds_proxy", {CRDS, CRDS_PRELOAD})
    assert service.web is not None
    async with httpx.AsyncClient(transport=httpx.ASGITransport(service.web), base_url="http://crds") as client:
        assert (await client.get("/references/context")).json() == {"context": "tmt_0001.pmap"}
    await service.close()
