"""`strun` and `iris calibrate run`, as a person runs them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

from irisdrs.calibrate.cli import app
from irisdrs.calibrate.steps.dark_sub_step import DarkSubStep
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.registration import client_environment
from irisdrs.shared.data.fits import open_model
from irisdrs.shared.data.models import RawFrameModel

if TYPE_CHECKING:
    from tests.calibrate.conftest import Night

PRODUCT = "2034B-007-123-IRIS-IMG2-SCI0-0034-L2-image.fits"
STRUN = Path(sys.executable).with_name("strun")
STEPS = {"mask": "dq_init", "dark": "dark_sub", "flat": "flat_field", "gain": "gain_scale"}


def strun(*arguments: str | Path, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRDS_")}
    return subprocess.run(
        [STRUN, *map(str, arguments)], cwd=folder, env=inherited | environment, capture_output=True, text=True
    )


@pytest.mark.peers
def test_strun_with_overrides_and_with_crds_gives_the_same_image(files: "Night", tmp_path: Path) -> None:
    """All references by hand without any CRDS cache; then all by CRDS; then the command line of IRIS."""
    by_hand, by_crds = tmp_path / "hand", tmp_path / "crds"
    overrides = [f"--steps.{STEPS[kind]}.override_{kind}={path}" for kind, path in files.references.items()]
    done = strun("iris_image2", files.raw, f"--output_dir={by_hand}", *overrides, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in by_hand.iterdir()] == [PRODUCT]

    cache = tmp_path / "cache"
    context = build_context(cache, list(files.references.values()))
    done = strun("iris_image2", files.raw, f"--output_dir={by_crds}", folder=tmp_path, **client_environment(cache))
    assert done.returncode == 0, done.stderr

    runner = CliRunner()
    arguments = [str(files.raw), "--crds-path", str(cache), "--context", context, "--output", str(tmp_path / "iris")]
    answer = runner.invoke(app, ["run", *arguments, "--json"])
    assert answer.exit_code == 0, answer.output
    (row,) = json.loads(answer.stdout)
    assert row["product"] == str(tmp_path / "iris" / PRODUCT)

    with fits.open(by_hand / PRODUCT) as hand, fits.open(by_crds / PRODUCT) as crds, fits.open(row["product"]) as iris:
        assert hand[0].header["R_DARK"] == crds[0].header["R_DARK"] == "crds://tmt_iris_dark_0001.fits"
        assert iris[0].header["CRDS_CTX"] == crds[0].header["CRDS_CTX"] == context
        assert "CRDS_CTX" not in hand[0].header
        for name in ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"):
            assert np.array_equal(hand[name].data, crds[name].data, equal_nan=name != "DQ")
            assert np.array_equal(hand[name].data, iris[name].data, equal_nan=name != "DQ")


def test_one_step_alone_leaves_its_input_as_it_is(files: "Night", tmp_path: Path) -> None:
    raw = open_model(files.raw, RawFrameModel)
    before = raw.data.copy()
    dark = str(files.references["dark"])
    result = DarkSubStep.call(raw, override_dark=dark, output_dir=str(tmp_path), save_results=True)
    assert np.allclose(result.data, before - 0.25)
    assert np.array_equal(raw.data, before)
    assert raw.meta.cal_step.dark_sub is None
    (made,) = tmp_path.iterdir()
    assert made.name == PRODUCT.replace("L2-image", "dark_sub")
    with fits.open(made) as written:
        assert written[0].header["S_DARK"] == "COMPLETE"
        assert "S_FLAT" not in written[0].header


def test_failures_have_exit_codes_and_reasons(files: "Night", tmp_path: Path) -> None:
    runner = CliRunner()
    missing = runner.invoke(app, ["run", str(files.raw), "--json", "--override", f"dark={files.references['dark']}"])
    assert missing.exit_code == 1
    (row,) = json.loads(missing.stdout)
    assert row["error"] == "MissingReference"
    for kind in ("flat", "gain", "mask"):
        assert kind in row["message"]

    everything = [f"--override={kind}={path}" for kind, path in files.references.items()]
    text = tmp_path / "text.fits"
    text.write_text("this is no FITS file")
    arguments = [str(text), str(tmp_path / "absent.fits"), str(files.raw), "--output", str(tmp_path), "--json"]
    mixed = runner.invoke(app, ["run", *arguments, *everything])
    assert mixed.exit_code == 1
    rows = json.loads(mixed.stdout)
    assert [row.get("error") for row in rows] == ["CorruptObject", "CorruptObject", None], "one bad file stops no other"
    assert Path(rows[2]["product"]).is_file()
    assert not list(tmp_path.glob("*.part"))

    wrong = runner.invoke(app, ["run", str(files.raw), "--override", "darkness"])
    assert wrong.exit_code == 2
    assert "TYPE=FILE" in wrong.output


@pytest.mark.peers
def test_a_frame_that_crds_has_no_references_for_ends_strun_without_a_traceback(files: "Night", tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build_context(cache, [files.references["flat"]])
    for environment, reason in (
        (client_environment(cache), "No match found"),
        (client_environment(cache) | {"CRDS_CONTEXT": "tmt_9999.pmap"}, "tmt_9999.pmap"),
        ({"CRDS_PATH": str(tmp_path / "nowhere")}, "there is no cache. Set CRDS_PATH to a CRDS cache"),
    ):
        failed = strun("iris_image2", files.raw, folder=tmp_path, **environment)
        assert failed.returncode == 1
        assert reason in " ".join(failed.stdout.split()), failed.stdout + failed.stderr
        assert "step_from_cmdline" not in failed.stderr, "a traceback, though the client of CRDS may log one of its own"


def test_a_table_for_people(files: "Night", tmp_path: Path) -> None:
    everything = [f"--override={kind}={path}" for kind, path in files.references.items()]
    shown = CliRunner().invoke(app, ["run", str(files.raw), "--output", str(tmp_path), *everything])
    assert shown.exit_code == 0, shown.output
    assert "sky" in shown.stdout
    assert (tmp_path / PRODUCT).is_file()
