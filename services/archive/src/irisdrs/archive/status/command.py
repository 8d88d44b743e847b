"""`iris status`: one look at a running system."""

import asyncio
from typing import Annotated

import httpx
import typer
from pydantic import BaseModel, TypeAdapter, ValidationError
from rich.console import Console

from irisdrs.archive.catalogue.latencies import Latency
from irisdrs.archive.catalogue.selection import MAX_PAGE
from irisdrs.archive.cli import QueryFailed
from irisdrs.archive.status.table import print_report
from irisdrs.shared import logs
from irisdrs.shared.adapters import open_bus
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.status import SystemStatus, of_broker

#: How long to listen to the services, seconds: each tells every 5 s how it is.
LISTEN_S = 6.0

#: Longest wait for the broker or for an answer, seconds.
TIMEOUT_S = 20.0

_Latencies = TypeAdapter(list[Latency])


class Report(BaseModel):
    """What `iris status --json` prints."""

    system: SystemStatus
    latencies: list[Latency]
    problems: list[str]


def status(
    url: Annotated[
        str | None, typer.Option(help="Where the archive or `iris up` answers [default: $IRIS_ARCHIVE_PORT here, 8080]")
    ] = None,
    observation: Annotated[str | None, typer.Option(help="Only exposures of this observation")] = None,
    limit: Annotated[int, typer.Option(help="Most exposures of a detector", min=1, max=MAX_PAGE)] = 12,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables")] = False,
) -> None:
    """Services, queues, and who used how much of the 30 s between last photon and reduced image.

    With IRIS_AMQP_URL it listens on the bus for 6 s; else it asks the `iris up` at --url. Ends with 1 when a service
    is not ready or silent, events are parked, or events wait in a queue that nobody consumes. An exposure over budget
    is red, and does not count as a fault.
    """
    settings = HostSettings()
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    report = asyncio.run(look(settings, url or settings.archive_url, observation, limit))
    if as_json:
        typer.echo(report.model_dump_json(indent=2))
    else:
        print_report(report.system, report.latencies, report.problems, Console())
    if report.problems:
        raise typer.Exit(1)


async def look(
    settings: HostSettings, url: str, observation: str | None, limit: int, listen_s: float = LISTEN_S
) -> Report:
    """Gather everything.

    Raises
    ------
    QueryFailed
        If nobody answers at the URL; with a broker that is a problem of the report, and no error.
    Outage
        If the broker is away.
    """
    parameters = {"limit": str(limit)} | ({"observation": observation} if observation else {})
    problems: list[str] = []
    latencies: list[Latency] = []
    try:
        latencies = _Latencies.validate_json(await _ask(url, "/api/latencies", parameters))
        if settings.amqp_url is None:
            system = SystemStatus.model_validate_json(await _ask(url, "/bus/status"))
    except ValidationError as error:
        raise QueryFailed(f"{url} gave no status.", remedy="Is it an archive of this version?") from error
    except QueryFailed as problem:
        if settings.amqp_url is None:
            raise
        problems.append(f"The archive cannot be asked: {problem.message}")
    if settings.amqp_url is not None:
        async with open_bus(settings, "status", TIMEOUT_S) as bus:
            system = await of_broker(bus, listen_s)
    return Report(system=system, latencies=latencies, problems=problems + system.problems())


async def _ask(url: str, path: str, parameters: dict[str, str] | None = None) -> bytes:
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(f"{url.rstrip('/')}{path}", params=parameters)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise QueryFailed(f"{url} does not answer: {error}.", remedy="Is it up? `iris up` starts one.") from error
    if answer.is_error:
        raise QueryFailed(
            f"{url} answers {answer.status_code} to {path}.",
            remedy="Set IRIS_AMQP_URL where the services are processes; look into the archive's log otherwise.",
        )
    return answer.content
