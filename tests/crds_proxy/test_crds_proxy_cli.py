"""`iris crds` as a user types it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from irisdrs.crds_proxy.cli import app
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.testing.references import CARDS, write_reference, write_references

EXPOSURE = {"DATE-OBS": "2034-08-01", "TIME-OBS": "05:04:03.000"}


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    build_context(tmp_path / "crds", write_references(tmp_path))
    build_context(tmp_path / "crds", [write_reference(tmp_path / "g2.fits", "gain", DETECTOR="IMG2")])
    return tmp_path / "crds"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_list_shows_contexts_and_references(cache: Path) -> None:
    lines = run("list", "--cache", cache).splitlines()
    assert "  tmt_0002.pmap  in force" in lines
    assert any(line.split() == ["gain", "IMG2", "2030-01-01", "00:00:00", "tmt_iris_gain_0002.fits"] for line in lines)
    assert "tmt_iris_gain_0002.fits" not in run("list", "--cache", cache, "--context", "tmt_0001.pmap")


def test_list_of_an_empty_cache_is_empty(tmp_path: Path) -> None:
    assert run("list", "--cache", tmp_path) == f"Contexts in {tmp_path}:\n"


def test_bestrefs_of_a_header(cache: Path) -> None:
    asked = CARDS["dark"] | CARDS["flat"] | EXPOSURE
    options = [part for name, value in asked.items() for part in ("--header", f"{name}={value}")]
    lines = run("bestrefs", "--cache", cache, *options).splitlines()
    assert [line.split()[1] for line in lines[1:]] == [f"tmt_iris_{kind}_0001.fits" for kind in sorted(CARDS)]
    assert all(Path(line.split()[3]).is_file() for line in lines[1:])


def test_bestrefs_asks_for_what_a_context_has(tmp_path: Path) -> None:
    build_context(tmp_path / "crds", [write_reference(tmp_path / "gain.fits", "gain")])
    asked = CARDS["gain"] | EXPOSURE
    options = [part for name, value in asked.items() for part in ("--header", f"{name}={value}")]
    lines = run("bestrefs", "--cache", tmp_path / "crds", *options).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["gain"]


def test_bestrefs_of_a_file_and_what_the_command_line_overrides(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRIS_DATA_DIR", str(tmp_path))
    exposure = write_reference(tmp_path / "read.fits", "", DETECTOR="IMG1", **EXPOSURE)
    assert "tmt_iris_gain_0001.fits" in run("bestrefs", exposure, "--type", "gain")
    override = "meta.instrument.detector=IMG2"
    assert "tmt_iris_gain_0002.fits" in run("bestrefs", exposure, "--type", "gain", "--header", override)
    with pytest.raises(MissingReference, match=r"tmt_0001\.pmap gives no gain"):
        run("bestrefs", exposure, "--type", "gain", "--header", override, "--context", "tmt_0001.pmap")


@pytest.mark.parametrize("arguments", [[], ["--header", "DETECTOR"], ["--header", "=IMG1"]])
def test_bestrefs_without_a_question_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["bestrefs", *arguments]).exit_code == 2
