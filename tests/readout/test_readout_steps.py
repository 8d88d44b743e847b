"""`strun iris_readout`, run as people do: gives the frame of `iris readout fit`, and `strun iris_image2` takes it."""

import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from irisdrs.readout.cli import app
from irisdrs.readout.coadding import RampWeights
from irisdrs.readout.fitting import JumpTest
from irisdrs.readout.offline import UtrEstimator
from irisdrs.readout.pipelines import get_steps
from irisdrs.readout.pipelines.readout import IrisReadout
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.readout.steps.ramp_fit_step import RampFitStep
from irisdrs.readout.steps.rejection_step import RejectionStep
from irisdrs.shared.crds.registration import client_environment
from irisdrs.shared.data.fits import open_model, open_ramp
from irisdrs.shared.data.models import GainModel, RawFrameModel, ReadnoiseModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.identifiers import SamplingMode as Mode

STRUN = Path(sys.executable).with_name("strun")
#: By their classes: an alias is known once the distribution is installed.
READOUT, IMAGE = ("irisdrs.readout.pipelines.readout.IrisReadout", "irisdrs.calibrate.pipelines.image2.Image2Pipeline")
EXTENSIONS = ("SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE")


def strun(*arguments: object, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("CRDS_")}
    return subprocess.run(
        [STRUN, *map(str, arguments)], cwd=folder, env=inherited | environment, capture_output=True, text=True
    )


def fit(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    assert result.exit_code == 0, result.output


def same_frame(one: Path, other: Path) -> None:
    """Equal pixels, and equal headers but for names and checksums."""
    with fits.open(one) as left, fits.open(other) as right:
        for name in EXTENSIONS:
            np.testing.assert_array_equal(left[name].data, right[name].data)
        for keyword in set(left[0].header) | set(right[0].header):
            if keyword not in ("CHECKSUM", "DATASUM", "FILENAME"):
                assert left[0].header.get(keyword) == right[0].header.get(keyword), keyword


@pytest.fixture
def ramp(bench: Any, tmp_path: Path) -> Path:
    """All reads of the exposure in one file."""
    path = tmp_path / "ramp.fits"
    fit("pack", tmp_path / "store" / "0", "--output", path)
    return path


@pytest.mark.peers
def test_strun_gives_the_frame_of_the_command_and_image2_takes_it(
    bench: Any, tmp_path: Path, exposure: Any, ramp: Path
) -> None:
    crds = client_environment(exposure[2]) | {"CRDS_CONTEXT": bench.plan.crds_context}
    done = strun(READOUT, ramp, f"--output_dir={tmp_path}/made", folder=tmp_path, **crds)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "made").iterdir()
    assert made.name == "ramp-L1-raw.fits"
    command = tmp_path / "frame.fits"
    fit("fit", ramp, "--crds-path", exposure[2], "--context", bench.plan.crds_context, "--output", command)
    same_frame(made, command)
    again = tmp_path / "again.fits"
    fit("fit", ramp, "--mode", "CDS", "--crds-path", exposure[2], "--output", again)
    for frame, mode in ((made, "UTR"), (again, "CDS")):
        reduced = strun(IMAGE, frame, f"--output_dir={tmp_path}/{mode}", folder=tmp_path, **crds)
        assert reduced.returncode == 0, reduced.stderr
        assert "ErfaWarning" not in reduced.stderr
        (image,) = (tmp_path / mode).iterdir()
        with fits.open(image) as hdus:
            assert hdus[0].header["PRODID"].endswith("-L2-image")
            assert hdus[0].header["SAMPMODE"] == mode
            assert np.isfinite(hdus["SCI"].data).mean() > 0.5


@pytest.mark.peers
def test_parameters_of_the_steps_are_the_options_of_the_command(
    bench: Any, tmp_path: Path, exposure: Any, ramp: Path
) -> None:
    crds = client_environment(exposure[2]) | {"CRDS_CONTEXT": bench.plan.crds_context}
    seeing = tmp_path / "seeing.ecsv"
    Table({"time": [0.0, 1.0, 1.5], "value": [0.4, 0.9, 0.5]}).write(seeing)
    readnoise = tmp_path / "readnoise.fits"
    fits.PrimaryHDU(np.full((64, 64), 7.0, np.float32)).writeto(readnoise)
    done = strun(
        READOUT,
        ramp,
        f"--output_file={tmp_path / 'made.fits'}",
        f"--steps.rejection.intervals={seeing}",
        "--steps.rejection.maximum=0.8",
        "--steps.ramp_fit.mode=UTR",
        "--steps.ramp_fit.estimator=least-squares",
        "--steps.ramp_fit.jumps=two-point",
        "--steps.ramp_fit.jump_threshold=5",
        "--steps.ramp_fit.coadd=time",
        "--steps.ramp_fit.grow_saturation=true",
        "--steps.ramp_fit.gain=1.5",
        f"--steps.ramp_fit.override_readnoise={readnoise}",
        folder=tmp_path,
        **crds,
    )
    assert done.returncode == 0, done.stderr
    options = ["--reject-intervals", seeing, "--maximum", "0.8", "--mode", "UTR", "--estimator", "least-squares"]
    options += ["--jumps", "two-point", "--jump-threshold", "5", "--coadd", "time", "--grow-saturation"]
    options += ["--gain", "1.5", "--readnoise", readnoise]
    options += ["--crds-path", exposure[2], "--context", bench.plan.crds_context]
    fit("fit", ramp, *options, "--output", tmp_path / "frame.fits")
    (made,) = tmp_path.glob("made*.fits")
    with fits.open(made) as one, fits.open(tmp_path / "frame.fits") as other:
        for name in EXTENSIONS:
            np.testing.assert_array_equal(one[name].data, other[name].data)
        header = one[0].header
        for keyword in ("ESTIMATR", "JUMPTEST", "JUMPSIG", "INTVREJ", "S_REJECT", "S_JUMP", "READUSED", "R_GAIN"):
            assert header[keyword] == other[0].header[keyword], keyword
        assert (header["ESTIMATR"], header["INTVREJ"], header["S_REJECT"]) == ("LEAST-SQUARES", 2, "COMPLETE")


def foreign(path: Path) -> Path:
    """Two integrations of 100 DN a read, as another program writes them."""
    counts = np.array([[1000, 1100, 1200, 1300], [2000, 2100, 2200, 2300]])
    pixels = np.broadcast_to(counts[:, :, None, None], (2, 4, 5, 6)).astype(np.float32)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(path)
    return path


@pytest.mark.peers
def test_a_foreign_ramp_needs_no_crds(tmp_path: Path) -> None:
    path = foreign(tmp_path / "foreign.fits")
    done = strun(
        READOUT,
        path,
        "--read_time=0.25",
        "--steps.ramp_fit.gain=2",
        "--steps.ramp_fit.readnoise=5",
        f"--output_dir={tmp_path}/made",
        folder=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    with open_model(tmp_path / "made" / "foreign-L1-raw.fits", RawFrameModel) as frame:
        np.testing.assert_allclose(frame.data, 400, rtol=1e-6)
        assert (frame.meta.cal_step.linearity, frame.meta.ref_file.gain.name) == ("SKIPPED", "2.0")
    fit("fit", path, "--read-time", "0.25", "--gain", "2", "--readnoise", "5", "--output", tmp_path / "frame.fits")
    same_frame(tmp_path / "made" / "foreign-L1-raw.fits", tmp_path / "frame.fits")


@pytest.mark.peers
def test_summed_ramps_are_those_of_the_command_and_are_not_reduced(
    bench: Any, tmp_path: Path, exposure: Any, ramp: Path
) -> None:
    crds = client_environment(exposure[2]) | {"CRDS_CONTEXT": bench.plan.crds_context}
    done = strun(READOUT, ramp, "--steps.ramp_fit.coadd=sum", folder=tmp_path, **crds)
    assert done.returncode == 0, done.stderr
    made, command = tmp_path / "ramp-L1-raw.fits", tmp_path / "frame.fits"
    fit("fit", ramp, "--coadd", "sum", "--crds-path", exposure[2], "--output", command)
    same_frame(made, command)
    with fits.open(made) as one, fits.open(command) as other:
        assert one["SCI"].header["BUNIT"] == "DN"
        np.testing.assert_array_equal(one["EXPTIME"].data, other["EXPTIME"].data)
    refused = strun(IMAGE, made, folder=tmp_path, **crds)
    assert refused.returncode == 1
    assert "The pixels are in DN, and what is calibrated are rates" in " ".join(refused.stdout.split())
    assert "Traceback" not in refused.stderr + refused.stdout
    assert not [*tmp_path.glob("*L2*")]


@pytest.mark.peers
def test_bad_input_ends_strun_with_1_and_the_reason_without_a_traceback(tmp_path: Path, ramp: Path) -> None:
    path = foreign(tmp_path / "foreign.fits")
    for arguments, reason in (
        ([path, "--read_time=0.25"], "No gain and no readnoise is known"),
        ([path], "--read-time"),
        ([tmp_path / "absent.fits"], "No such file or directory"),
        ([ramp], "CRDS cannot choose references with CRDS_PATH='nowhere' CRDS_CONTEXT='': there is no cache."),
    ):
        failed = strun(READOUT, *arguments, folder=tmp_path, CRDS_PATH="nowhere")
        assert failed.returncode == 1
        # stpipe breaks lines into a box.
        assert reason in " ".join(failed.stdout.split()), failed.stderr
        assert "Traceback" not in failed.stderr + failed.stdout
    assert not [*tmp_path.glob("*raw*")]


def test_an_error_of_a_step_is_what_it_is_in_python_and_in_another_process(tmp_path: Path) -> None:
    with pytest.raises(CorruptObject, match=r"absent\.fits") as found:
        IrisReadout.call(str(tmp_path / "absent.fits"))
    sent = pickle.loads(pickle.dumps(found.value))
    assert (type(sent), str(sent)) == (CorruptObject, str(found.value))
    assert type(found.value).__name__ == "CorruptObject"


@pytest.mark.peers
def test_the_examples_of_the_page_work(
    bench: Any, tmp_path: Path, exposure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, in one folder; pipelines by their classes."""
    page = (Path(__file__).parents[2] / "services/readout/OFFLINE.md").read_text()
    first, *commands = page.split("```")[1].strip().splitlines()
    assert first.startswith("export CRDS_PATH=demo/crds ")
    crds = client_environment(exposure[2])
    monkeypatch.chdir(tmp_path)
    for name, value in crds.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "reads").symlink_to(tmp_path / "store" / "0", target_is_directory=True)
    foreign(tmp_path / "theirs.fits")
    for command in commands:
        program, *arguments = shlex.split(command.replace("--group-reads 3", "--group-reads 2"), comments=True)
        if program == "iris":
            assert arguments.pop(0) == "readout"
            fit(*arguments)
        else:
            arguments[0] = {"iris_readout": READOUT, "iris_image2": IMAGE}[arguments[0]]
            done = strun(*arguments, folder=tmp_path, **crds)
            assert done.returncode == 0, done.stdout
    made = {path.name for path in tmp_path.glob("*.fits")}
    assert made >= {"frame.fits", "mcds.fits", "fixsen.fits", "rate.fits", "ramp.fits", "ramp-L1-raw.fits"}


def test_steps_take_models_and_leave_them_as_they_are(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = open_ramp(foreign(tmp_path / "foreign.fits"))
    gain, noise = (
        GainModel(data=np.full((5, 6), 2.0, np.float32)),
        ReadnoiseModel(data=np.full((5, 6), 5.0, np.float32)),
    )
    model.read_times = np.tile(np.arange(1, 5) * 0.25, (2, 1))
    seeing = tmp_path / "seeing.ecsv"
    Table({"time": [0.0, 0.6], "value": [0.4, 0.9]}).write(seeing)
    with pytest.raises(Fatal, match="resets of 2 ramps"):
        RejectionStep.call(model, reads=str(seeing), maximum=0.8)
    model.reset_times = np.array([0.0, 10.0])
    marked = RejectionStep.call(model, reads=str(seeing), maximum=0.8)
    assert marked.use_read.tolist() == [[1, 1, 0, 0], [0, 0, 0, 0]]
    assert not model.hasattr("use_read")
    late = tmp_path / "late.ecsv"
    Table({"time": [99.0], "value": [0.9]}).write(late)
    with caplog.at_level("WARNING"):
        assert RejectionStep.call(model, reads=str(late), maximum=0.8).use_read.all()
    assert "late.ecsv covers 99 to 99 s after the reset" in caplog.text
    frame = RampFitStep.call(marked, override_gain=gain, override_readnoise=noise)
    np.testing.assert_allclose(frame.data, 400, rtol=1e-6)
    assert frame.meta.exposure.reads_used == 2
    with pytest.raises(Fatal, match="is no ramp"):
        RampFitStep.call(frame)


def test_the_parameters_of_the_fit_are_all_its_choices() -> None:
    spec = RampFitStep.load_spec_file()
    for name, choices in (("mode", Mode), ("estimator", UtrEstimator), ("jumps", JumpTest), ("coadd", RampWeights)):
        values = ", ".join(f"'{choice}'" for choice in choices)
        assert spec[name] == f"option({values}, default=None)"
    algorithms = ", ".join(f"'{one}'" for one in ReferenceAlgorithm)
    assert spec["reference_algorithm"] == f"option({algorithms}, default='mean')"


def test_neither_the_service_nor_the_command_imports_stpipe() -> None:
    code = "import sys, irisdrs.readout.main, irisdrs.readout.cli; print({'stpipe', 'crds'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_entry_point_names_what_there_is() -> None:
    assert get_steps() == [
        (f"{step.__module__}.{step.__name__}", step.class_alias, step is IrisReadout)
        for step in (IrisReadout, RejectionStep, RampFitStep)
    ]
