"""Events of real objects in a real store."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import func, select

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.query import version_of
from irisdrs.archive.catalogue.tables import Artifact, Exposure, Header, Observation, Product
from irisdrs.archive.handlers import Ingest
from irisdrs.shared.crash_points import Crash, arm, disarm
from irisdrs.shared.errors import BadMessage, CorruptObject
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    ObservationEnded,
    ObservationStarted,
    ProductStored,
    ReadWritten,
)
from irisdrs.shared.identifiers import Detector, ExposureType, SamplingMode
from irisdrs.shared.observation import ObservationPlan, PlannedExposure, Sampling
from irisdrs.shared.store.directory import DirectoryStore

if TYPE_CHECKING:
    from tests.archive.conftest import States, StoredRead

SAMPLING = Sampling(mode=SamplingMode.UTR, reads=4, ramps=1, read_time_s=0.72, shape=(8, 64))
PLAN = ObservationPlan(
    observation="2034B-007-123", night="2034-08-01", mode="IMG", filter="Ks", scale_arcsec=0.004,
    detectors=("IMG1", "IMG2"), ra_deg=10.0, dec_deg=20.0, position_angle_deg=0.0, sampling=SAMPLING,
    exposures=(PlannedExposure(number=34, type=ExposureType.SCI, offset_arcsec=(0.0, 0.0)),),
    crds_context="tmt_0001.pmap",
)  # fmt: skip


def _rows(catalogue: Catalogue) -> list[int | None]:
    with catalogue.read() as session:
        return [session.scalar(select(func.count()).select_from(table)) for table in (Artifact, Product, Header)]


def _frame(read: ReadWritten, **changes: object) -> FrameReady:
    """A frame event that announces a read's object as a raw frame: the archive looks at headers, not at pixels."""
    fields = {
        "observation": read.observation, "exposure_type": read.exposure_type, "exposure": read.exposure,
        "detector": read.detector, "night": read.night, "photons_end": read.photons_end,
        "product_id": f"{read.exposure_id}-L1-raw", "object": read.object, "sampling_mode": SamplingMode.UTR,
        "reads_used": 4, "reads_expected": 4, "saturated_fraction": 0.25, "crds_context": "tmt_0001.pmap",
        "software_version": "0.1.0+abc", "inputs_hash": "1" * 64, "job_hash": "2" * 64,
    }  # fmt: skip
    return FrameReady(**(fields | changes))


async def test_a_read_is_verified_described_and_announced(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    event = await stored_read(read=3)
    (stored,) = await ingest.on_read_written(event)
    assert isinstance(stored, ProductStored)
    assert stored.product_id == "2034B-007-123-IRIS-IMG1-SCI0-0034-L0-0001-00003"
    assert stored.object == event.object
    with catalogue.read() as session:
        row = version_of(session, stored.product_id)
        assert row is not None
        assert (row.id, row.filter, row.mode, row.level, row.kind) == (stored.catalogue_id, "Ks", "IMG", 0, "read")
        assert row.sampling_mode == "UTR"
        assert row.ra_deg is not None
        assert row.dec_deg is not None
        assert row.radius_deg is not None
        # IMG1 is the lower left detector: South and, as +x is West, East of the axis.
        assert 10.0 < row.ra_deg < 10.01
        assert 19.99 < row.dec_deg < 20.0
        assert row.radius_deg * 3600 == pytest.approx(0.004 * (8**2 + 64**2) ** 0.5 / 2)
        hdus = session.get_one(Header, row.artifact_id).hdus
    cards, data_offset = hdus[0]["cards"], hdus[1]["data_offset"]
    assert isinstance(cards, dict)
    assert cards["READ_NO"] == 3
    assert isinstance(data_offset, int)
    assert data_offset % 2880 == 0


async def test_the_same_event_again_gives_the_same_answer(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    event = await stored_read()
    assert await ingest.on_read_written(event) == await ingest.on_read_written(event)
    assert _rows(catalogue) == [1, 1, 1]


async def test_a_second_content_of_a_read_is_kept_and_flagged(
    ingest: Ingest, states: "States", catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    one, other = await stored_read(level=1000), await stored_read(level=1001)
    for event in (one, other):
        assert len(await ingest.on_read_written(event)) == 1
    assert set(states(catalogue).values()) == {"conflict"}


async def test_a_damaged_object_leaves_no_row(
    ingest: Ingest, catalogue: Catalogue, tmp_path: Path, stored_read: "StoredRead"
) -> None:
    event = await stored_read()
    path = tmp_path / "store" / event.object.key
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptObject, match="SHA-256"):
        await ingest.on_read_written(event)
    path.write_bytes(data[:-100])
    with pytest.raises(CorruptObject, match="bytes"):
        await ingest.on_read_written(event)
    path.unlink()
    with pytest.raises(CorruptObject, match="not in the store"):
        await ingest.on_read_written(event)
    assert _rows(catalogue) == [0, 0, 0]


async def test_an_object_that_is_no_fits_file_leaves_no_row(
    ingest: Ingest, catalogue: Catalogue, store: DirectoryStore, stored_read: "StoredRead"
) -> None:
    event = await stored_read()
    stored = await store.put("0/2034/08/01/nonsense.fits", b"SIMPLE  = nonsense" * 400)
    with pytest.raises(CorruptObject):
        await ingest.on_read_written(event.model_copy(update={"object": stored.stored.ref}))
    assert _rows(catalogue) == [0, 0, 0]


async def test_an_object_of_another_exposure_leaves_no_row(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    event = await stored_read(exposure=34)
    other = await stored_read(exposure=35)
    with pytest.raises(CorruptObject, match="EXP_NO = 35"):
        await ingest.on_read_written(event.model_copy(update={"object": other.object}))
    assert _rows(catalogue) == [0, 0, 0]


async def test_a_frame_is_catalogued_with_its_figures(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    frame = _frame(await stored_read())
    (stored,) = await ingest.on_frame_ready(frame)
    assert isinstance(stored, ProductStored)
    with catalogue.read() as session:
        row = version_of(session, stored.product_id, "22")
        assert row is not None
        assert (row.level, row.kind, row.reads_used, row.crds_context) == (1, "raw", 4, "tmt_0001.pmap")
        assert row.quality == {"saturated_fraction": 0.25}
        assert row.photons_end == frame.photons_end
        assert row.photons_end.utcoffset() == timedelta(0)


@pytest.mark.parametrize("product_id", ["nonsense", "2034B-007-123-IRIS-IMG2-SCI0-0034-L1-raw", "L2"])
async def test_a_product_id_that_does_not_fit_its_event_is_refused(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead", product_id: str
) -> None:
    read = await stored_read()
    wrong = f"{read.exposure_id}-L2-image" if product_id == "L2" else product_id
    with pytest.raises(BadMessage):
        await ingest.on_frame_ready(_frame(read, product_id=wrong))
    assert _rows(catalogue) == [0, 0, 0]


async def test_a_crash_before_the_commit_leaves_nothing_and_after_it_all(
    ingest: Ingest, catalogue: Catalogue, stored_read: "StoredRead"
) -> None:
    event = await stored_read()
    try:
        for point, rows in (("archive.commit.before", [0, 0, 0]), ("archive.commit.after", [1, 1, 1])):
            arm(point)
            with pytest.raises(Crash):
                await ingest.on_read_written(event)
            assert _rows(catalogue) == rows
    finally:
        disarm()
    (stored,) = await ingest.on_read_written(event)
    assert _rows(catalogue) == [1, 1, 1]
    assert isinstance(stored, ProductStored)
    assert stored.catalogue_id == 1


async def test_observations_and_exposures_are_noted_in_any_order(ingest: Ingest, catalogue: Catalogue) -> None:
    facts = {"observation": "2034B-007-123", "exposure_type": "SCI", "exposure": 34, "night": "2034-08-01"}
    due = "2034-08-01T05:01:00Z"
    await ingest.on_exposure_ended(ExposureEnded(**facts, detector="IMG1", sampling=SAMPLING))
    await ingest.on_observation_ended(ObservationEnded(plan=PLAN))
    await ingest.on_exposure_started(
        ExposureStarted(**facts, detector="IMG1", sampling=SAMPLING, due_at=due, crds_context="tmt_0001.pmap")
    )
    await ingest.on_exposure_aborted(ExposureAborted(**facts, detector="IMG2", reason="shutter"))
    await ingest.on_observation_started(ObservationStarted(plan=PLAN))
    with catalogue.read() as session:
        assert session.get_one(Observation, "2034B-007-123").state == "ended"
        assert {e.detector: e.state for e in session.scalars(select(Exposure))} == {
            Detector.IMG1: "ended",
            Detector.IMG2: "aborted",
        }
