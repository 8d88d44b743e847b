"""`iris reconcile`: ask the archive what was missed, and tell it again."""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from irisdrs.archive.cli import QueryFailed, problem_detail
from irisdrs.archive.reconciliation.survey import MissedRow, Report
from irisdrs.shared.edge.line import open_line
from irisdrs.shared.events.envelope import decode
from irisdrs.shared.settings import HostSettings

#: How long the archive may take beyond the wait that was asked for, seconds: a night of half a million files is listed.
TIMEOUT_S = 600.0

#: How long bus and store are waited for, seconds.
PATIENCE_S = 30.0

#: Findings that a person is shown of each kind.
SHOWN = 40

#: Exit status when something remains that a person must decide.
REMAINS = 1


def reconcile(
    night: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Only this night, as UT date")] = None,
    observation: Annotated[str | None, typer.Option(help="Only this observation, such as 2034B-007-123")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All observations, not only those that are recent or have not ended")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell nothing, only say what is missing")] = False,
    confirm_s: Annotated[
        float, typer.Option(help="Look again at what is missing after so many seconds: it may be under way", max=60)
    ] = 20.0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of tables")] = False,
    url: Annotated[
        str | None, typer.Option(help="Where the archive answers [default: $IRIS_ARCHIVE_HOST and $IRIS_ARCHIVE_PORT]")
    ] = None,
) -> None:
    """Hold the store against the catalogue, and announce again what was missed.

    The archive does this by itself every minute, and once a day for older nights; this is for now, and for a look.
    Events go over the broker of $IRIS_AMQP_URL, or to `iris up`. What waits in a parking queue is left there.

    Ends with 0 when nothing is wrong or all that was missed is announced, with 1 when rows or objects are left over,
    reads are in conflict, or something could not be announced.
    """
    settings = HostSettings()
    where = (url or settings.archive_url).rstrip("/")
    parameters: dict[str, str | int | float] = {"confirm_s": confirm_s, "limit": 5000, "all": str(everything).lower()}
    if night is not None:
        parameters["night"] = night.date().isoformat()
    if observation is not None:
        parameters["observation"] = observation
    report = _ask(where, parameters, TIMEOUT_S + confirm_s)
    missed = [row for row in report.missed if not row.held]
    if missed and not dry_run:
        asyncio.run(_tell(settings, where, missed))
    if as_json:
        typer.echo(json.dumps(report.model_dump(mode="json") | {"announced": 0 if dry_run else len(missed)}, indent=2))
    else:
        _print(report, missed, dry_run, Console())
    if report.orphans or report.conflicts or report.left_out or (dry_run and missed):
        raise typer.Exit(REMAINS)


def _ask(url: str, parameters: dict[str, str | int | float], timeout_s: float) -> Report:
    try:
        answer = httpx.get(f"{url}/api/reconciliation", params=parameters, timeout=timeout_s)
        if answer.is_error:
            raise QueryFailed(f"{url} answered {answer.status_code}: {problem_detail(answer)}")
        return Report.model_validate_json(answer.content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise QueryFailed(f"{url} does not answer: {error}.", remedy="Is it up? `iris up` starts one.") from error
    except ValidationError as error:
        raise QueryFailed(f"{url} gave no report.", remedy="Is it an archive of this version?") from error


async def _tell(settings: HostSettings, url: str, missed: list[MissedRow]) -> None:
    async with open_line(settings, url, PATIENCE_S) as line:
        for row in missed:
            await line.tell([decode(json.dumps(row.event).encode())[1]])


def _print(report: Report, missed: list[MissedRow], dry_run: bool, console: Console) -> None:
    held = [row for row in report.missed if row.held]
    columns = ("event", "subject", "why")
    for title, rows in (("missed", missed), ("parked or discarded", held)):
        _table(console, title, columns, [(_short(row.type), row.subject, row.why) for row in rows])
    _table(console, "orphans", ("key", "why"), [(row.key, row.reason) for row in report.orphans])
    _table(console, "conflicts", ("product", "key"), [(row.product_id, row.key) for row in report.conflicts])
    told = "to be announced" if dry_run else "announced again"
    console.print(
        f"{report.observations} observations: {len(missed)} {told}, {len(held)} wait for a person, "
        f"{len(report.orphans)} orphans, {len(report.conflicts)} conflicts"
        + (f", {report.left_out} more: run it again" if report.left_out else ""),
        highlight=False,
    )


def _table(console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(*columns, title=f"{title}: {len(rows)}", title_justify="left", box=None)
    for column in table.columns:
        column.overflow = "fold"  # a key that is cut names nothing
    for row in rows[:SHOWN]:
        table.add_row(*row)
    console.print(table)
    if len(rows) > SHOWN:
        console.print(f"and {len(rows) - SHOWN} more; --json has all of them")


def _short(cloud_type: str) -> str:
    """``read.written`` of a CloudEvents type."""
    return ".".join(cloud_type.split(".")[-3:-1])
