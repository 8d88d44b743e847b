"""REST, through the application itself."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
import structlog
from sqlalchemy import select

from irisdrs.archive.api.application import application
from irisdrs.archive.api.ranges import UnsatisfiableRange, byte_range
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.observations import State, record_plan
from irisdrs.archive.catalogue.tables import Artifact
from irisdrs.archive.handlers import Ingest
from irisdrs.shared.events.facts import ProductStored, ReadWritten
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.directory import DirectoryStore

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Put, StoredRead


@pytest.fixture
async def client(catalogue: Catalogue, store: DirectoryStore) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application(catalogue, store), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        yield client


@pytest.fixture
async def read(ingest: Ingest, stored_read: "StoredRead") -> tuple[ReadWritten, str]:
    """A read that is in the store and in the catalogue: its event and its product id."""
    event = await stored_read()
    (stored,) = await ingest.on_read_written(event)
    assert isinstance(stored, ProductStored)
    return event, stored.product_id


def _is_problem(response: httpx.Response, status: int, *words: str) -> None:
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["remedy"]
    for word in words:
        assert word in body["detail"]


async def test_filters_and_pages(client: httpx.AsyncClient, catalogue: Catalogue, put: "Put", build: "Builder") -> None:
    put(catalogue, *(build.at(n, None, minutes=n) for n in range(5)), build.read(1))
    first = (await client.get("/api/products", params={"level": 2, "limit": 3})).json()
    assert (first["total"], len(first["products"])) == (5, 3)
    parameters = {"level": 2, "limit": 3, "cursor": first["next_cursor"]}
    second = (await client.get("/api/products", params=parameters)).json()
    assert second["next_cursor"] is None
    assert [row["exposure"] for row in first["products"] + second["products"]] == [0, 1, 2, 3, 4]
    chosen = {"observation": "2034B-007-123", "exposure": "34", "detector": "IMG1", "type": "SCI", "kind": "read"}
    assert (await client.get("/api/products", params=chosen)).json()["total"] == 1
    later = (await client.get("/api/products", params={"since": "2034-08-01T05:03:00"})).json()
    assert [row["exposure"] for row in later["products"]] == [3, 4]


async def test_cone(client: httpx.AsyncClient, read: tuple[ReadWritten, str]) -> None:
    near = (await client.get("/api/products", params={"cone": "10.0,20.0,0.01"})).json()
    far = (await client.get("/api/products", params={"cone": "11.0,20.0,0.01"})).json()
    assert (near["total"], far["total"]) == (1, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"cone": "1,2"}, {"cone": "1,100,1"}, {"level": "7"}, {"detector": "IMG9"}, {"since": "yesterday"},
        {"observation": "x"}, {"limit": "0"}, {"limit": "1001"}, {"cursor": "nonsense"}, {"kind": "../.."},
    ],
)  # fmt: skip
async def test_wrong_parameters_are_problems(client: httpx.AsyncClient, wrong: dict[str, str]) -> None:
    _is_problem(await client.get("/api/products", params=wrong), 422)


async def test_one_product_its_versions_and_its_header(
    client: httpx.AsyncClient, catalogue: Catalogue, put: "Put", build: "Builder", read: tuple[ReadWritten, str]
) -> None:
    few, many = build.raw(3), build.raw(4, "v2")
    put(catalogue, few, many)
    url = f"/api/products/{many.product_id}"
    assert (await client.get(url)).json()["version"] == many.version
    older = (await client.get(url, params={"version": few.version[:8]})).json()
    assert (older["version"], older["current"]) == (few.version, False)
    hdus = (await client.get(f"/api/products/{read[1]}/header")).json()
    assert hdus[0]["cards"]["OBS_ID"] == "2034B-007-123"


@pytest.mark.parametrize(
    "name", ["nothing", "2034B-007-123-IRIS-IMG1-SCI0-0099-L1-raw", "..%2F..%2Fetc%2Fpasswd", "%00"]
)
@pytest.mark.parametrize("what", ["", "/header", "/file"])
async def test_unknown_products_are_404(
    client: httpx.AsyncClient, read: tuple[ReadWritten, str], name: str, what: str
) -> None:
    _is_problem(await client.get(f"/api/products/{name}{what}"), 404)


async def test_unknown_version_is_404_and_an_ambiguous_one_409(
    client: httpx.AsyncClient, catalogue: Catalogue, put: "Put", build: "Builder"
) -> None:
    few, many = build.raw(3), build.raw(4, "v2")
    put(catalogue, few, many)
    url = f"/api/products/{few.product_id}"
    _is_problem(await client.get(url, params={"version": "0" * 64}), 404, "has no version")
    _is_problem(await client.get(url, params={"version": "%"}), 422)
    first = {version.version[0] for version in (few, many)}
    assert len(first) == 2  # the two job hashes of this test begin with different digits


async def test_a_read_in_conflict_is_handed_out_by_version_only(
    client: httpx.AsyncClient, ingest: Ingest, stored_read: "StoredRead"
) -> None:
    for level in (1000, 1001):
        event = await stored_read(level=level)
        (stored,) = await ingest.on_read_written(event)
    assert isinstance(stored, ProductStored)
    url = f"/api/products/{stored.product_id}/file"
    _is_problem(await client.get(url), 404, "no current version")
    answer = await client.get(url, params={"version": event.object.sha256[:12]})
    assert hashlib.sha256(answer.content).hexdigest() == event.object.sha256


async def test_download_is_verified_and_named(client: httpx.AsyncClient, read: tuple[ReadWritten, str]) -> None:
    event, product_id = read
    answer = await client.get(f"/api/products/{product_id}/file")
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == event.object.sha256
    assert answer.headers["etag"] == f'"{event.object.sha256}"'
    assert answer.headers["content-length"] == str(event.object.size)
    assert answer.headers["content-type"] == "application/fits"
    assert answer.headers["content-disposition"].startswith(f'attachment; filename="{product_id}-')
    again = await client.get(f"/api/products/{product_id}/file", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


async def test_part_of_a_file(client: httpx.AsyncClient, read: tuple[ReadWritten, str]) -> None:
    event, product_id = read
    url = f"/api/products/{product_id}/file"
    whole = (await client.get(url)).content
    part = await client.get(url, headers={"Range": "bytes=80-159"})
    assert (part.status_code, part.content) == (206, whole[80:160])
    assert part.headers["content-range"] == f"bytes 80-159/{len(whole)}"
    assert (await client.get(url, headers={"Range": "bytes=-10"})).content == whole[-10:]
    changed = await client.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, whole)
    _is_problem(await client.get(url, headers={"Range": f"bytes={event.object.size}-"}), 416)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None), ("bytes=0-0", (0, 1)), ("bytes=5-", (5, 10)), ("bytes=-3", (7, 10)), ("bytes=-99", (0, 10)),
        ("bytes=0-99", (0, 10)), ("bytes=3-1", None), ("bytes=0-1,4-5", None), ("lines=1-2", None), ("bytes=-", None),
    ],
)  # fmt: skip
def test_byte_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert byte_range(header, 10) == expected


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=-0", "bytes=99-100"])
def test_unsatisfiable_ranges(header: str) -> None:
    with pytest.raises(UnsatisfiableRange):
        byte_range(header, 10)


async def test_a_damaged_object_is_refused_flagged_and_logged(
    client: httpx.AsyncClient, catalogue: Catalogue, tmp_path: Path, read: tuple[ReadWritten, str]
) -> None:
    event, product_id = read
    path = tmp_path / "store" / event.object.key
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with structlog.testing.capture_logs() as logs:
        answer = await client.get(f"/api/products/{product_id}/file")
    _is_problem(answer, 502, product_id, "not what was verified")
    assert any(line["event"] == "damaged object refused" and line["key"] == event.object.key for line in logs)
    with catalogue.read() as session:
        assert session.scalars(select(Artifact.status)).all() == ["damaged"]
    assert (await client.get(f"/api/products/{product_id}")).json()["status"] == "damaged"


async def test_observations(
    client: httpx.AsyncClient, catalogue: Catalogue, put: "Put", build: "Builder", read: tuple[ReadWritten, str]
) -> None:
    plan = ObservationPlan.model_validate(
        {
            "observation": "2034B-007-123", "night": "2034-08-01", "mode": "IMG", "filter": "Ks", "scale_arcsec": 0.004,
            "detectors": ["IMG1"], "ra_deg": 10.0, "dec_deg": 20.0, "position_angle_deg": 0.0,
            "sampling": {"mode": "UTR", "reads": 4, "ramps": 1, "read_time_s": 0.72, "shape": (8, 64)},
            "exposures": [{"number": 34, "type": "SCI", "offset_arcsec": (0, 0)}], "crds_context": "tmt_0001.pmap",
        }
    )  # fmt: skip
    with catalogue.write() as session:
        record_plan(session, plan, State.STARTED)
    (one,) = (await client.get("/api/observations")).json()
    assert (one["observation"], one["state"]) == ("2034B-007-123", "started")
    detail = (await client.get("/api/observations/2034B-007-123")).json()
    assert detail["exposures"] == [{"exposure": 34, "exposure_type": "SCI", "detector": "IMG1", "state": "planned"}]
    assert detail["current_products"] == {"0": 1}
    assert detail["plan"]["crds_context"] == "tmt_0001.pmap"
    _is_problem(await client.get("/api/observations/2034B-007-999"), 404)


async def test_page_docs_and_health(
    client: httpx.AsyncClient, catalogue: Catalogue, put: "Put", build: "Builder"
) -> None:
    assert "Nothing yet" in (await client.get("/")).text
    put(catalogue, build.raw(4))
    page = (await client.get("/")).text
    assert build.raw(4).product_id in page
    assert "http://" not in page
    assert "https://" not in page
    assert (await client.get("/api/health/live")).json() == {"status": "live"}
    assert (await client.get("/api/health/ready")).json() == {"status": "ready"}
    assert "/api/products/{product_id}/file" in (await client.get("/api/docs")).text
    _is_problem(await client.get("/api/nothing"), 404)
    _is_problem(await client.post("/api/products"), 405)


async def test_not_ready_without_a_catalogue(client: httpx.AsyncClient, catalogue: Catalogue) -> None:
    with catalogue.write() as session:
        session.connection().exec_driver_sql("DROP TABLE provenance")
        session.connection().exec_driver_sql("DROP TABLE product")
    _is_problem(await client.get("/api/health/ready"), 503, "does not answer")
    assert (await client.get("/api/health/live")).status_code == 200
