"""What was missed is found in store and catalogue, and announced again."""

import asyncio
import contextlib
import random
import sqlite3
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from irisdrs.shared import crash_points
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.data.fits.reads import decode_read, encode_read
from irisdrs.shared.embedded import serve_web
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.observation import ObservationPlan

#: Crash points of a round.
POINTS = ("rounds.publish.before", "rounds.publish.after")

#: Longest wait for what comes at last, seconds: only a failure waits so long.
PATIENCE_S = 180.0

#: Events that are suppressed, rows that are deleted.
GONE = 20

TABLES = ("artifact", "product", "header", "provenance", "observation", "exposure")

IRIS = (sys.executable, "-c", "from irisdrs.shared.cli import main; main()")


class DeafBus:
    """Swallows some of the events that are published, each as if no queue had heard of it."""

    def __init__(self, bus: MemoryBus, seed: int, share: float) -> None:
        self._publish, self._random, self._share = bus.publish, random.Random(seed), share
        self.swallowed: list[str] = []

    async def publish(self, routing_key: str, body: bytes, *, mandatory: bool) -> None:
        """Publish, or not."""
        if mandatory and len(self.swallowed) < GONE and self._random.random() < self._share:
            self.swallowed.append(routing_key)
            return
        await self._publish(routing_key, body, mandatory=mandatory)


@pytest.fixture
def plan(references: tuple[ObservationPlan, Path]) -> ObservationPlan:
    """A night of two detectors."""
    return references[0].model_copy(update={"detectors": (Detector.IMG1, Detector.IMG2)})


async def rounds_until_healed(ground: Any, most: int = 6) -> int:
    """Do rounds until nothing is told any more; how many told something."""
    for number in range(most):
        if not await ground.system.do_rounds("reconcile"):
            return number
        await ground.system.bus.quiet()
    raise AssertionError(f"after {most} rounds something is missing still")


async def report(ground: Any) -> Any:
    """What the archive says of everything."""
    answer = await ground.client.get("/api/reconciliation", params={"all": "true"})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def played(ground: Any) -> dict[str, str]:
    """Play the night to its end; all current products."""
    await ground.play(ground.edge())
    await ground.system.bus.quiet()
    assert not (await ground.verdict()).lost
    products: dict[str, str] = await ground.products()
    return products


def catalogue(ground: Any) -> Path:
    """The file of the catalogue."""
    return Path(ground.system.settings.data_dir / "catalogue.sqlite")


def rows(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows but for their numbers and what is of the telling: inputs and headers with what they belong to."""
    objects = "SELECT key, sha256, size, media_type, role, status FROM artifact"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        products = [dict(row) for row in connection.execute("SELECT * FROM product")]
        names = {row["id"]: f"{row['product_id']} {row['version']}" for row in products}
        keys = {row["id"]: row["key"] for row in connection.execute("SELECT id, key FROM artifact")}
        for row in products:
            row["artifact_id"] = keys[row["artifact_id"]]
            for name in ("id", "announced_at", "stored_at", "spent"):
                del row[name]
        provenance = connection.execute("SELECT product_row, role, input_sha256, input_product_id FROM provenance")
        header = connection.execute("SELECT artifact_id, hdus FROM header")
        return {
            "artifact": sorted(map(tuple, connection.execute(objects)), key=repr),
            "product": sorted((tuple(row.values()) for row in products), key=repr),
            "provenance": sorted(((names.get(row[0]), *row[1:]) for row in provenance), key=repr),
            "header": sorted(((keys[row[0]], row[1]) for row in header if row[0] in keys), key=repr),
            "observation": sorted(map(tuple, connection.execute("SELECT * FROM observation")), key=repr),
            "exposure": sorted(map(tuple, connection.execute("SELECT * FROM exposure")), key=repr),
        }


def delete_random_rows(path: Path, seed: int) -> None:
    """Delete rows of all tables as somebody with a database tool would: nothing is checked."""
    choice = random.Random(seed)
    with contextlib.closing(sqlite3.connect(path, timeout=60)) as connection, connection:
        found = [
            (table, row[0]) for table in TABLES for row in connection.execute(f"SELECT rowid FROM {table}").fetchall()
        ]
        one_of_each = [choice.choice([one for one in found if one[0] == table]) for table in TABLES]
        others = choice.sample([one for one in found if one not in one_of_each], GONE - len(TABLES))
        for table, row in [*one_of_each, *others]:
            connection.execute(f"DELETE FROM {table} WHERE rowid = ?", (row,))


async def test_twenty_events_that_nobody_heard_are_told_again(playground: Any, plan: ObservationPlan) -> None:
    async with playground("data", plan) as ground:
        deaf = DeafBus(ground.system.bus, seed=3, share=0.6)
        ground.system.bus.publish = deaf.publish
        await ground.play(ground.edge())
        await ground.system.bus.quiet()
        assert len(deaf.swallowed) == GONE
        assert await rounds_until_healed(ground) > 0
        verdict = await ground.verdict()
        assert (verdict.lost, verdict.duplicated) == ((), ())
        assert await ground.parked() == {}
        found = await report(ground)
        assert (found["missed"], found["orphans"], found["conflicts"]) == ([], [], [])


async def test_twenty_rows_that_were_deleted_come_back(playground: Any, plan: ObservationPlan) -> None:
    async with playground("data", plan) as ground:
        products = await played(ground)
        assert await ground.system.do_rounds("reconcile") == 0
        before = rows(catalogue(ground))
        delete_random_rows(catalogue(ground), seed=4)
        assert (await report(ground))["missed"] != []
        assert await rounds_until_healed(ground) == 1
        assert rows(catalogue(ground)) == before
        assert await ground.products() == products
        assert await ground.parked() == {}
        assert await ground.system.do_rounds("reconcile") == 0


async def test_a_parked_event_is_not_announced_again_and_what_is_wrong_is_reported(
    playground: Any, plan: ObservationPlan
) -> None:
    async with playground("data", plan) as ground:
        await played(ground)
        store = ground.system.settings.store_dir
        reads = [key for key in await ground.system.platform.store.keys("0/") if key.endswith(".fits")]
        read, gone, twice, *_ = {key.partition("/0001/")[0]: key for key in reads}.values()  # of three exposures
        _damage(store / read)
        (store / gone).unlink()
        await _put_again(ground, twice)
        (store / "observations" / "notes.txt").touch()
        with contextlib.closing(sqlite3.connect(catalogue(ground), timeout=60)) as connection, connection:
            connection.execute("DELETE FROM artifact WHERE key = ?", (read,))
        assert await ground.system.do_rounds("reconcile") == 2  # the damaged read, and the second content
        await ground.system.bus.quiet()
        assert await ground.parked() == {"iris.q.archive": ["CorruptObject"]}
        for _ in range(4):
            assert await ground.system.do_rounds("reconcile") == 0
        assert await ground.system.do_rounds("reconcile-all") == 0

        found = await report(ground)
        assert [(row["key"], row["held"]) for row in found["missed"]] == [(read, True)]
        assert {row["key"] for row in found["orphans"]} == {gone, "observations/notes.txt"}
        assert twice in {row["key"] for row in found["conflicts"]}
        async with serve_web(ground.system) as url:
            status, said = await iris("reconcile", "--url", url, "--confirm-s", "0")
        assert status == 1
        assert "0 announced again, 1 wait for a person, 2 orphans" in said
        assert "…" not in said  # a key that is cut names nothing
        assert await ground.parked() == {"iris.q.archive": ["CorruptObject"]}


async def test_a_product_that_was_deleted_from_the_store_is_made_again(playground: Any, plan: ObservationPlan) -> None:
    async with playground("data", plan) as ground:
        products = await played(ground)
        store, before = ground.system.platform.store, rows(catalogue(ground))
        raw, image = [(await store.keys(level))[0] for level in ("1/", "2/")]
        contents = {key: await store.get((await store.head(key)).ref) for key in (raw, image)}
        for key in contents:
            (ground.system.settings.store_dir / key).unlink()
        assert {row["key"] for row in (await report(ground))["orphans"]} == {raw, image}
        assert await ground.system.do_rounds("reconcile-all") > 0
        await ground.system.bus.quiet()
        assert {key: await store.get((await store.head(key)).ref) for key in contents} == contents
        assert (await report(ground))["orphans"] == []
        assert (await ground.products(), rows(catalogue(ground))) == (products, before)
        assert await ground.parked() == {}


async def test_the_command_announces_what_was_missed(playground: Any, plan: ObservationPlan) -> None:
    async with playground("data", plan) as ground, serve_web(ground.system) as url:
        await played(ground)
        before = rows(catalogue(ground))
        delete_random_rows(catalogue(ground), seed=5)
        asked = ("reconcile", "--url", url, "--confirm-s", "0", "--observation", plan.observation)
        status, said = await iris(*asked, "--dry-run")
        assert status == 1
        assert "to be announced" in said
        assert rows_missing(before, catalogue(ground))
        assert (await iris(*asked))[0] == 0
        await ground.system.bus.quiet()
        assert rows(catalogue(ground)) == before
        status, said = await iris(*asked)
        assert status == 0
        assert "1 observations: 0 announced again" in said


async def test_a_crash_in_the_middle_of_a_round_loses_nothing(
    playground: Any, plan: ObservationPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRIS_ARCHIVE_RECONCILE_FIRST_S", "0")
    monkeypatch.setenv("IRIS_ARCHIVE_RECONCILE_EVERY_S", "0.2")
    async with playground("data", plan) as ground:
        await played(ground)
        before = rows(catalogue(ground))
        for point in POINTS:
            crash_points.arm(point)
        delete_random_rows(catalogue(ground), seed=6)
        async with asyncio.timeout(PATIENCE_S):
            while rows_missing(before, catalogue(ground)):
                await asyncio.sleep(0.2)
        assert crash_points.armed() == {}
        assert ground.system.restarts["archive"] >= 1
        await ground.system.bus.quiet()
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}


def rows_missing(before: dict[str, list[tuple[object, ...]]], path: Path) -> bool:
    """Whether the catalogue has not all that it had."""
    try:
        return rows(path) != before
    except KeyError:
        return True  # a product whose object has no row


def _damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.unlink()
    path.write_bytes(data)


async def _put_again(ground: Any, key: str) -> None:
    """Another content for a read, as an edge that went wrong would put it."""
    store = ground.system.platform.store
    stored = await store.head(key)
    pixels, header = decode_read(await store.get(stored.ref), ground.plan.sampling.shape)
    data = encode_read(pixels + 1, header)
    folder, _, name = key.rpartition("/")
    await store.put(f"{folder}/{name[:5]}-{'0' * 16}.fits", data, metadata=stored.metadata)


async def iris(*arguments: str) -> tuple[int | None, str]:
    """Run `iris` in a process of its own; its exit status and what it says."""
    process = await asyncio.create_subprocess_exec(*IRIS, *arguments, stdout=PIPE, stderr=PIPE)
    try:
        said, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, " ".join((said + errors).decode().split())
