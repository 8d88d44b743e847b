"""The ledger finds what is wrong: it would be of no use if it did not."""

import hashlib
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from tests.chaos.cases import CASES, chosen
from tests.chaos.shelf import DirectoryShelf
from tests.chaos.verdict import Account, Verdict, audit

from irisdrs.shared.identifiers import Detector
from irisdrs.simulator.ledger import expected_products, expected_reads
from irisdrs.simulator.night import plan_observation

PLAN = plan_observation(
    night=date(2034, 8, 1), crds_context="", size=64, reads=2, science=1, sky=0, detectors=(Detector.IMG1,)
)
FOLDER = f"2034/08/01/{PLAN.observation}"


class Night:
    """Four products in a store and in a catalogue, as they should be until a test spoils something."""

    def __init__(self, root: Path) -> None:
        self.root, self.rows, self.account = root, list[dict[str, Any]](), Account(PLAN)
        for name in (*expected_reads(PLAN), *expected_products(PLAN)):
            read = "-L0-" in name
            data = name.encode()
            sha256 = hashlib.sha256(data).hexdigest()
            level = 0 if read else name.split("-L")[1][0]
            key = f"{level}/{FOLDER}/{name}/aaaa-{sha256[:16]}.fits"
            self.put(key, data)
            self.rows.append({"product_id": name, "key": key, "sha256": sha256, "current": True})
            self.account.announced[key].add(sha256)
            if read:
                self.account.reads[name] = sha256

    def put(self, key: str, data: bytes) -> None:
        (self.root / key).parent.mkdir(parents=True, exist_ok=True)
        (self.root / key).write_bytes(data)

    async def verdict(self) -> Verdict:
        app = FastAPI()

        @app.get("/api/products")
        def products() -> dict[str, Any]:
            return {"products": self.rows, "next_cursor": None}

        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
            return await audit(self.account, DirectoryShelf(self.root), client, ["queue Fatal"])


def _lose(night: Night) -> None:
    row = night.rows.pop()
    (night.root / row["key"]).unlink()


def _row_without_object(night: Night) -> None:
    (night.root / night.rows[0]["key"]).unlink()


def _object_without_row(night: Night) -> None:
    night.put(f"2/{FOLDER}/else/bbbb-0000.fits", b"nobody knows me")


def _two_current(night: Night) -> None:
    night.rows.append(night.rows[-1])


def _made_twice(night: Night) -> None:
    row = night.rows[-1]
    again = row | {"key": row["key"].rpartition("-")[0] + "-0000.fits", "current": False}
    night.put(again["key"], (night.root / row["key"]).read_bytes())
    night.rows.append(again)


def _flip(night: Night) -> None:
    night.put(night.rows[-1]["key"], b"other bytes")


def _other_than_given(night: Night) -> None:
    night.account.reads[night.rows[0]["product_id"]] = "0" * 64


def _announced_otherwise(night: Night) -> None:
    night.account.announced[night.rows[-1]["key"]].add("0" * 64)


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (_lose, ("lost",)),
        (_row_without_object, ("orphans",)),
        (_object_without_row, ("orphans",)),
        (_two_current, ("duplicated",)),
        (_made_twice, ("duplicated",)),
        (_flip, ("wrong",)),
        (_other_than_given, ("wrong",)),
        (_announced_otherwise, ("wrong",)),
    ],
)
async def test_the_ledger_finds_what_is_wrong(
    tmp_path: Path, spoil: Callable[[Night], None], found: tuple[str, ...]
) -> None:
    night = Night(tmp_path)
    assert await night.verdict() == Verdict(parked={"queue Fatal": 1})
    spoil(night)
    verdict = await night.verdict()
    assert tuple(what for what in ("lost", "duplicated", "orphans", "wrong") if getattr(verdict, what)) == found


def test_cases_are_chosen_by_name() -> None:
    assert len({one.name for one in CASES}) == len(CASES)
    assert [one.name for one in chosen("broker-killed,calm")] == ["calm", "broker-killed"]
    assert sorted(one.name for one in chosen("")) == sorted(one.name for one in CASES)
    with pytest.raises(SystemExit, match="No case unheard-of"):
        chosen("unheard-of")
