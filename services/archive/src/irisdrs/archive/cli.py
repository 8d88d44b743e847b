"""`iris archive` and `iris query`."""

import os
from datetime import datetime
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import ValidationError
from rich.console import Console

from irisdrs.archive.catalogue.engine import FILE_NAME, open_existing
from irisdrs.archive.catalogue.query import find
from irisdrs.archive.catalogue.selection import MAX_PAGE, Cone, ProductFilter, ProductPage
from irisdrs.archive.table import print_page
from irisdrs.shared.errors import IrisError
from irisdrs.shared.identifiers import Detector, ExposureType

app = typer.Typer(help="The archive: catalogue of reads and products.", no_args_is_help=True)

#: How long a server may take to answer a query, seconds: many times the slowest one.
TIMEOUT_S = 30.0

Data = Annotated[Path | None, typer.Option(help="Data directory [default: $IRIS_DATA_DIR, data]")]


class QueryFailed(IrisError):
    """The archive's server did not answer the question."""


@app.command()
def serve() -> None:
    """Keep the catalogue as a service: events from the bus to rows, questions and downloads over HTTP, until SIGTERM.

    Settings are environment variables: IRIS_AMQP_URL, IRIS_STORE_URL, IRIS_ARCHIVE_HOST, IRIS_ARCHIVE_PORT and more,
    see the README.
    """
    from irisdrs.archive.main import compose  # noqa: PLC0415 - the other commands start sooner without
    from irisdrs.shared.serve import run_service  # noqa: PLC0415
    from irisdrs.shared.settings import HostSettings  # noqa: PLC0415

    settings = HostSettings()
    run_service("archive", compose, (settings.archive_host, settings.archive_port))


@app.command()
def status(data: Data = None) -> None:
    """Count what the catalogue of a data directory has."""
    catalogue = open_existing(_data_dir(data) / FILE_NAME)
    console = Console()
    with catalogue.read() as session:
        for level, name in enumerate(("reads", "raw frames", "reduced frames", "combined products")):
            current = find(session, ProductFilter(level=level), limit=1).total
            every = find(session, ProductFilter(level=level, all_versions=True), limit=1).total
            console.print(f"level {level} {name}: {current} current, {every - current} superseded or in conflict")
    catalogue.close()


def query(
    observation: Annotated[str | None, typer.Option(help="Observation id, such as 2034B-007-123")] = None,
    exposure: Annotated[int | None, typer.Option(help="Exposure number")] = None,
    detector: Annotated[Detector | None, typer.Option(help="Detector")] = None,
    level: Annotated[int | None, typer.Option(help="0 read, 1 raw frame, 2 reduced, 3 combined")] = None,
    exposure_type: Annotated[ExposureType | None, typer.Option("--type", help="Exposure type")] = None,
    kind: Annotated[str | None, typer.Option(help="Kind of product: read, raw, image")] = None,
    since: Annotated[str | None, typer.Option(help="Last photon at or after (ISO 8601, UTC)")] = None,
    until: Annotated[str | None, typer.Option(help="Last photon before (ISO 8601, UTC)")] = None,
    cone: Annotated[str | None, typer.Option(help="RA,DEC,RADIUS in degrees: footprints that overlap")] = None,
    all_versions: Annotated[
        bool, typer.Option("--all-versions", help="Superseded and conflicting versions too")
    ] = False,
    limit: Annotated[int, typer.Option(help="Most rows", min=1, max=MAX_PAGE)] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table")] = False,
    url: Annotated[str | None, typer.Option(help="Ask a running archive, such as http://127.0.0.1:8080")] = None,
    data: Data = None,
) -> None:
    """Find products in the archive: by observation, exposure, detector, level, type, time and place on the sky."""
    if url is not None and data is not None:
        raise typer.BadParameter("give either --url or --data")
    try:
        wanted = ProductFilter(
            observation=observation,
            exposure=exposure,
            exposure_type=exposure_type,
            detector=detector,
            level=level,
            kind=kind,
            since=_time(since),
            until=_time(until),
            cone=None if cone is None else Cone.parse(cone),
            all_versions=all_versions,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    page = _ask_server(url, wanted, limit) if url else _ask_file(_data_dir(data) / FILE_NAME, wanted, limit)
    if as_json:
        typer.echo(page.model_dump_json(indent=2))
    else:
        print_page(page, Console())


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _data_dir(data: Path | None) -> Path:
    return data or Path(os.environ.get("IRIS_DATA_DIR", "data"))


def _ask_file(path: Path, wanted: ProductFilter, limit: int) -> ProductPage:
    catalogue = open_existing(path)
    try:
        with catalogue.read() as session:
            return find(session, wanted, limit=limit)
    finally:
        catalogue.close()


def _ask_server(url: str, wanted: ProductFilter, limit: int) -> ProductPage:
    if not url.startswith(("http://", "https://")):
        raise QueryFailed(f"{url!r} is no URL.", remedy="Write it as http://127.0.0.1:8080.")
    parameters = wanted.model_dump(mode="json", exclude_none=True, exclude={"cone", "exposure_type"})
    parameters["limit"] = limit
    if wanted.exposure_type is not None:
        parameters["type"] = str(wanted.exposure_type)
    if wanted.cone is not None:
        parameters["cone"] = f"{wanted.cone.ra_deg!r},{wanted.cone.dec_deg!r},{wanted.cone.radius_deg!r}"
    try:
        response = httpx.get(f"{url.rstrip('/')}/api/products", params=parameters, timeout=TIMEOUT_S)
        if response.is_error:
            raise QueryFailed(f"{url} answered {response.status_code}: {problem_detail(response)}")
        return ProductPage.model_validate_json(response.content)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise QueryFailed(f"{url} does not answer: {error}.", remedy="Is it up? `iris up` starts one.") from error
    except ValidationError as error:
        raise QueryFailed(f"{url} gave no list of products.", remedy="Is it an archive of this version?") from error


def problem_detail(response: httpx.Response) -> str:
    """What a server says of its refusal."""
    try:
        problem = response.json()
    except ValueError:
        return response.reason_phrase
    return str(problem.get("detail", problem)) if isinstance(problem, dict) else str(problem)
