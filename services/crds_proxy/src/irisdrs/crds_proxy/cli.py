"""`iris crds`: which references CRDS chooses, and what a cache holds."""

import asyncio
import contextlib
import functools
import json
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, time
from pathlib import Path
from typing import Annotated

import typer

from irisdrs.crds_proxy.delivery.command import PATIENCE_S, deliver, diff, history, rollback
from irisdrs.shared.crds.parameters import matching_parameters
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import Fatal
from irisdrs.shared.observation import read_plan
from irisdrs.shared.references import References
from irisdrs.shared.settings import HostSettings

app = typer.Typer(
    help="Calibration references: the best for a header, what is in force, and how to change it.", no_args_is_help=True
)

_CacheOption = Annotated[Path | None, typer.Option(help="CRDS cache [default: crds in $IRIS_DATA_DIR, data/crds]")]
_ContextOption = Annotated[str, typer.Option(help="Context, e.g. tmt_0001.pmap [default: the one in force]")]


@app.command()
def bestrefs(
    file: Annotated[Path | None, typer.Argument(help="FITS file whose header asks")] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(help="name=value, a FITS keyword or data model path; repeat it. Overrides the file's"),
    ] = None,
    types: Annotated[
        list[str] | None, typer.Option("--type", help="Reference type; repeat it [default: all there are]")
    ] = None,
    context: _ContextOption = "",
    cache: _CacheOption = None,
) -> None:
    """Print the best reference of each type, after verifying the files."""
    # The CRDS client takes most of a second to import: other commands of `iris` do without it.
    from irisdrs.crds_proxy.contents import types_for  # noqa: PLC0415
    from irisdrs.crds_proxy.main import open_references  # noqa: PLC0415
    from irisdrs.shared.crds.file_header import read_header  # noqa: PLC0415

    if file is None and not header:
        raise typer.BadParameter("name a file, or give --header name=value")
    # From low to high: the instrument that there is, the file, the command line.
    asked = {"INSTRUME": "IRIS"} | (read_header(file) if file else {})
    given = dict(_pair(text) for text in header or [])
    asked = {name: value for name, value in asked.items() if not _overridden(name, given)} | given
    references = open_references(_cache_dir(cache))

    async def ask() -> None:
        chosen = context or await references.default_context()
        wanted = list(types or ()) or await asyncio.to_thread(types_for, _cache_dir(cache), chosen, asked)
        found = await references.best_references(asked, wanted, chosen)
        typer.echo(f"Under {chosen}:")
        _print_columns([(each.type, each.name, each.sha256, str(each.path)) for each in found.values()])

    asyncio.run(ask())


@app.command("list")
def list_(context: _ContextOption = "", cache: _CacheOption = None) -> None:
    """List the contexts of a cache, and the references of one of them."""
    from irisdrs.crds_proxy.contents import contexts, references_of  # noqa: PLC0415

    directory = _cache_dir(cache)
    known = contexts(directory)
    typer.echo(f"Contexts in {directory}:")
    _print_columns([(name, "in force" if in_force else "") for name, in_force in known.items()])
    chosen = context or next((name for name, in_force in known.items() if in_force), "")
    if chosen:
        typer.echo(f"References of {chosen}:")
        _print_columns(references_of(directory, chosen))


app.command()(deliver)
app.command()(history)
app.command()(diff)
app.command()(rollback)


@app.command("import")
def import_(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="CRDS cache of the first form")
    ],
    context: Annotated[str, typer.Option(help="Its context [default: the one in force in it]")] = "",
    cache: _CacheOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table")] = False,
) -> None:
    """Take over the references that another cache chooses, in the vocabulary of now, by one new context.

    What it names but has not, and what has no place among the types of now, is listed and left out. DIR stays as it
    is. Exit status: 0 when everything was taken, 1 when something was not, 2 for wrong usage.
    """
    from irisdrs.crds_proxy.importing import Fate, fate_of, import_cache  # noqa: PLC0415
    from irisdrs.shared.crds.context import add_described  # noqa: PLC0415

    target = _cache_dir(cache)
    if target.resolve() == directory.resolve():
        raise typer.BadParameter(f"{directory} is the cache that it would be imported into; name another with --cache")
    done = import_cache(directory, functools.partial(add_described, target), context, dry_run=dry_run)
    rows = [(row.type, row.configuration, row.useafter, row.file, fate_of(row), row.problem) for row in done.rows]
    if as_json:
        names = ("type", "configuration", "useafter", "file", "fate", "problem")
        facts = {
            "source": done.source,
            "context": done.context,
            "rows": [dict(zip(names, row, strict=True)) for row in rows],
        }
        typer.echo(json.dumps(facts, indent=1))
    else:
        taken = sum(row[4] is Fate.TAKEN for row in rows)
        what = "would be taken" if dry_run else f"are taken by {done.context}" if done.context else "are taken"
        typer.echo(f"{taken} of {len(rows)} references of {done.source} {what}:")
        _print_columns(rows)
    if not done.complete:
        raise typer.Exit(1)


@app.command()
def missing(
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", exists=True, dir_okay=False, help="Plan, JSON")],
    context: _ContextOption = "",
    cache: _CacheOption = None,
    at: Annotated[
        datetime | None, typer.Option(help="When it is observed (UTC) [default: the end of the night's UT date]")
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="Type that a setting asks for besides: refpix if reference pixels are used by sirs; repeat it"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table")] = False,
) -> None:
    """Say which calibrations are missing for a planned observation, of all that the pipelines will ask for.

    Without --cache, what the cache of this host has not comes from where its settings say: crds_proxy, the server
    upstream or the store.

    Exit status: 0 when none is missing, 1 when some are, 2 for wrong usage.
    """
    from irisdrs.crds_proxy.missing import missing_references  # noqa: PLC0415

    unknown = [kind for kind in also or () if kind not in reference_types()]
    if unknown:
        raise typer.BadParameter(f"there is no reference type {unknown[0]}", param_hint="--also")
    plan = read_plan(plan_file)
    moment = at or datetime.combine(plan.night, time.max)

    async def ask() -> bool:
        async with _references(cache) as references:
            chosen = context or await references.default_context()
            found, asked = await missing_references(references, plan, chosen, moment, also or ())
        if as_json:
            facts = {"observation": plan.observation, "context": chosen, "at": moment.isoformat(), "asked": asked}
            typer.echo(json.dumps(facts | {"missing": [asdict(each) for each in found]}, indent=1))
        else:
            typer.echo(f"{len(found)} of {asked} references are missing for {plan.observation} under {chosen}.")
            _print_columns([(each.detector, each.type, _words(each.configuration), each.reason) for each in found])
        return bool(found)

    if asyncio.run(ask()):
        raise typer.Exit(1)


@app.command()
def serve() -> None:
    """Answer questions about references as a service, over HTTP, until SIGTERM.

    Settings are environment variables: IRIS_DATA_DIR (the cache is its folder crds), IRIS_CRDS_HOST, IRIS_CRDS_PORT,
    IRIS_AMQP_URL and more, see the README.
    """
    from irisdrs.crds_proxy.main import compose  # noqa: PLC0415
    from irisdrs.shared.serve import run_service  # noqa: PLC0415

    settings = HostSettings()
    run_service("crds_proxy", compose, (settings.crds_host, settings.crds_port))


@contextlib.asynccontextmanager
async def _references(cache: Path | None) -> AsyncIterator[References]:
    """Those of a cache, or those that a service of this host would use."""
    from irisdrs.crds_proxy.main import open_references  # noqa: PLC0415
    from irisdrs.shared import adapters  # noqa: PLC0415

    if cache is not None:
        yield open_references(cache)
        return
    settings = HostSettings()
    is_served = settings.crds_url or settings.crds_upstream or settings.store_url
    if not is_served and not settings.data_dir.is_dir():
        raise Fatal(
            f"There is no folder {settings.data_dir}.", remedy="Name a cache with --cache, or set IRIS_DATA_DIR."
        )
    with tempfile.TemporaryDirectory(prefix="iris-crds-") as scratch:
        async with (
            adapters.open_store(settings, Path(scratch), PATIENCE_S) as store,
            adapters.open_references(settings, store) as references,
        ):
            yield references


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns, whole: names and paths are made to be copied."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        typer.echo("  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _words(values: Mapping[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items())


def _cache_dir(given: Path | None) -> Path:
    return given if given is not None else HostSettings().crds_dir


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise typer.BadParameter(f"--header {text!r} is not name=value")
    return name, value


def _overridden(name: str, given: dict[str, str]) -> bool:
    return bool(matching_parameters({name: ""}).keys() & matching_parameters(given).keys())
