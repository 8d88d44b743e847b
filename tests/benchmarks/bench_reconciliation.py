"""What reconciliation costs at a night of the instrument's maximum: 533,000 objects, as many rows.

Run by hand: ``python tests/benchmarks/bench_reconciliation.py``; as a test it takes a small night, so that it cannot
rot. The store is a list of keys in memory: what a real one takes to list is not in the figures.
"""

import asyncio
import bisect
import hashlib
import itertools
import json
import multiprocessing
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager, closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from irisdrs.archive.catalogue.engine import FILE_NAME, open_catalogue, sqlite_url
from irisdrs.archive.catalogue.tables import Artifact, Exposure, Header, Observation, Product, Provenance
from irisdrs.archive.reconciliation.ledger import Ledger
from irisdrs.archive.reconciliation.reconciler import Reconciler
from irisdrs.shared.events import Event, ReadWritten
from irisdrs.shared.events.metadata import to_metadata
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ExposureId, ProductId, ReadId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.service import none_held
from irisdrs.shared.store.keys import (
    fact_key,
    observation_ended_key,
    observation_key,
    product_key,
    ramp_prefix,
    read_key,
)
from irisdrs.shared.store.port import ObjectRef, Put, StoredObject
from irisdrs.shared.testing.small_observation import small_plan

NIGHT = date(2034, 8, 1)
TIME = datetime(2034, 8, 1, 5, tzinfo=UTC)
READS = 8
#: Reads, a raw and a reduced frame of one exposure of one detector.
OBJECTS = READS + 2
#: Observations of the night, and exposures of each: with four detectors 532,800 objects.
OBSERVATIONS, EXPOSURES = 40, 333
#: Header cards of an object: some 2 KB of JSON.
HDUS = [{"name": "SCI", "offset": 2880, "cards": {f"KEYWORD{i}": i * 1.2345 for i in range(80)}}]
GONE = 20


def plan_of(number: int, exposures: int) -> ObservationPlan:
    """The plan of one observation of the night."""
    plan = small_plan(exposures=exposures, reads=READS, detectors=IMAGER_DETECTORS)
    return plan.model_copy(update={"observation": f"2034B-007-{number:03d}", "night": NIGHT})


def objects(plan: ObservationPlan, exposure: ExposureId) -> Iterator[tuple[str, str, str, int]]:
    """Key, SHA-256, product id and level of all objects of an exposure that have rows."""
    for read in range(1, READS + 1):
        name = str(ReadId(exposure, 1, read))
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        yield read_key(plan.night, exposure, 1, read, sha256), sha256, name, 0
    for level, kind in ((1, "raw"), (2, "image")):
        product = ProductId(exposure, level, kind)
        sha256 = hashlib.sha256(str(product).encode()).hexdigest()
        yield product_key(plan.night, product, sha256, sha256), sha256, str(product), level


class ListedStore:
    """A store whose objects are only listed: a whole night, every exposure of it ended and reduced."""

    def __init__(self, plans: list[ObservationPlan]) -> None:
        self.plans = {plan.observation: plan for plan in plans}
        self.listed = 0
        self._keys = sorted(key for plan in plans for key in self._all(plan))

    async def keys(self, prefix: str) -> list[str]:
        """Keys under a prefix: new texts, as a real store gives."""
        first = bisect.bisect_left(self._keys, prefix)
        last = bisect.bisect_left(self._keys, prefix + "~", first)
        self.listed += last - first
        return [f"{prefix}{key[len(prefix) :]}" for key in self._keys[first:last]]

    def _all(self, plan: ObservationPlan) -> Iterator[str]:
        yield observation_key(plan.night, plan.observation)
        yield observation_ended_key(plan.night, plan.observation)
        for exposure in plan.exposure_ids():
            yield fact_key(plan.night, exposure, "started")
            yield fact_key(plan.night, exposure, "ended")
            yield from (key for key, *_ in objects(plan, exposure))

    async def head(self, key: str) -> StoredObject | None:
        """A plan, or a read with its announcement."""
        parts = key.split("/")
        if parts[0] == "observations":
            data = self._data(key)
            sha256 = hashlib.sha256(data).hexdigest()
            return StoredObject(ObjectRef(key=key, sha256=sha256, size=len(data)))
        plan = self.plans[parts[4]]
        exposure = next(one for one in plan.exposure_ids() if key.startswith(ramp_prefix(plan.night, one, 1)))
        read = int(parts[-1][:5])
        ref = ObjectRef(key=key, sha256=hashlib.sha256(str(ReadId(exposure, 1, read)).encode()).hexdigest(), size=1)
        event = ReadWritten(
            observation=plan.observation, exposure_type=exposure.type, exposure=exposure.number,
            detector=exposure.detector, night=plan.night, photons_end=TIME, ramp=1, read=read, read_time_s=1.0,
            sampling=plan.sampling, object=ref,
        )  # fmt: skip
        return StoredObject(ref, to_metadata(event.model_dump(mode="json")))

    async def get(self, ref: ObjectRef) -> bytes:
        """A plan."""
        return self._data(ref.key)

    def _data(self, key: str) -> bytes:
        return self.plans[key.rpartition("/")[2].removesuffix(".json")].model_dump_json().encode()

    async def put(
        self,
        key: str,
        data: bytes,
        *,
        media_type: str = "",
        metadata: Mapping[str, str] | None = None,
        contested: bool = False,
    ) -> Put:
        """Nothing is put here."""
        raise NotImplementedError

    async def put_file(
        self, key: str, path: Path, *, media_type: str = "", metadata: Mapping[str, str] | None = None
    ) -> Put:
        """Nothing is put here."""
        raise NotImplementedError

    def local(self, ref: ObjectRef) -> AbstractAsyncContextManager[Path]:
        """No object has bytes here."""
        raise NotImplementedError


def fill(folder: Path, plans: list[ObservationPlan]) -> int:
    """Catalogue the night, many rows at once; gives the number of objects."""
    catalogue = open_catalogue(sqlite_url(folder / FILE_NAME))
    numbers = itertools.count(1)
    for plan in plans:
        rows = [(next(numbers), exposure, *row) for exposure in plan.exposure_ids() for row in objects(plan, exposure)]
        tables: dict[Any, list[dict[str, object]]] = {
            Observation: [_observation(plan)],
            Exposure: [_exposure(exposure) for exposure in plan.exposure_ids()],
            Artifact: [_artifact(number, key, sha256) for number, _, key, sha256, _, _ in rows],
            Product: [_product(number, exposure, name, sha, level) for number, exposure, _, sha, name, level in rows],
            Header: [{"artifact_id": number, "hdus": HDUS} for number, *_ in rows],
            Provenance: [_provenance(number, exposure) for number, exposure, *_, level in rows if level == 2],
        }
        with catalogue.write() as session:
            for table, values in tables.items():
                session.execute(insert(table), values)
    catalogue.close()
    return next(numbers) - 1


def _observation(plan: ObservationPlan) -> dict[str, object]:
    names = ("observation", "program", "night", "mode", "filter", "ra_deg", "dec_deg")
    return {name: getattr(plan, name) for name in names} | {"plan": {}, "state": "ended"}


def _exposure(exposure: ExposureId) -> dict[str, object]:
    return _names(exposure) | {"state": "ended"}


def _names(exposure: ExposureId) -> dict[str, object]:
    return {
        "observation": exposure.observation, "exposure_type": exposure.type, "exposure": exposure.number,
        "detector": exposure.detector,
    }  # fmt: skip


def _artifact(number: int, key: str, sha256: str) -> dict[str, object]:
    return {
        "id": number, "key": key, "sha256": sha256, "size": 1, "media_type": "application/fits", "role": "science",
        "status": "verified", "last_verified_at": TIME,
    }  # fmt: skip


def _product(number: int, exposure: ExposureId, name: str, sha256: str, level: int) -> dict[str, object]:
    return _names(exposure) | {
        "id": number, "artifact_id": number, "product_id": name, "version": sha256, "level": level,
        "kind": ("read", "raw", "image")[level], "program": exposure.program, "night": NIGHT, "photons_end": TIME,
        "reads_used": READS, "reads_expected": READS, "quality": {}, "conflicted": False, "current": True,
    }  # fmt: skip


def _provenance(number: int, exposure: ExposureId) -> dict[str, object]:
    raw = str(ProductId(exposure, 1, "raw"))
    sha256 = hashlib.sha256(raw.encode()).hexdigest()
    return {"product_row": number, "role": "raw", "input_sha256": sha256, "input_product_id": raw}


def delete_rows(folder: Path) -> None:
    """Delete random headers of reads."""
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
        found = connection.execute("SELECT artifact_id FROM product WHERE level = 0").fetchall()
        connection.executemany("DELETE FROM header WHERE artifact_id = ?", random.Random(1).sample(found, GONE))


def measure(folder: Path, observations: int, exposures: int) -> dict[str, float]:
    """Seconds and memory of each kind of round; in a process of its own."""
    return asyncio.run(_measure(folder, [plan_of(number, exposures) for number in range(1, observations + 1)]))


async def _measure(folder: Path, plans: list[ObservationPlan]) -> dict[str, float]:
    catalogue = open_catalogue(sqlite_url(folder / FILE_NAME))
    store = ListedStore(plans)
    reconciler = Reconciler(Ledger(store, catalogue), none_held, first_s=0, every_s=60, all_every_s=86_400, confirm_s=0)
    result: dict[str, float] = {}
    rounds = {
        "first look": reconciler.under_way,
        "nothing has changed": reconciler.under_way,
        f"{GONE} rows deleted": reconciler.under_way,
        "everything": reconciler.everything,
    }
    for name, look in rounds.items():
        if name.endswith("deleted"):
            delete_rows(folder)
        before_mb, listed, start_s = _peak_mb(), store.listed, time.perf_counter()
        told = await _count(look())
        result |= {
            f"{name}, s": time.perf_counter() - start_s,
            f"{name}, further memory, MB": _peak_mb() - before_mb,
            f"{name}, keys listed": store.listed - listed,
            f"{name}, events": told,
        }
    catalogue.close()
    return result


async def _count(events: AsyncIterator[Event]) -> int:
    return len([event async for event in events])


def _peak_mb() -> float:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def run(folder: Path, observations: int, exposures: int) -> dict[str, float]:
    """Fill a catalogue, then measure in a fresh process."""
    filled = fill(folder, [plan_of(number, exposures) for number in range(1, observations + 1)])
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as processes:
        return {"objects": filled} | processes.submit(measure, folder, observations, exposures).result()


def test_reconciliation_benchmark_runs(tmp_path: Path) -> None:
    observations, exposures = 2, 2
    fill(tmp_path, [plan_of(number, exposures) for number in range(1, observations + 1)])
    result = measure(tmp_path, observations, exposures)
    assert result["first look, events"] == 0
    assert result["first look, keys listed"] == observations * (2 + exposures * 4 * (OBJECTS + 2))
    assert result["nothing has changed, keys listed"] == 2 * observations
    assert result[f"{GONE} rows deleted, events"] == GONE


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        sys.stdout.write(json.dumps(run(Path(name), OBSERVATIONS, EXPOSURES), indent=2) + "\n")
