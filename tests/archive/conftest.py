"""Small observations, and catalogues to put them into."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from sqlalchemy import select

from irisdrs.archive.catalogue.arrival import Arrival, Description, Input
from irisdrs.archive.catalogue.engine import FILE_NAME, Catalogue, open_catalogue, sqlite_url
from irisdrs.archive.catalogue.ingest import record
from irisdrs.archive.catalogue.tables import Artifact, Product, Provenance, Table
from irisdrs.archive.footprint import Circle
from irisdrs.archive.handlers import Ingest
from irisdrs.shared.data.fits import encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.events.facts import ReadWritten
from irisdrs.shared.identifiers import (
    Detector,
    ExposureId,
    ExposureType,
    ObservingMode,
    ProductId,
    ReadId,
    SamplingMode,
)
from irisdrs.shared.observation import Sampling
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.keys import product_key, read_key
from irisdrs.shared.store.port import ObjectRef

NIGHT = date(2034, 8, 1)
START = datetime(2034, 8, 1, 5, 0, tzinfo=UTC)
SHAPE = (8, 64)
SAMPLING = Sampling(mode=SamplingMode.UTR, reads=4, ramps=1, read_time_s=0.72, shape=SHAPE)
CARDS = {"FILTER": "Ks", "SAMPMODE": "UTR"}
VERIFIED = datetime(2034, 8, 2, tzinfo=UTC)

NewCatalogue = Callable[[], Catalogue]
Put = Callable[[Catalogue, *tuple[Arrival, ...]], list[int]]
Content = Callable[[Catalogue], dict[str, list[tuple[object, ...]]]]
States = Callable[[Catalogue], dict[tuple[str, str], str]]


class StoredRead(Protocol):
    """Puts a read into the store and gives the event that announces it."""

    async def __call__(
        self, read: int = 1, level: int = 1000, exposure: int = 34, detector: str = "IMG1"
    ) -> ReadWritten: ...


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Builder:
    """Builds arrivals of one observation."""

    observation: str = "2034B-007-123"

    def exposure(self, number: int = 34, detector: Detector = Detector.IMG1, kind: str = "SCI") -> ExposureId:
        return ExposureId(self.observation, detector, ExposureType(kind), number)

    def read(self, read: int, content: str = "", exposure: ExposureId | None = None) -> Arrival:
        exposure = exposure or self.exposure()
        read_id = ReadId(exposure, 1, read)
        digest = sha(f"{read_id}{content}")
        return self._arrival(
            exposure, str(read_id), read_key(NIGHT, exposure, 1, read, digest), digest, digest, 0, "read"
        )

    def raw(self, reads: int, version: str = "v1", exposure: ExposureId | None = None, expected: int = 4) -> Arrival:
        exposure = exposure or self.exposure()
        return self._product(ProductId(exposure, 1, "raw"), version, reads, expected, ())

    def image(
        self, reads: int, inputs: list[Arrival], version: str = "v1", circle: Circle | None = None, minutes: float = 0
    ) -> Arrival:
        product = ProductId(inputs[0].exposure, 2, "image")
        named = tuple(
            Input("science" if i == 0 else "sky", a.product_id, a.object.sha256) for i, a in enumerate(inputs)
        )
        return self._product(product, version, reads, 4, named, circle, minutes)

    def at(self, number: int, circle: Circle | None, minutes: float = 0) -> Arrival:
        """A reduced frame of its own exposure at a place on the sky."""
        exposure = self.exposure(number % 10000, list(Detector)[number // 10000])
        return self._product(ProductId(exposure, 2, "image"), "v1", 4, 4, (), circle, minutes)

    def _product(
        self,
        product: ProductId,
        version: str,
        reads: int,
        expected: int,
        inputs: tuple[Input, ...],
        circle: Circle | None = None,
        minutes: float = 0,
    ) -> Arrival:
        made_of, job = sha(f"{product}{version}inputs"), sha(f"{product}{version}job")
        key = product_key(NIGHT, product, made_of, job)
        return self._arrival(
            product.exposure, str(product), key, sha(key), job, product.level, product.kind, made_of, reads, expected,
            inputs, circle, minutes,
        )  # fmt: skip

    def _arrival(
        self,
        exposure: ExposureId,
        product_id: str,
        key: str,
        digest: str,
        version: str,
        level: int,
        kind: str,
        made_of: str | None = None,
        reads: int = 1,
        expected: int = 1,
        inputs: tuple[Input, ...] = (),
        circle: Circle | None = None,
        minutes: float = 0,
    ) -> Arrival:
        return Arrival(
            object=ObjectRef(key=key, sha256=digest, size=2880),
            product_id=product_id,
            version=version,
            level=level,
            kind=kind,
            exposure=exposure,
            night=NIGHT,
            photons_end=START + timedelta(minutes=minutes),
            reads_used=reads,
            reads_expected=expected,
            description=Description(({"extname": "", "cards": CARDS},), "IMG", "Ks", circle, "UTR"),
            inputs_hash=made_of,
            inputs=inputs,
        )


@pytest.fixture
def build() -> Builder:
    return Builder()


@pytest.fixture(scope="session")
def _empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("catalogue") / FILE_NAME
    open_catalogue(sqlite_url(path)).close()
    return path


@pytest.fixture
def new_catalogue(_empty: Path, tmp_path: Path) -> Iterator[NewCatalogue]:
    """Makes empty catalogues."""
    opened: list[Catalogue] = []

    def new() -> Catalogue:
        path = tmp_path / str(len(opened)) / FILE_NAME
        path.parent.mkdir()
        shutil.copy(_empty, path)
        opened.append(open_catalogue(sqlite_url(path)))
        return opened[-1]

    yield new
    for catalogue in opened:
        catalogue.close()


@pytest.fixture
def catalogue(new_catalogue: NewCatalogue) -> Catalogue:
    return new_catalogue()


@pytest.fixture
def put() -> Put:
    """Records arrivals, each in a transaction of its own."""

    def record_all(catalogue: Catalogue, *arrivals: Arrival) -> list[int]:
        rows = []
        for arrival in arrivals:
            with catalogue.write() as session:
                rows.append(record(session, arrival, VERIFIED))
        return rows

    return record_all


@pytest.fixture
def content() -> Content:
    """All that a catalogue says, without row numbers: what has to be the same in any order of events."""

    def of(catalogue: Catalogue) -> dict[str, list[tuple[object, ...]]]:
        found: dict[str, list[tuple[object, ...]]] = {}
        with catalogue.read() as session:
            names = {row.id: f"{row.product_id} {row.version}" for row in session.scalars(select(Product))}
            keys = {row.id: row.key for row in session.scalars(select(Artifact))}
            for table in Table.metadata.sorted_tables:
                columns = [c for c in table.columns if c.name not in ("id", "last_verified_at")]
                rows = []
                for row in session.execute(select(*columns)):
                    values = [
                        keys[v] if c.name == "artifact_id" else names[v] if c.name == "product_row" else v
                        for c, v in zip(columns, row, strict=True)
                    ]
                    rows.append(tuple(values))
                found[table.name] = sorted(rows, key=repr)
        assert Provenance.__tablename__ in found
        return found

    return of


@pytest.fixture
def states() -> States:
    """State of every version by product id and the beginning of its version."""

    def of(catalogue: Catalogue) -> dict[tuple[str, str], str]:
        with catalogue.read() as session:
            return {
                (p.product_id, p.version): "conflict" if p.conflicted else "current" if p.current else "superseded"
                for p in session.scalars(select(Product))
            }

    return of


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture
def ingest(catalogue: Catalogue, store: DirectoryStore) -> Iterator[Ingest]:
    with ThreadPoolExecutor(1) as writer, ThreadPoolExecutor(2) as threads:
        yield Ingest(store, catalogue, writer, threads)


@pytest.fixture
def stored_read(store: DirectoryStore) -> StoredRead:
    """Puts a read into the store and gives the event that announces it."""

    async def put_read(read: int = 1, level: int = 1000, exposure: int = 34, detector: str = "IMG1") -> ReadWritten:
        ended = START + timedelta(seconds=0.72 * read, minutes=exposure)
        header = ReadHeader(
            observation="2034B-007-123", detector=detector, exposure_type="SCI", exposure=exposure, night=NIGHT, ramp=1,
            read=read, reads=4, ramps=1, read_time_s=0.72 * read, read_interval_s=0.72, sampling_mode="UTR",
            ended_at=ended, mode=ObservingMode.IMG, filter="Ks", scale_arcsec=0.004, ra_deg=10.0, dec_deg=20.0,
            position_angle_deg=0.0, airmass=1.1, shape=SHAPE,
        )  # fmt: skip
        data = encode_read(np.full(SHAPE, level, np.uint16), header)
        key = read_key(NIGHT, header.exposure_id, 1, read, hashlib.sha256(data).hexdigest())
        stored = await store.put(key, data)
        return ReadWritten(
            observation=header.observation, exposure_type=header.exposure_type, exposure=exposure,
            detector=header.detector, night=NIGHT, photons_end=ended, ramp=1, read=read, read_time_s=0.72 * read,
            sampling=SAMPLING, object=stored.stored.ref,
        )  # fmt: skip

    return put_read
