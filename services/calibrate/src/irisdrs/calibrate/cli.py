"""`iris calibrate`: serve a lane, or reduce files from the command line."""

import functools
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from irisdrs.calibrate.job import REFERENCE_TYPES, Reduced
from irisdrs.shared.bus.topology import Lane
from irisdrs.shared.errors import IrisError

app = typer.Typer(help="Reduce raw science frames: as a service, or offline.", no_args_is_help=True)

#: Nice value of a bulk process beside its workers: it fetches and hashes, and must still answer the broker in time.
BULK_NICE = 10


@app.command()
def serve(
    lane: Annotated[Lane, typer.Option(help="Queue to work on; each lane is a process of its own")] = "realtime",
) -> None:
    """Reduce frames as a service, from one lane's queue, until SIGTERM.

    Settings are environment variables: IRIS_AMQP_URL, IRIS_STORE_URL, IRIS_CRDS_URL and more, see the README.
    """
    from irisdrs.calibrate.main import compose  # noqa: PLC0415 - the command line without a bus starts sooner
    from irisdrs.shared.serve import run_service  # noqa: PLC0415

    if lane == "bulk":
        os.nice(BULK_NICE)
    run_service(f"calibrate-{lane}", functools.partial(compose, lane=lane))


@app.command()
def run(
    raw: Annotated[list[Path], typer.Argument(help="Raw science frames (level 1), FITS")],
    override: Annotated[
        list[str] | None, typer.Option(metavar="TYPE=FILE", help="Use this file as the reference of its type")
    ] = None,
    crds_path: Annotated[
        Path | None, typer.Option(envvar="CRDS_PATH", help="CRDS cache for all other references")
    ] = None,
    context: Annotated[
        str | None, typer.Option(envvar="CRDS_CONTEXT", help="CRDS context [default: the one in force in the cache]")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder of the reduced images")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON list instead of a table")] = False,
) -> None:
    """Reduce raw science frames of the imager to images in electron/s.

    Every frame is tried. Exit status: 0 when all were reduced, 1 when a frame failed, 2 for wrong usage.
    """
    overrides = dict(_parse_override(text) for text in override or [])
    # Importing the pipeline takes seconds: only this command pays for it.
    from irisdrs.calibrate.offline import reduce_file  # noqa: PLC0415
    from irisdrs.shared.crds.library import Library  # noqa: PLC0415

    library = Library(overrides, crds_path, context)
    console = Console(stderr=True)
    rows = []
    with Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress:
        for path in progress.track(raw, description="Reducing"):
            try:
                product, reduced = reduce_file(path, library, output)
                rows.append(_row(path, product, reduced))
            except IrisError as error:
                rows.append({"raw": str(path), "error": type(error).__name__, "message": str(error)})
                console.print(f"[red]{type(error).__name__}:[/] {error}", highlight=False)
    if as_json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
    else:
        Console().print(_table(rows))
    if any("error" in row for row in rows):
        raise typer.Exit(1)


def _parse_override(text: str) -> tuple[str, Path]:
    kind, equals, file = text.partition("=")
    if not equals or not file or kind not in REFERENCE_TYPES:
        raise typer.BadParameter(f"{text!r} is not TYPE=FILE with TYPE one of {', '.join(REFERENCE_TYPES)}")
    return kind, Path(file)


def _row(raw: Path, product: Path, reduced: Reduced) -> dict[str, object]:
    return {
        "raw": str(raw),
        "product": str(product),
        "sha256": reduced.sha256,
        "size": reduced.size,
        "quality": dict(reduced.quality),
    }


def _table(rows: list[dict[str, object]]) -> Table:
    table = Table("frame", "result", "sky [e-/s]", "noise [e-/s]", "bad pixels")
    for row in rows:
        quality = row.get("quality")
        figures = quality if isinstance(quality, dict) else {}
        table.add_row(
            Path(str(row["raw"])).name,
            str(row.get("product") or row["error"]),
            *(f"{figures[name]:.4g}" if name in figures else "" for name in ("sky_level", "sky_noise", "bad_fraction")),
        )
    return table
