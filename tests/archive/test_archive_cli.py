"""`iris query` on a catalogue file and against a server."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner, Result

from irisdrs.archive.api.application import application
from irisdrs.archive.catalogue.engine import Catalogue, CatalogueUnusable
from irisdrs.archive.cli import QueryFailed, app, query
from irisdrs.shared.store.directory import DirectoryStore

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Put

Run = Callable[[*tuple[object, ...]], Result]


@pytest.fixture
def data(catalogue: Catalogue, put: "Put", build: "Builder") -> str:
    """A data directory with a raw frame, its image and an older version of the frame."""
    raw = build.raw(4)
    put(catalogue, raw, build.raw(3, "old"), build.image(4, [raw]))
    return str(catalogue.engine.url.database).rpartition("/")[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COLUMNS", "200")
    root = typer.Typer()
    root.command("query")(query)
    root.add_typer(app, name="archive")

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(root, [str(argument) for argument in arguments])

    return invoke


@contextlib.contextmanager
def _serving(web: FastAPI) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(web, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def test_a_table_for_people(run: Run, data: str) -> None:
    result = run("query", "--data", data)
    assert result.exit_code == 0
    assert "2034B-007-123-IRIS-IMG1-SCI0-0034-L2-image" in result.output
    assert result.output.count("current") == 2
    assert "superseded" not in result.output
    assert "superseded" in run("query", "--data", data, "--all-versions").output
    assert "1 of 2" in run("query", "--data", data, "--limit", 1).output


def test_json_for_programs(run: Run, data: str) -> None:
    page = json.loads(run("query", "--data", data, "--json", "--level", 2).output)
    (row,) = page["products"]
    assert (page["total"], row["kind"], row["reads_used"]) == (1, "image", 4)


def test_the_data_directory_comes_from_the_environment(run: Run, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_DATA_DIR", data)
    assert json.loads(run("query", "--json").output)["total"] == 2


def test_no_rows_is_an_answer(run: Run, data: str) -> None:
    result = run("query", "--data", data, "--observation", "2034B-007-999")
    assert (result.exit_code, result.output) == (0, "No products match.\n")


@pytest.mark.parametrize(
    "wrong",
    [["--cone", "1,2"], ["--level", "9"], ["--since", "yesterday"], ["--detector", "X"], ["--url", "http://x"]],
)
def test_wrong_usage_is_2(run: Run, data: str, wrong: list[str]) -> None:
    assert run("query", "--data", data, *wrong).exit_code == 2


def test_no_catalogue_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    result = run("query", "--data", tmp_path)
    assert isinstance(result.exception, CatalogueUnusable)  # the root command prints it and exits with 1
    assert "There is no catalogue at" in str(result.exception)


def test_a_server_gives_the_same_answer_as_the_file(
    run: Run, data: str, catalogue: Catalogue, store: DirectoryStore
) -> None:
    with _serving(application(catalogue, store)) as url:
        for arguments in ([], ["--all-versions"], ["--type", "SCI", "--since", "2034-08-01"], ["--cone", "1,2,3"]):
            by_url = run("query", "--json", *arguments, "--url", url)
            assert by_url.exit_code == 0, by_url.exception
            assert by_url.output == run("query", "--json", *arguments, "--data", data).output


def test_a_server_that_does_not_answer_is_a_clear_error(run: Run) -> None:
    result = run("query", "--url", "http://127.0.0.1:9")
    assert isinstance(result.exception, QueryFailed)
    assert "does not answer" in str(result.exception)


def test_what_is_no_archive_is_a_clear_error(run: Run) -> None:
    with _serving(FastAPI()) as url:
        result = run("query", "--url", url)
    assert isinstance(result.exception, QueryFailed)
    assert "answered 404" in str(result.exception)


def test_status_counts_what_there_is(run: Run, data: str) -> None:
    assert "level 1 raw frames: 1 current, 1 superseded" in run("archive", "status", "--data", data).output
