"""Where the time went between the last photon and the catalogue."""

import sqlite3
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest
from sqlalchemy import select

from irisdrs.archive.api.application import application
from irisdrs.archive.catalogue.arrival import Arrival
from irisdrs.archive.catalogue.engine import FILE_NAME, Catalogue, open_catalogue, sqlite_url
from irisdrs.archive.catalogue.ingest import record
from irisdrs.archive.catalogue.latencies import Latency, latencies
from irisdrs.archive.catalogue.tables import Product
from irisdrs.archive.handlers import Ingest
from irisdrs.shared.events import decode, encode
from irisdrs.shared.events.envelope import CAUSE, Cause
from irisdrs.shared.events.spent import parse
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.store.directory import DirectoryStore

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, StoredRead


def told(arrival: Arrival, after_s: float, spent: str = "") -> Arrival:
    """An arrival that was announced some seconds after its last photon."""
    return replace(arrival, announced_at=arrival.photons_end + timedelta(seconds=after_s), spent=spent)


def keep(catalogue: Catalogue, arrival: Arrival, after_s: float) -> None:
    """Record an arrival some seconds after its last photon."""
    with catalogue.write() as session:
        record(session, arrival, arrival.photons_end + timedelta(seconds=after_s))


@pytest.fixture
def night(catalogue: Catalogue, build: "Builder") -> Catalogue:
    """Three exposures: one in time, one over budget, one whose clock was ahead; and one that is not reduced yet."""
    for number, raw_s, image_s in ((1, 2.5, 8.0), (2, 20.0, 45.0), (3, -120.0, -118.0)):
        raw = build.raw(4, exposure=build.exposure(number))
        image = build.image(4, [raw])
        shift = timedelta(minutes=number)
        raw, image = (replace(one, photons_end=one.photons_end + shift) for one in (raw, image))
        keep(catalogue, told(raw, raw_s, "readout:1.000"), raw_s + 1)
        keep(catalogue, told(image, image_s, "readout:1.000,calibrate:4.000,archive:0.500"), image_s + 1)
    pending = build.raw(4, exposure=build.exposure(4, Detector.IMG2))
    keep(catalogue, told(replace(pending, photons_end=pending.photons_end + timedelta(minutes=4)), 3.0), 4.0)
    return catalogue


def test_the_newest_exposures_come_first_with_what_each_service_used(night: Catalogue) -> None:
    with night.read() as session:
        pending, skewed, late, good = latencies(session)
    assert (good.exposure, good.raw_s, good.reduced_s, good.stored_s) == (1, 2.5, 8.0, 9.0)
    assert good.spent_s == {"readout": 1.0, "calibrate": 4.0, "archive": 0.5}
    assert (good.waiting_s, good.budget_fraction, good.clock_skew) == (3.5, round(8 / 30, 4), False)
    assert (late.exposure, late.budget_fraction) == (2, 1.5)
    assert (skewed.clock_skew, skewed.budget_fraction, skewed.waiting_s, skewed.reduced_s) == (True, None, None, -118.0)
    assert (pending.detector, pending.reduced_s, pending.budget_fraction, pending.stored_s) == ("IMG2", None, None, 4.0)


async def test_the_archive_is_asked_for_them(night: Catalogue, store: DirectoryStore) -> None:
    transport = httpx.ASGITransport(application(night, store))
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        rows = (await client.get("/api/latencies", params={"limit": 2})).json()
        assert [row["exposure"] for row in rows] == [4, 3]
        assert (await client.get("/api/latencies", params={"observation": "2034B-007-999"})).json() == []
        assert (await client.get("/api/latencies", params={"limit": 0})).status_code == 422


def test_rows_of_before_times_were_kept_have_none(catalogue: Catalogue, build: "Builder") -> None:
    raw = build.raw(4)
    keep(catalogue, raw, 1.0)
    with catalogue.write() as session:
        session.scalars(select(Product)).one().stored_at = None
    with catalogue.read() as session:
        (row,) = latencies(session)
    assert (row.raw_s, row.reduced_s, row.stored_s, row.waiting_s, row.spent_s) == (None, None, None, None, {})


async def test_a_share_that_cannot_be_is_left_out(
    catalogue: Catalogue, build: "Builder", store: DirectoryStore
) -> None:
    keep(catalogue, told(build.raw(4), 2.0, f"readout:{'9' * 380}.000,archive:0.500"), 3.0)
    transport = httpx.ASGITransport(application(catalogue, store))
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        (row,) = (await client.get("/api/latencies")).json()
    assert Latency.model_validate(row).spent_s == {"archive": 0.5}
    assert row["waiting_s"] == 2.5


async def test_the_first_telling_is_kept(ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead") -> None:
    event = await stored_read()
    kept, told_at = [], []
    for spent in ("edge:1.000", "edge:2.000"):
        envelope, _ = decode(encode(event, "edge", spent=spent))
        token = CAUSE.set(Cause(envelope, time.monotonic() - 3.0))
        await ingest.on_read_written(event)
        CAUSE.reset(token)
        with catalogue.read() as session:
            row = session.scalars(select(Product)).one()
            kept.append((row.announced_at, row.stored_at, row.spent))
        told_at.append(envelope.time)
    assert kept[0] == kept[1]
    assert kept[0][0] == told_at[0] < told_at[1]
    shares = parse(str(kept[0][2]))
    assert shares["edge"] == 1.0
    assert shares["archive"] >= 3.0


def test_a_catalogue_of_the_first_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    url = sqlite_url(tmp_path / FILE_NAME)
    open_catalogue(url).close()
    with sqlite3.connect(tmp_path / FILE_NAME) as connection:
        for column in ("announced_at", "stored_at", "spent", "sampling_mode"):
            connection.execute(f"ALTER TABLE product DROP COLUMN {column}")
        connection.execute("UPDATE alembic_version SET version_num = '0001'")
    connection.close()
    catalogue = open_catalogue(url)
    with catalogue.read() as session:
        assert latencies(session) == []
    catalogue.close()
