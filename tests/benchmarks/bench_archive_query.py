"""How fast the archive takes rows, one commit each, and how fast it answers over 100,000 rows.

Run by hand: ``python tests/benchmarks/bench_archive_query.py``; as a test it takes few rows, so that it cannot rot.
"""

import functools
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.coordinates import Latitude, Longitude
from cdshealpix.nested import lonlat_to_healpix
from sqlalchemy import insert, select

from irisdrs.archive.catalogue.arrival import Arrival, Description
from irisdrs.archive.catalogue.engine import FILE_NAME, Catalogue, open_catalogue, sqlite_url
from irisdrs.archive.catalogue.ingest import record
from irisdrs.archive.catalogue.query import find
from irisdrs.archive.catalogue.selection import Cone, ProductFilter
from irisdrs.archive.catalogue.tables import Artifact, Header, Product, Table
from irisdrs.archive.footprint import HEALPIX_ORDER, Circle
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ExposureId, ExposureType, ProductId
from irisdrs.shared.store.port import ObjectRef

NIGHT = datetime(2034, 8, 1, 5, tzinfo=UTC)
EXPOSURES = 100
RADIUS_DEG = 11.6 / 3600  # half the diagonal of a 4096 x 4096 detector at 4 mas


def arrivals(count: int) -> Iterator[Arrival]:
    """Reduced frames of many observations, all over the sky."""
    random = np.random.default_rng(1)
    ra, dec = random.uniform(0, 360, count), np.degrees(np.arcsin(random.uniform(-1, 1, count)))
    cards = {f"KEY{i}": i * 1.5 for i in range(60)}
    for i in range(count):
        program, number = divmod(i // len(IMAGER_DETECTORS), EXPOSURES)
        exposure = ExposureId(f"2034B-007-{program:03d}", IMAGER_DETECTORS[i % 4], ExposureType.SCI, number)
        digest = hashlib.sha256(str(i).encode()).hexdigest()
        yield Arrival(
            object=ObjectRef(key=f"2/{i}.fits", sha256=digest, size=201_000_000),
            product_id=str(ProductId(exposure, 2, "image")),
            version=digest,
            level=2,
            kind="image",
            exposure=exposure,
            night=date(2034, 8, 1),
            photons_end=NIGHT + timedelta(seconds=30 * i),
            reads_used=8,
            reads_expected=8,
            description=Description(({"cards": cards},), "IMG", "Ks", Circle(float(ra[i]), float(dec[i]), RADIUS_DEG)),
        )


def fill(catalogue: Catalogue, count: int) -> None:
    """Insert what the ingest would record, many rows at once: only the queries are measured over them."""
    rows = list(arrivals(count))
    circles = [row.description.circle or Circle(0, 0, 0) for row in rows]
    ra, dec = np.array([(c.ra_deg, c.dec_deg) for c in circles]).T
    cells = lonlat_to_healpix(Longitude(ra, u.deg), Latitude(dec, u.deg), HEALPIX_ORDER).tolist()
    with catalogue.write() as session:
        session.execute(insert(Artifact), [_artifact(i, row) for i, row in enumerate(rows, 1)])
        session.execute(
            insert(Product),
            [_product(i, *row) for i, row in enumerate(zip(rows, circles, cells, strict=True), 1)],
        )
        session.execute(
            insert(Header), [{"artifact_id": i, "hdus": list(row.description.hdus)} for i, row in enumerate(rows, 1)]
        )


def _artifact(number: int, row: Arrival) -> dict[str, object]:
    facts = {"role": "science", "status": "verified", "last_verified_at": NIGHT}
    return facts | row.object.model_dump() | {"id": number}


def _product(number: int, row: Arrival, circle: Circle, cell: int) -> dict[str, object]:
    names = ("product_id", "version", "level", "kind", "night", "photons_end", "reads_used", "reads_expected")
    exposure, (x, y, z), (sine, cosine) = row.exposure, circle.unit, circle.half_radius
    return {name: getattr(row, name) for name in names} | {
        "id": number, "artifact_id": number, "observation": exposure.observation, "program": exposure.program,
        "exposure_type": exposure.type, "exposure": exposure.number, "detector": exposure.detector, "quality": {},
        "mode": row.description.mode, "filter": row.description.filter,
        "ra_deg": circle.ra_deg, "dec_deg": circle.dec_deg, "radius_deg": circle.radius_deg, "healpix": cell,
        "unit_x": x, "unit_y": y, "unit_z": z, "radius_sin": sine, "radius_cos": cosine,
        "conflicted": False, "current": True,
    }  # fmt: skip


def single_commits(catalogue: Catalogue, count: int) -> float:
    """Rows per second, one transaction each."""
    rows = list(arrivals(count))
    start = time.perf_counter()
    for arrival in rows:
        with catalogue.write() as session:
            record(session, arrival, NIGHT)
    return count / (time.perf_counter() - start)


def questions() -> dict[str, ProductFilter]:
    """One of each kind."""
    return {
        "cone 0.1 deg": ProductFilter(cone=Cone(ra_deg=120, dec_deg=-30, radius_deg=0.1)),
        "cone 5 deg": ProductFilter(cone=Cone(ra_deg=120, dec_deg=-30, radius_deg=5)),
        "observation": ProductFilter(observation="2034B-007-001"),
        "observation, exposure, detector": ProductFilter(observation="2034B-007-001", exposure=7, detector="IMG2"),
        "one hour": ProductFilter(since=NIGHT + timedelta(hours=1), until=NIGHT + timedelta(hours=2)),
        "everything, first page": ProductFilter(),
    }


def median_ms(ask: Callable[[], object], repeats: int = 7) -> float:
    """Median time of a call, milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        ask()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def measure(folder: Path, rows: int, singles: int) -> dict[str, float]:
    """Measure everything in a folder."""
    one = open_catalogue(sqlite_url(folder / "single.sqlite"))
    result = {"rows/s, single commits": single_commits(one, singles)}
    one.close()
    catalogue = open_catalogue(sqlite_url(folder / FILE_NAME))
    fill(catalogue, rows)
    with catalogue.read() as session:
        for name, wanted in questions().items():
            found = find(session, wanted, limit=100)
            result[f"{name} ({found.total} rows), ms"] = median_ms(functools.partial(find, session, wanted, limit=100))
    catalogue.close()
    return result


def test_rows_inserted_at_once_are_those_that_the_ingest_records(tmp_path: Path) -> None:
    contents = []
    for name, put in (("ingest", single_commits), ("insert", fill)):
        catalogue = open_catalogue(sqlite_url(tmp_path / name))
        put(catalogue, 20)
        with catalogue.read() as session:
            tables = Table.metadata.sorted_tables
            contents.append({table.name: session.execute(select(table)).mappings().all() for table in tables})
        catalogue.close()
    assert contents[0] == contents[1]


def test_archive_benchmark_runs(tmp_path: Path) -> None:
    result = measure(tmp_path, rows=400, singles=20)
    assert len(result) == 1 + len(questions())
    assert min(result.values()) > 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        for label, value in measure(Path(name), rows=100_000, singles=500).items():
            sys.stdout.write(f"{label:50s} {value:10.2f}\n")
