"""`iris crds deliver|history|diff|rollback` as a user types them."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from irisdrs.crds_proxy.cli import app
from irisdrs.crds_proxy.delivery.results import Refused
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.errors import Fatal
from irisdrs.shared.testing.references import write_certifiable, write_reference


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def run(*arguments: object, code: int = 0) -> Result:
    # As through a pipe: no width of a terminal.
    environment = {"COLUMNS": None}
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False, env=environment)
    assert done.exit_code == code, done.output
    return done


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_delivery_is_seen_compared_and_rolled_back(data: Path, tmp_path: Path) -> None:
    first = write_certifiable(tmp_path / "gain.fits", "gain")
    done = run("deliver", first, "--data", data, "--reason", "the first", "--by", "me")
    assert "tmt_0001.pmap is in force; before: none." in done.stdout
    assert any(line.split() == ["gain", str(first), "tmt_iris_gain_0001.fits"] for line in done.stdout.splitlines())
    assert context_in_force(Cache(data / "crds")) == "tmt_0001.pmap"

    better = write_certifiable(tmp_path / "better.fits", "gain", DESCRIP="better")
    answer = json.loads(run("deliver", better, "--data", data, "--json").stdout)
    assert (answer["old_context"], answer["new_context"], answer["number"]) == ("tmt_0001.pmap", "tmt_0002.pmap", 2)
    assert answer["references"][0]["name"] == "tmt_iris_gain_0002.fits"
    assert answer["mappings"] == ["tmt_0002.pmap", "tmt_iris_0002.imap", "tmt_iris_gain_0002.rmap"]

    (row,) = json.loads(run("diff", "tmt_0001.pmap", "tmt_0002.pmap", "--data", data, "--json").stdout)
    assert row == {
        "type": "gain", "values": "IMG1", "useafter": "2030-01-01 00:00:00",
        "old": "tmt_iris_gain_0001.fits", "new": "tmt_iris_gain_0002.fits",
    }  # fmt: skip
    assert "1 row differs." in run("diff", "tmt_0002.pmap", "tmt_0001.pmap", "--data", data).stdout

    assert "tmt_0001.pmap is in force" in run("rollback", "tmt_0001.pmap", "--reason", "no", "--data", data).stdout
    assert "already" in run("rollback", "tmt_0001.pmap", "--reason", "no", "--data", data).stdout
    assert context_in_force(Cache(data / "crds")) == "tmt_0001.pmap"
    shown = json.loads(run("history", "--data", data, "--json").stdout)
    assert [(one["kind"], one["context"]) for one in shown] == [
        ("delivery", "tmt_0001.pmap"), ("delivery", "tmt_0002.pmap"), ("rollback", "tmt_0001.pmap"),
    ]  # fmt: skip
    assert (shown[0]["by"], shown[0]["reason"], shown[2]["reason"]) == ("me", "the first", "no")
    assert "the first" in run("history", "--data", data).stdout


def test_what_was_delivered_is_at_hand_for_commands_that_know_the_cache_alone(data: Path, tmp_path: Path) -> None:
    file = write_certifiable(tmp_path / "gain.fits", "gain")
    run("deliver", file, "--data", data, "--dry-run")
    cache = Cache(data / "crds")
    assert not cache.path("tmt_iris_gain_0001.fits").exists()
    run("deliver", file, "--data", data)
    assert cache.path("tmt_iris_gain_0001.fits").read_bytes()[:6] == b"SIMPLE"
    asked = ("--header", "DETECTOR=IMG1", "--header", "DATE-OBS=2034-08-01", "--header", "TIME-OBS=00:00:00")
    assert "tmt_iris_gain_0001.fits" in run("bestrefs", *asked, "--type", "gain", "--cache", data / "crds").stdout


def test_the_same_files_again_change_nothing(data: Path, tmp_path: Path) -> None:
    files = [write_certifiable(tmp_path / f"{kind}.fits", kind) for kind in ("gain", "mask")]
    run("deliver", *files, "--data", data)
    before = contents(data / "store")
    assert "nothing was changed" in run("deliver", *reversed(files), "--data", data).stdout
    assert contents(data / "store") == before


def test_a_dry_run_says_what_would_be_and_changes_nothing(data: Path, tmp_path: Path) -> None:
    file = write_certifiable(tmp_path / "gain.fits", "gain")
    assert "tmt_0001.pmap would be in force" in run("deliver", file, "--data", data, "--dry-run").stdout
    assert contents(data / "store") == {}
    assert list((data / "crds" / "deliveries").iterdir()) == []


def test_a_refusal_says_why_for_people_and_for_programs(data: Path, tmp_path: Path) -> None:
    good = write_certifiable(tmp_path / "gain.fits", "gain")
    bad = write_certifiable(tmp_path / "mask.fits", "mask", AUTHOR="")
    with pytest.raises(Refused, match="AUTHOR"):
        run("deliver", good, bad, "--data", data)
    answer = json.loads(run("deliver", good, bad, "--data", data, "--json", code=1).stdout)
    assert answer["error"] == "Refused"
    assert answer["problems"].keys() == {str(bad)}
    assert "AUTHOR" in answer["problems"][str(bad)][0]
    nameless = write_certifiable(tmp_path / "nameless.fits", "mask", REFTYPE="")
    with pytest.raises(Refused, match=r"REFTYPE is missing\. Correct the files"):
        run("deliver", nameless, "--data", data)
    assert contents(data / "store") == {}


def test_the_cache_of_the_host_is_where_history_begins(data: Path, tmp_path: Path) -> None:
    from irisdrs.shared.crds.context import build_context

    build_context(data / "crds", [write_reference(tmp_path / "dark.fits", "dark")])
    assert "import" in run("history", "--data", data).stdout
    run("deliver", write_certifiable(tmp_path / "gain.fits", "gain"), "--data", data)
    shown = json.loads(run("history", "--data", data, "--json").stdout)
    assert [(one["kind"], one["context"]) for one in shown] == [
        ("import", "tmt_0001.pmap"), ("delivery", "tmt_0002.pmap"),
    ]  # fmt: skip
    listed = run("list", "--cache", data / "crds").stdout
    assert "tmt_0002.pmap  in force" in listed
    assert "tmt_iris_dark_0001.fits" in listed


def test_what_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    run("deliver", write_certifiable(tmp_path / "gain.fits", "gain"), "--data", data)
    with pytest.raises(Fatal, match=r"no context 'tmt_0009\.pmap'"):
        run("rollback", "tmt_0009.pmap", "--reason", "x", "--data", data)
    with pytest.raises(Fatal, match="There is no folder"):
        run("history", "--data", tmp_path / "nowhere")
    with pytest.raises(Refused, match="there is no such file"):
        run("deliver", tmp_path / "absent.fits", "--data", data)


def test_contexts_of_a_server_upstream_are_not_changed_here(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IRIS_CRDS_UPSTREAM", "http://127.0.0.1:1")
    with pytest.raises(Fatal, match="Deliver to that server"):
        run("deliver", write_certifiable(tmp_path / "gain.fits", "gain"), "--data", data)
    assert contents(data) == {}
