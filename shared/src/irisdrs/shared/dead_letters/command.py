"""`iris dead-letters`: look at parked events, send them again after a fix, or discard them."""

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from irisdrs.shared import logs
from irisdrs.shared.dead_letters import tables
from irisdrs.shared.dead_letters.letters import Action, Decision, Found, Letter, Moved, Selection
from irisdrs.shared.settings import HostSettings

app = typer.Typer(
    help="Events that could not be handled and wait for a person: look, send them again after a fix, or discard them.",
    no_args_is_help=True,
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="ID...", help="Ids, or beginnings of one id each")]
Url = Annotated[
    str | None,
    typer.Option(help="Where `iris up` answers; default: the broker of IRIS_AMQP_URL, else http://127.0.0.1:8080"),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs")]
QueueName = Annotated[str | None, typer.Option("--queue", help="Of one queue, e.g. archive, readout.IMG1")]
Error = Annotated[str | None, typer.Option(help="Of one error class, e.g. CorruptObject, crash-loop")]
Type = Annotated[str | None, typer.Option("--type", help="Of one event type, e.g. FrameReady")]
Since = Annotated[datetime | None, typer.Option(help="Not before this time (UTC)")]
Until = Annotated[datetime | None, typer.Option(help="Not after this time (UTC)")]
All = Annotated[bool, typer.Option("--all", help="All that are parked, or those that the other options select")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]


def _short_text(value: str | None) -> str | None:
    if value is not None and not 0 < len(value) <= 200:
        raise typer.BadParameter("1 to 200 characters")
    return value


By = Annotated[str | None, typer.Option(help="Who decides; default: the login name", callback=_short_text)]


@app.command("list")
def list_(
    queue: QueueName = None,
    error: Error = None,
    event_type: Type = None,
    since: Since = None,
    until: Until = None,
    decided: Annotated[bool, typer.Option("--decided", help="What was decided before, by whom and why")] = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """List what is parked, queue by queue, oldest first."""
    selection = _selection(queue, error, event_type, since, until)
    console = _console()
    if decided:
        decisions = asyncio.run(_decided(selection, url))
        _show(as_json, decisions, tables.decision_table(decisions) if decisions else "Nothing was decided.", console)
    else:
        letters = asyncio.run(_waiting(selection, url))
        table = tables.letter_table(letters, console.width) if letters else "Nothing is parked."
        _show(as_json, letters, table, console)


@app.command()
def show(
    letter_id: Annotated[str, typer.Argument(metavar="ID", help="Id, or the beginning of one")],
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Show one dead letter: the event, the error with its traceback, and what was decided about it."""
    found = asyncio.run(_found(letter_id, url))
    _show(as_json, found, tables.letter_page(found), _console())


@app.command()
def redrive(
    ids: Ids = None,
    every: All = False,
    queue: QueueName = None,
    error: Error = None,
    event_type: Type = None,
    since: Since = None,
    until: Until = None,
    by: By = None,
    reason: Annotated[str, typer.Option(help="Why, for those who look later")] = "",
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Send parked events again to the queues that could not handle them, after what was wrong is mended.

    Ends with 1 if one that is named is not parked.
    """
    selection = _selection(queue, error, event_type, since, until)
    _decide(Action.REDRIVE, ids or [], every, selection, by, reason, yes, as_json, url)


@app.command()
def discard(
    reason: Annotated[str, typer.Option(help="Why")],
    ids: Ids = None,
    every: All = False,
    queue: QueueName = None,
    error: Error = None,
    event_type: Type = None,
    since: Since = None,
    until: Until = None,
    by: By = None,
    yes: Yes = False,
    as_json: AsJson = False,
    url: Url = None,
) -> None:
    """Give up on parked events. Nothing is lost: the store keeps them, `list --decided` and `show` find them.

    Ends with 1 if one that is named is not parked.
    """
    selection = _selection(queue, error, event_type, since, until)
    _decide(Action.DISCARD, ids or [], every, selection, by, reason, yes, as_json, url)


def _decide(
    action: Action,
    ids: list[str],
    every: bool,
    selection: Selection,
    by: str | None,
    reason: str,
    yes: bool,
    as_json: bool,
    url: str | None,
) -> None:
    if bool(ids) == every:
        raise typer.BadParameter("Name dead letters by their ids, or all of them with --all.")
    if not every and selection != Selection():
        raise typer.BadParameter("--queue, --error, --type, --since and --until go with --all.")
    if every:
        ids = [letter.id for letter in asyncio.run(_waiting(selection, url))]
        if ids and not yes:
            _confirm(f"{action.capitalize()} {tables.counted(len(ids))}?")
    moved = asyncio.run(_moved(action, ids, by or _login(), reason, url)) if ids else Moved(moved=[], missing=[])
    what = f"{tables.counted(len(moved.moved))} {'was' if len(moved.moved) == 1 else 'were'} {tables.PAST[action]}."
    _show(as_json, moved, what, _console())
    for one in moved.missing:
        typer.echo(f"{one} is not parked. `iris dead-letters list --decided` has what was decided before.", err=True)
    if moved.missing:
        raise typer.Exit(1)


def _console() -> Console:
    """The terminal, or a pipe, in which no line is broken."""
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = tables.UNBOUNDED
    return console


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise typer.BadParameter("Nobody is there to be asked: give --yes.")
    typer.confirm(question, abort=True, err=True)


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("This user has no name: give --by.") from error


def _selection(
    queue: str | None, error: str | None, event_type: str | None, since: datetime | None, until: datetime | None
) -> Selection:
    times = {name: when.replace(tzinfo=UTC) for name, when in (("since", since), ("until", until)) if when is not None}
    selection = Selection.model_validate({"queue": queue, "error": error, "type": event_type, **times})
    selection.queue_name()  # refuses a queue that is not there
    return selection


def _settings() -> HostSettings:
    settings = HostSettings()
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    return settings


async def _waiting(selection: Selection, url: str | None) -> list[Letter]:
    from irisdrs.shared.dead_letters.client import open_office  # noqa: PLC0415 - clients of broker and store

    async with open_office(_settings(), url) as office:
        return await office.waiting(selection)


async def _decided(selection: Selection, url: str | None) -> list[Decision]:
    from irisdrs.shared.dead_letters.client import open_office  # noqa: PLC0415

    async with open_office(_settings(), url) as office:
        return await office.decided(selection)


async def _found(letter_id: str, url: str | None) -> Found:
    from irisdrs.shared.dead_letters.client import open_office  # noqa: PLC0415

    async with open_office(_settings(), url) as office:
        return await office.show(letter_id)


async def _moved(action: Action, ids: Sequence[str], by: str, reason: str, url: str | None) -> Moved:
    from irisdrs.shared.dead_letters.client import open_office  # noqa: PLC0415

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(action.capitalize(), total=len(ids))
        async with open_office(_settings(), url, lambda some: progress.advance(task, some)) as office:
            move = office.redrive if action is Action.REDRIVE else office.discard
            return await move(ids, by, reason)


def _show(as_json: bool, facts: BaseModel | list[Letter] | list[Decision], text: object, console: Console) -> None:
    if not as_json:
        console.print(text)
        return
    plain = (
        facts.model_dump(mode="json")
        if isinstance(facts, BaseModel)
        else [one.model_dump(mode="json") for one in facts]
    )
    typer.echo(json.dumps(plain, indent=2))  # in ASCII: nothing in it steers a terminal
