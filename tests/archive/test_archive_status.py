"""`iris status`: tables, JSON and exit code."""

import contextlib
import json
import re
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from irisdrs.archive.api.application import application
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.latencies import Latency
from irisdrs.archive.cli import QueryFailed
from irisdrs.archive.status.command import look, status
from irisdrs.archive.status.table import print_report
from irisdrs.shared.adapters import local_references
from irisdrs.shared.bus.dispatch import Dispatcher
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.embedded import EmbeddedSystem, web_application
from irisdrs.shared.service import Platform, Service
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.status import QueueState, ServiceState, SystemStatus
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.web_server import serving


def latency(number: int, reduced_s: float | None, *, skew: bool = False) -> Latency:
    return Latency(
        observation="2034B-007-123",
        exposure_type="SCI",
        exposure=number,
        detector="IMG1",
        photons_end=datetime(2034, 8, 1, 5, tzinfo=UTC),
        raw_s=2.5,
        reduced_s=reduced_s,
        stored_s=None if reduced_s is None else reduced_s + 1,
        spent_s={"readout": 1.0, "calibrate": 14.25, "archive": 0.5},
        waiting_s=None if skew else 3.5,
        budget_s=30.0,
        budget_fraction=None if reduced_s is None or skew else reduced_s / 30,
        clock_skew=skew,
    )


SYSTEM = SystemStatus(
    services=[
        ServiceState(service="readout-IMG1", state="ready", in_flight=1, lag_s=0.003, instance="h:1"),
        ServiceState(service="calibrate-realtime", state="outage", in_flight=0, lag_s=0.001, instance="h:2"),
    ],
    queues=[QueueState(queue="iris.q.calibrate.realtime", waiting=7, parked=2, consumers=1)],
)


def shown(width: int, *rows: Latency, colour: bool = False) -> str:
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=colour, color_system="standard" if colour else None)
    print_report(SYSTEM, rows, SYSTEM.problems(), console)
    return out.getvalue()


def test_the_tables_fit_a_terminal_of_80_columns() -> None:
    text = shown(80, latency(34, 8.0), latency(35, 45.0), latency(36, -3.0, skew=True), latency(37, None))
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= 80
    for word in (
        "readout-IMG1",
        "calibrate.realtime",
        "SCI-0034 IMG1",
        "14.2",
        "27%",
        "150%",
        "clock skew",
        "median",
        "share of 30 s",
    ):
        assert word in text
    assert "2 parked in iris.q.calibrate.realtime: iris dead-letters list" in text


def test_what_is_over_budget_is_red() -> None:
    for reduced_s, colour in ((45.0, 31), (27.0, 33), (8.0, 32)):
        assert re.search(rf"\x1b\[{colour}m *{reduced_s / 30:.0%}", shown(80, latency(35, reduced_s), colour=True))


@contextlib.asynccontextmanager
async def embedded(folder: Path, catalogue: Catalogue, store: DirectoryStore) -> AsyncIterator[str]:
    """The web application of `iris up` with a service that takes nothing; gives its URL."""
    settings, bus = HostSettings(data_dir=folder), MemoryBus()
    async with local_references(settings, store) as references:
        with ThreadPoolExecutor(1) as threads:
            platform = Platform(store, references, folder, folder, threads)
            system = EmbeddedSystem(settings, bus, platform, "test", webs=[application(catalogue, store)])
            system.dispatchers["archive"] = Dispatcher(bus, Service("archive", {}))
            async with serving(web_application(system), "127.0.0.1", 0) as url:
                yield url
    bus.close()


async def test_a_system_in_one_process_is_asked_over_http(
    tmp_path: Path, catalogue: Catalogue, store: DirectoryStore
) -> None:
    async with embedded(tmp_path, catalogue, store) as url:
        report = await look(HostSettings(amqp_url=None), url, None, 5)
    assert [(one.service, one.state) for one in report.system.services] == [("archive", "ready")]
    assert (report.latencies, report.problems) == ([], [])


async def test_processes_at_a_broker_are_listened_to_even_without_an_archive(amqp_url: str) -> None:
    report = await look(
        HostSettings.model_validate({"amqp_url": amqp_url}), "http://127.0.0.1:1", None, 5, listen_s=0.2
    )
    assert len(report.system.queues) > 5
    assert "The archive cannot be asked" in report.problems[0]
    assert report.problems[1] == "no service has told how it is"


def test_nobody_there_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IRIS_AMQP_URL", raising=False)
    app = typer.Typer()
    app.command()(status)
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:1"])
    assert isinstance(result.exception, QueryFailed)
    assert "iris up" in result.exception.remedy


def test_problems_end_it_with_1_and_json_is_for_programs(amqp_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_AMQP_URL", amqp_url)
    app = typer.Typer()
    app.command()(status)
    result = CliRunner().invoke(app, ["--url", "http://127.0.0.1:1", "--json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout)["problems"]
