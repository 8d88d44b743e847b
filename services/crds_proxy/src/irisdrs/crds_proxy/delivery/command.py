"""`iris crds deliver|history|diff|rollback`: change what is in force, and see who did."""

import asyncio
import contextlib
import getpass
import json
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from irisdrs.shared import logs
from irisdrs.shared.errors import Fatal, IrisError
from irisdrs.shared.settings import HostSettings

if TYPE_CHECKING:
    from irisdrs.crds_proxy.delivery.deliveries import Deliveries
    from irisdrs.crds_proxy.delivery.difference import Difference
    from irisdrs.crds_proxy.delivery.results import Outcome
    from irisdrs.crds_proxy.holdings import Change
    from irisdrs.crds_proxy.store_holdings import StoreHoldings
    from irisdrs.shared.crds.cache import Cache

#: How long a store that is away is waited for, seconds.
PATIENCE_S = 30.0

#: Width of a table in a pipe, in which no line is broken.
_UNBOUNDED = 500

#: Exit status of what was refused, or could not be done.
REFUSED = 1

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the data; default: $IRIS_DATA_DIR, else data. $IRIS_STORE_URL: its store"),
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs")]
By = Annotated[str | None, typer.Option(help="Who does it; default: the login name")]


@dataclass(frozen=True)
class _Office:
    """What the commands work with."""

    deliveries: "Deliveries"
    holdings: "StoreHoldings"
    cache: "Cache"


def deliver(
    files: Annotated[list[Path], typer.Argument(help="FITS files; all of them are delivered, or none is")],
    reason: Annotated[str, typer.Option(help="Why, for those who look into the history")] = "",
    by: By = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Certify, and say what would be done; do nothing")] = False,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Certify new calibration references, and put a new context in force that chooses them.

    Each file says by its header where it belongs: INSTRUME, REFTYPE, USEAFTER and the keywords of its type, besides
    PEDIGREE, AUTHOR and DESCRIP. One with the keys and USEAFTER of a reference that there is takes its place; earlier
    contexts keep what they choose. Files are copied, and get names of their own.

    Observations that start from then on (within a second) use the new context; those under way keep theirs.

    Ends with 0 when they are in force (also if they were before), with 1 when a file is refused: then nothing is
    changed. It may be repeated after any failure.

        iris crds deliver dark_*.fits --reason "Darks of August, 2 K colder"
    """
    with _refusals(as_json):
        outcome = asyncio.run(_deliver(_settings(data), files, by or _login(), reason or "delivered", dry_run=dry_run))
    if as_json:
        typer.echo(json.dumps(_plain(outcome) | {"dry_run": dry_run}, indent=2))
        return
    rows = [(one.type, str(one.path), one.name) for one in outcome.references]
    _table(("type", "file", "name in CRDS"), rows)
    if outcome.new_context == outcome.old_context:
        typer.echo(f"{outcome.new_context} chooses these references already; nothing was changed.")
    else:
        would = "would be" if dry_run else "is"
        typer.echo(f"{outcome.new_context} {would} in force; before: {outcome.old_context or 'none'}.")


def history(data: Data = None, as_json: AsJson = False) -> None:
    """Show every change of the context in force, oldest first: when, by whom, why, and what was published with it.

    The last one is in force. Every context in it can be asked for (`iris crds bestrefs --context`), compared
    (`iris crds diff`) and put in force again (`iris crds rollback`).
    """
    with _refusals(as_json):
        changes = asyncio.run(_history(_settings(data)))
    if as_json:
        plain = [asdict(change) | {"at": change.at.isoformat(), "files": sorted(change.files)} for change in changes]
        typer.echo(json.dumps(plain, indent=2))
        return
    rows = [
        (str(one.number), f"{one.at:%Y-%m-%d %H:%M:%S}", one.kind, one.context, str(len(one.files)), one.by, one.reason)
        for one in changes
    ]
    _table(("", "at (UTC)", "kind", "in force", "files", "by", "reason"), rows)


def diff(
    old: Annotated[str, typer.Argument(help="Context, e.g. tmt_0001.pmap")],
    new: Annotated[str, typer.Argument(help="Context to compare it with")],
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Show in which references two contexts differ: what was added, replaced or removed.

    Ends with 0 whether or not they differ.
    """
    with _refusals(as_json):
        found = asyncio.run(_difference(_settings(data), old, new))
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], indent=2))
        return
    rows = [(one.type, one.values, one.useafter, one.old or "-", one.new or "-") for one in found]
    _table(("type", "matches", "use after", old, new), rows)
    typer.echo("1 row differs." if len(found) == 1 else f"{len(found)} rows differ.")


def rollback(
    context: Annotated[str, typer.Argument(help="Context that is to be in force again, e.g. tmt_0001.pmap")],
    reason: Annotated[str, typer.Option(help="Why, for those who look into the history")],
    by: By = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Put an earlier context in force again. Nothing is removed, and the next delivery derives from it.

    Observations that start from then on (within a second) use it; those under way keep theirs. What was observed
    under the context that is given up can be reduced again under another one.
    """
    with _refusals(as_json):
        outcome = asyncio.run(_roll_back(_settings(data), context, by or _login(), reason))
    if as_json:
        typer.echo(json.dumps(_plain(outcome), indent=2))
    elif outcome.number is None:
        typer.echo(f"{context} is in force already; nothing was changed.")
    else:
        typer.echo(f"{outcome.new_context} is in force; before: {outcome.old_context}.")


async def _deliver(settings: HostSettings, files: list[Path], by: str, reason: str, *, dry_run: bool) -> "Outcome":
    async with _open(settings) as office:
        outcome = await office.deliveries.deliver(files, by, reason, dry_run=dry_run)
        await _keep_up(office, () if dry_run else [one.name for one in outcome.references])
        return outcome


async def _history(settings: HostSettings) -> "Sequence[Change]":
    async with _open(settings) as office:
        return (await office.holdings.catalogue()).changes


async def _difference(settings: HostSettings, old: str, new: str) -> "list[Difference]":
    from irisdrs.crds_proxy.delivery.difference import differences  # noqa: PLC0415
    from irisdrs.crds_proxy.exchange import bring_mappings  # noqa: PLC0415

    async with _open(settings) as office:
        for context in (old, new):
            await bring_mappings(office.holdings, context)
        return await asyncio.to_thread(differences, office.cache.mappings, old, new)


async def _roll_back(settings: HostSettings, context: str, by: str, reason: str) -> "Outcome":
    async with _open(settings) as office:
        outcome = await office.deliveries.roll_back(context, by, reason)
        await _keep_up(office)
        return outcome


async def _keep_up(office: _Office, delivered: Sequence[str] = ()) -> None:
    """Put the context in force, and what was delivered, in the cache of this host, too: commands may know it alone.

    If that fails, what was done is done all the same.
    """
    from irisdrs.crds_proxy.exchange import keep_up  # noqa: PLC0415

    try:
        if (await office.holdings.refreshed()).changes and office.holdings.has_history:
            await keep_up(office.holdings, office.cache)
        for name in delivered:
            await office.holdings.local(name)
    except (IrisError, OSError) as problem:
        typer.echo(f"The cache {office.cache.root} does not keep up: {problem}", err=True)


@contextlib.asynccontextmanager
async def _open(settings: HostSettings) -> AsyncIterator[_Office]:
    """The store and the cache that the settings name."""
    # The clients of CRDS and of the store take most of a second to import: other commands of `iris` do without them.
    from irisdrs.crds_proxy.delivery.deliveries import Deliveries  # noqa: PLC0415
    from irisdrs.crds_proxy.delivery.process import CrdsProcess  # noqa: PLC0415
    from irisdrs.crds_proxy.store_holdings import StoreHoldings  # noqa: PLC0415
    from irisdrs.crds_proxy.verification import Verifier  # noqa: PLC0415
    from irisdrs.shared.adapters import open_store  # noqa: PLC0415
    from irisdrs.shared.crds import register  # noqa: PLC0415
    from irisdrs.shared.crds.cache import Cache  # noqa: PLC0415

    if settings.crds_upstream is not None:
        raise Fatal(
            "Contexts come from the server that IRIS_CRDS_UPSTREAM names.",
            remedy="Deliver to that server, or unset IRIS_CRDS_UPSTREAM.",
        )
    if settings.store_url is None and not settings.data_dir.is_dir():
        raise Fatal(f"There is no folder {settings.data_dir}.", remedy="Name the folder of the data with --data.")
    register()
    process = CrdsProcess()
    with tempfile.TemporaryDirectory(prefix="iris-crds-") as scratch:
        async with open_store(settings, Path(scratch), PATIENCE_S) as store:
            cache = Cache(settings.crds_dir.absolute())
            holdings = StoreHoldings(store, Verifier(cache))
            try:
                yield _Office(Deliveries(store, holdings, cache, process), holdings, cache)
            finally:
                await process.close()


@contextlib.contextmanager
def _refusals(as_json: bool) -> Iterator[None]:
    """For programs, say in JSON what was refused; for people, the command `iris` says it."""
    try:
        yield
    except IrisError as error:
        if not as_json:
            raise
        problems = {name: list(said) for name, said in getattr(error, "problems", {}).items()}
        plain = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy, "problems": problems}
        typer.echo(json.dumps(plain, indent=2))
        raise typer.Exit(REFUSED) from error


def _plain(outcome: "Outcome") -> dict[str, object]:
    references = [
        {"path": str(one.path), "name": one.name, "type": one.type} | asdict(one.published)
        for one in outcome.references
    ]
    return asdict(outcome) | {"references": references}


def _settings(data: Path | None) -> HostSettings:
    settings = HostSettings()
    logs.configure(settings.model_copy(update={"log_level": "error"}))
    return settings if data is None else settings.model_copy(update={"data_dir": data})


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError) as error:
        raise typer.BadParameter("This user has no name: give --by.") from error


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    table = Table(*columns, box=None)
    for column in table.columns:
        column.overflow = "fold"  # names are made to be copied
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED
    console.print(table)
