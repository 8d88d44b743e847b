"""`iris query` on a catalogue file and against a server."""

import contextlib
import json
import threading
import time

import pytest
import typer
import uvicorn
from fastapi import FastAPI
from typer.testing import CliRunner

from irisdrs.archive.api.application import application
from irisdrs.archive.catalogue.engine import CatalogueUnusable
from irisdrs.archive.cli import QueryFailed, app, query


@pytest.fixture
def data(catalogue, put, build):
    """A data directory with a raw frame, its image and an older version of the frame."""
    raw = build.raw(4)
    put(catalogue, raw, build.raw(3, "old"), build.image(4, [raw]))
    return catalogue.engine.url.database.rpartition("/")[0]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    root = typer.Typer()
    root.command("query")(query)
    root.add_typer(app, name="archive")

    def invoke(*arguments):
        return CliRunner().invoke(root, [str(argument) for argument in arguments])

    return invoke


@contextlib.contextmanager
def _serving(web):
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


def test_a_table_for_people(run, data):
    result = run("query", "--data", data)
    assert result.exit_code == 0
    assert "2034B-007-123-IRIS-IMG1-SCI0-0034-L2-image" in result.output
    assert result.output.count("current") == 2
    assert "superseded" not in result.output
    assert "superseded" in run("query", "--data", data, "--all-versions").output
    assert "1 of 2" in run("query", "--data", data, "--limit", 1).output


def test_json_for_programs(run, data):
    page = json.loads(run("query", "--data", data, "--json", "--level", 2).output)
    (row,) = page["products"]
    assert (page["total"], row["kind"], row["reads_used"]) == (1, "image", 4)


def test_the_data_directory_comes_from_the_environment(run, data, monkeypatch):
    monkeypatch.setenv("IRIS_DATA_DIR", data)
    assert json.loads(run("query", "--json").output)["total"] == 2


def test_no_rows_is_an_answer(run, data):
    result = run("query", "--data", data, "--observation", "2034B-007-999")
    assert (result.exit_code, result.output) == (0, "No products match.\n")


@pytest.mark.parametrize(
    "wrong",
    [["--cone", "1,2"], ["--level", "9"], ["--since", "yesterday"], ["--detector", "X"], ["--url", "http://x"]],
)
def test_wrong_usage_is_2(run, data, wrong):
    assert run("query", "--data", data, *wrong).exit_code == 2


def test_no_catalogue_is_a_clear_error(run, tmp_path):
    result = run("query", "--data", tmp_path)
    assert isinstance(result.exception, CatalogueUnusable)  # the root command prints it and exits with 1
    assert "There is no catalogue at" in str(result.exception)


def test_a_server_gives_the_same_answer_as_the_file(run, data, catalogue, store):
    with _serving(application(catalogue, store)) as url:
        for arguments in ([], ["--all-versions"], ["--type", "SCI", "--since", "2034-08-01"], ["--cone", "1,2,3"]):
            by_url = run("query", "--json", *arguments, "--url", url)
            assert by_url.exit_code == 0, by_url.exception
            assert by_url.output == run("query", "--json", *arguments, "--data", data).output


def test_a_server_that_does_not_answer_is_a_clear_error(run):
    result = run("query", "--url", "http://127.0.0.1:9")
    assert isinstance(result.exception, QueryFailed)
    assert "does not answer" in str(result.exception)


def test_what_is_no_archive_is_a_clear_error(run):
    with _serving(FastAPI()) as url:
        result = run("query", "--url", url)
    assert isinstance(result.exception, QueryFailed)
    assert "answered 404" in str(result.exception)


def test_status_counts_what_there_is(run, data):
    assert "level 1 raw frames: 1 current, 1 superseded" in run("archive", "status", "--data", data).output
