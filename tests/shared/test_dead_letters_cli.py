"""`iris dead-letters` against an embedded system, and at a broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.contract.test_contract_dead_letters import BROKEN, IMG1, LOST, park, read, take
from typer.testing import CliRunner, Result

from irisdrs.shared.adapters import local_references
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.port import ParkingReason
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.dead_letters.command import app
from irisdrs.shared.dead_letters.letters import NoSuchLetter
from irisdrs.shared.embedded import EmbeddedSystem, serve_web
from irisdrs.shared.errors import Outage
from irisdrs.shared.events import encode
from irisdrs.shared.service import Platform
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore

Run = Callable[..., Any]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in a thread, beside the system that it asks."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("IRIS_AMQP_URL", raising=False)

    async def invoke(*arguments: object) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[EmbeddedSystem]:
    """An embedded system without services, with two reads in its parking."""
    settings = HostSettings(data_dir=tmp_path, archive_port=0)
    store = DirectoryStore(settings.store_dir)
    with ThreadPoolExecutor(1) as threads:
        async with local_references(settings, store) as references:
            platform = Platform(
                store=store, references=references, data_dir=tmp_path, scratch=tmp_path, threads=threads
            )
            bus = MemoryBus()
            yield EmbeddedSystem(settings, bus, platform, "identity")
            bus.close()


@pytest.fixture
async def url(system: EmbeddedSystem) -> AsyncIterator[str]:
    await park(system.bus, encode(read(1), "edge"), BROKEN, IMG1)
    await park(system.bus, encode(read(2), "edge"), LOST, IMG1)
    async with serve_web(system) as url:
        yield url


async def test_lists_a_table_for_people_and_json_for_programs(run: Run, url: str) -> None:
    table = (await run("list", "--url", url)).stdout
    letters = json.loads((await run("list", "--url", url, "--json")).stdout)
    assert [letter["subject"] for letter in letters] == [read(1).subject, read(2).subject]
    for text in (letters[0]["id"], "readout.IMG1", "CorruptObject", f"ReadWritten {read(1).subject}", "truncated"):
        assert text in table
    (one,) = json.loads((await run("list", "--error", "MissingReference", "--url", url, "--json")).stdout)
    assert one == letters[1]
    none = await run("list", "--until", "2020-01-01", "--url", url)
    assert (none.exit_code, none.stdout) == (0, "Nothing is parked.\n")
    assert isinstance((await run("list", "--queue", "nowhere", "--url", url)).exception, NoSuchLetter)


async def test_shows_one_with_its_traceback_and_decisions(run: Run, url: str) -> None:
    one, _ = json.loads((await run("list", "--url", url, "--json")).stdout)
    page = (await run("show", one["id"][:8], "--url", url)).stdout
    for text in (one["id"], "CorruptObject: truncated", "Traceback: line 1", read(1).event_id, "state", "parked"):
        assert text in page
    assert json.loads((await run("show", one["id"], "--url", url, "--json")).stdout)["letter"] == one
    assert isinstance((await run("show", "no-id", "--url", url)).exception, NoSuchLetter)


async def test_a_pipe_breaks_no_line(run: Run, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    (line,) = (line for line in (await run("list", "--url", url)).stdout.splitlines() if read(1).subject in line)
    assert "truncated" in line


async def test_redrives_and_discards_and_says_who_did(run: Run, url: str, system: EmbeddedSystem) -> None:
    one, two = json.loads((await run("list", "--url", url, "--json")).stdout)
    answer = await run("redrive", one["id"][:8], "f" * 12, "--by", "ada", "--url", url)
    assert (answer.exit_code, answer.stdout) == (1, "1 dead letter was re-driven.\n")
    assert f"{'f' * 12} is not parked" in answer.stderr
    assert await take(system.bus, IMG1, 1) == [one["body"].encode()]
    answer = await run("discard", two["id"], "--reason", "a test", "--by", "grace", "--url", url, "--json")
    assert (answer.exit_code, json.loads(answer.stdout)) == (0, {"moved": [two["id"]], "missing": []})
    table = (await run("list", "--decided", "--url", url)).stdout
    assert [word for word in ("ada", "grace", "re-driven", "discarded", "a test") if word not in table] == []
    decisions = json.loads((await run("list", "--decided", "--url", url, "--json")).stdout)
    assert [(decision["action"], decision["letter"]) for decision in decisions] == [("redrive", one), ("discard", two)]
    assert "discarded" in (await run("show", two["id"], "--url", url)).stdout


async def test_all_must_be_confirmed(run: Run, url: str, system: EmbeddedSystem) -> None:
    refused = await run("redrive", "--all", "--url", url)
    assert refused.exit_code == 2
    assert "--yes" in refused.stderr
    answer = await run("redrive", "--all", "--error", "CorruptObject", "--yes", "--url", url)
    assert (answer.exit_code, answer.stdout) == (0, "1 dead letter was re-driven.\n")
    assert [parked.reason for parked in await system.bus.parked(IMG1)] == [LOST]


@pytest.mark.parametrize(
    "wrong",
    [
        ("redrive",),
        ("redrive", "abc", "--all"),
        ("redrive", "abc", "--queue", "archive"),
        ("redrive", "abc", "--by", ""),
        ("discard", "abc"),
        ("list", "--since", "yesterday"),
    ],
)
async def test_wrong_usage_ends_with_2(run: Run, wrong: tuple[str, ...]) -> None:
    assert (await run(*wrong)).exit_code == 2


async def test_nobody_to_ask_is_an_outage(run: Run, unused_tcp_port: int) -> None:
    answer = await run("list", "--url", f"http://127.0.0.1:{unused_tcp_port}")
    assert isinstance(answer.exception, Outage)


async def test_works_at_the_broker_and_the_store(
    run: Run, amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = RabbitMQBus(amqp_url)
    try:
        await bus.open()
        await park(bus, encode(read(1), "edge"), BROKEN, IMG1)
        monkeypatch.setenv("IRIS_AMQP_URL", amqp_url)
        monkeypatch.setenv("IRIS_DATA_DIR", str(tmp_path))
        (one,) = json.loads((await run("list", "--json")).stdout)
        assert (await run("redrive", "--all", "--yes", "--by", "ada")).exit_code == 0
        assert await take(bus, IMG1, 1) == [one["body"].encode()]
        (decision,) = json.loads((await run("list", "--decided", "--json")).stdout)
        assert decision["by"] == "ada"
        assert datetime.fromisoformat(decision["at"]).utcoffset() == datetime.now(UTC).utcoffset()
    finally:
        await bus.close()


async def test_a_page_that_has_its_name_point_here_is_not_obeyed(url: str, system: EmbeddedSystem) -> None:
    evil = {"host": "evil.example", "origin": "http://evil.example"}
    async with httpx.AsyncClient(base_url=url, headers=evil, trust_env=False) as client:
        order = {"ids": [one.id for one in await system.bus.parked(IMG1)], "by": "mallory", "reason": "none"}
        for path in ("/bus/dead-letters/discard", "/bus/dead-letters/redrive", "/bus/events"):
            assert (await client.post(path, json=order)).status_code == 421
        assert (await client.get("/bus/dead-letters")).status_code == 421
    assert len(await system.bus.parked(IMG1)) == 2


async def test_control_characters_do_not_reach_a_terminal(run: Run, url: str, system: EmbeddedSystem) -> None:
    evil = "\x1b]0;evil\x07\x9b2J\u202e"
    await park(system.bus, evil.encode(), ParkingReason(f"X{evil}", f"m{evil}", f"tb{evil}"), IMG1)
    letters = json.loads((await run("list", "--url", url, "--json")).stdout)
    strange = letters[-1]
    assert strange["body"] == evil
    shown = [await run("list", "--url", url), await run("show", strange["id"], "--url", url)]
    await run("discard", strange["id"], "--reason", f"because{evil}", "--by", "ada", "--url", url)
    shown += [await run("list", "--decided", "--url", url), await run("show", strange["id"], "--url", url, "--json")]
    for answer in shown:
        assert answer.exit_code == 0
        assert not set(evil[:1] + "\x07\x9b\u202e") & set(answer.stdout)
    assert r"X\x1b]0;evil\x07\x9b2J\u202e" in shown[1].stdout
