"""`iris readout fit` and `pack`: the same arithmetic from files, without a bus."""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner, Result

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.calibration import REFERENCE_TYPES
from irisdrs.readout.cli import app
from irisdrs.readout.offline_commands import write_new
from irisdrs.shared.data.fits import decode_read, encode_read, open_model, read_header
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events import ReadWritten
from irisdrs.shared.quality import Quality

PLANES = ("data", "err", "var_poisson", "var_rnoise", "dq")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


async def _options(bench: Any, tmp_path: Path, crds: Path) -> list[str]:
    header = read_header(tmp_path / "store" / bench.reads[0].object.key)
    found = await open_references(crds).best_references(
        header.crds_parameters(), REFERENCE_TYPES, bench.plan.crds_context
    )
    return [option for kind, one in found.items() for option in (f"--{kind}", str(one.path))]


def planes(path: Path) -> list[np.ndarray]:
    with open_model(path, RawFrameModel) as model:
        return [np.asarray(getattr(model, name)) for name in PLANES]


async def test_fits_files_as_the_service_does(bench: Any, tmp_path: Path, exposure: Any) -> None:
    options = await _options(bench, tmp_path, exposure[2])
    output = tmp_path / "frame.fits"
    folder = tmp_path / "store" / "0"
    result = run("fit", folder, *options, "--output", output, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["reads_used"], said["reads_expected"], said["reads_missing"]) == (8, 8, 0)
    handlers = bench.new_handlers().handlers()
    frame = None
    for event in bench.events:
        for answer in await handlers[type(event)](event):
            frame = answer if hasattr(answer, "product_id") else frame
    assert frame is not None
    data = await bench.store.get(frame.object)
    with open_model(output, RawFrameModel) as offline, open_model(data, RawFrameModel) as online:
        assert offline.meta.product.id == online.meta.product.id
        for name in PLANES:
            np.testing.assert_array_equal(np.asarray(getattr(offline, name)), np.asarray(getattr(online, name)))
        assert offline.meta.exposure.estimator == online.meta.exposure.estimator == "LIKELIHOOD"
        assert offline.meta.cal_step.jump == online.meta.cal_step.jump == "COMPLETE"


async def test_a_packed_ramp_gives_the_bits_of_its_reads(bench: Any, tmp_path: Path, exposure: Any) -> None:
    options = await _options(bench, tmp_path, exposure[2])
    folder, ramp = tmp_path / "store" / "0", tmp_path / "ramp.fits"
    packed = run("pack", folder, "--output", ramp)
    assert packed.exit_code == 0, packed.output
    assert "8 reads of 8" in packed.stdout
    for choice in (
        [],
        ["--mode", "CDS"],
        ["--mode", "MCDS", "--group-reads", "2"],
        ["--mode", "SINGLE"],
        ["--estimator", "optimal"],
        ["--estimator", "fixsen", "--jumps", "two-point", "--coadd", "time", "--grow-saturation"],
    ):
        outputs = [tmp_path / f"{'-'.join(choice)}{name}.fits" for name in ("-reads", "-ramp")]
        for given, output in zip((folder, ramp), outputs, strict=True):
            result = run("fit", given, *options, *choice, "--output", output)
            assert result.exit_code == 0, result.output
        assert outputs[0].read_bytes() == outputs[1].read_bytes()


async def test_references_come_from_crds_unless_they_are_given(bench: Any, tmp_path: Path, exposure: Any) -> None:
    by_hand = await _options(bench, tmp_path, exposure[2])
    folder = tmp_path / "store" / "0"
    by_crds = ["--crds-path", str(exposure[2]), "--context", bench.plan.crds_context]
    some = by_hand[:4]
    results = [
        run("fit", folder, *given, "--output", tmp_path / f"{number}.fits", "--json")
        for number, given in enumerate((by_hand, by_crds, [*by_crds, *some]))
    ]
    assert [result.exit_code for result in results] == [0, 0, 0], [result.output for result in results]
    for number in (1, 2):
        for one, other in zip(planes(tmp_path / "0.fits"), planes(tmp_path / f"{number}.fits"), strict=True):
            np.testing.assert_array_equal(one, other)
    with open_model(tmp_path / "1.fits", RawFrameModel) as model:
        assert model.meta.ref_file.gain.name.startswith("crds://")
        assert model.meta.ref_file.crds.context_used == bench.plan.crds_context
    missing = run("fit", folder, *some, "--output", tmp_path / "never.fits")
    assert type(missing.exception).__name__ == "MissingReference"
    assert not (tmp_path / "never.fits").exists()


def ramp_file(path: Path, pixels: np.ndarray) -> Path:
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(pixels, name="SCI")]).writeto(path)
    return path


def sample_like(path: Path) -> Path:
    """A file like the sample ramp of the C library: 4000 DN a read from 0 on, floats."""
    pixels = np.arange(4)[None, :, None, None] * np.full((10, 10), 4000)
    return ramp_file(path, pixels.astype(">f4"))


FOREIGN = ("--read-time", "0.5", "--gain", "2", "--readnoise", "6")


def test_a_foreign_ramp_needs_few_words_and_says_what_was_not_done(tmp_path: Path) -> None:
    ramp = sample_like(tmp_path / "sample.fits")
    for choice in ([], ["--estimator", "least-squares"], ["--mode", "CDS"]):
        output = tmp_path / f"{'-'.join(choice)}.fits"
        result = run("fit", ramp, *FOREIGN, *choice, "--output", output, "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        assert said["median_rate_dn_s"] == pytest.approx(8000, rel=1e-6)
        assert (said["exposure"], said["reads_used"]) == (None, 4)
        assert said["steps_not_done"][:4] == ["rejection", "saturation", "refpix", "linearity"]
        with open_model(output, RawFrameModel) as model:
            assert (model.meta.cal_step.linearity, model.meta.cal_step.ramp_fit) == ("SKIPPED", "COMPLETE")
            assert (np.asarray(model.dq) == Quality.AD_FLOOR).all(), "the first read is at the floor of a converter"
    told = run("fit", ramp, *FOREIGN, "--output", tmp_path / "told.fits")
    assert all(told.stderr.splitlines()), "no empty line, where a terminal has a bar"


def test_the_worked_example_of_the_documentation(tmp_path: Path) -> None:
    """Seeing is poor from 2.1 to 2.9 s, and three times the light comes in: the frame is right without it."""
    light = np.array([1, 1, 1, 1, 3, 3, 1, 1]) * 50
    counts = 2000 + np.cumsum(light)
    ramp = ramp_file(tmp_path / "ramp.fits", np.broadcast_to(counts[:, None, None], (8, 5, 5)).astype(np.int32))
    seeing = tmp_path / "seeing.ecsv"
    Table({"time": [0.0, 2.1, 2.9], "value": [0.5, 1.3, 0.6]}, units={"value": "arcsec"}).write(seeing)
    rates = {}
    for name, more in (
        ("all", ()),
        ("intervals", ("--reject-intervals", seeing, "--maximum", "0.8")),
        ("reads", ("--reject-reads", seeing, "--maximum", "0.8")),
    ):
        output = tmp_path / f"{name}.fits"
        result = run("fit", ramp, *FOREIGN, "--jumps", "none", *more, "--output", output, "--json")
        assert result.exit_code == 0, result.output
        said = json.loads(result.stdout)
        rates[name] = said["median_rate_dn_s"], said["reads_rejected"], said["intervals_rejected"]
    assert rates["intervals"] == (pytest.approx(100, rel=1e-6), 0, 2)
    # A rejected read costs no photons: those of the bad time stay in the difference across it.
    assert rates["reads"][0] > 130
    assert rates["reads"][1:] == (1, 0)
    assert rates["all"][0] > 130


def test_dates_of_a_table_need_the_reset(tmp_path: Path) -> None:
    ramp = sample_like(tmp_path / "sample.fits")
    seeing = tmp_path / "seeing.ecsv"
    dates = ["2024-08-01T05:00:00", "2024-08-01T05:00:01.1", "2024-08-01T05:00:01.3"]
    Table({"time": dates, "value": [0.5, 1.3, 0.6]}).write(seeing)
    wanted = ["fit", ramp, *FOREIGN, "--reject-intervals", seeing, "--maximum", "0.8", "--output", tmp_path / "o.fits"]
    assert "the time of the reset is not known" in str(run(*wanted).exception)
    result = run(*wanted, "--reset-time", "2024-08-01T05:00:00.000", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["intervals_rejected"] == 1


def test_a_table_of_another_hour_is_said_and_leaves_out_nothing(tmp_path: Path) -> None:
    ramp = sample_like(tmp_path / "sample.fits")
    seeing, output = tmp_path / "seeing.ecsv", tmp_path / "frame.fits"
    Table({"time": ["2024-08-01T04:00:00", "2024-08-01T04:10:00"], "value": [1.3, 0.5]}).write(seeing)
    wanted = ["fit", ramp, *FOREIGN, "--reject-intervals", seeing, "--maximum", "0.8", "--output", output]
    result = run(*wanted, "--reset-time", "2024-08-01T05:00:00", "--json")
    assert result.exit_code == 0, result.output
    warning = (
        "seeing.ecsv covers 2024-08-01T04:00:00 to 2024-08-01T04:10:00, the exposure 2024-08-01T05:00:00 to "
        "2024-08-01T05:00:02: the last value, 0.5, is taken for all of it, and nothing was left out."
    )
    said = json.loads(result.stdout)
    assert (said["warnings"], said["intervals_rejected"]) == ([warning], 0)
    assert result.stderr == f"Warning: {warning}\n"
    with open_model(output, RawFrameModel) as model:
        assert model.meta.cal_step.rejection == "SKIPPED"


def test_nothing_is_overwritten_and_wrong_usage_says_so(tmp_path: Path) -> None:
    ramp = sample_like(tmp_path / "sample.fits")
    output = tmp_path / "frame.fits"
    output.write_text("precious")
    for command in (("fit", ramp, *FOREIGN), ("pack", ramp, "--read-time", "1")):
        assert "is there already" in str(run(*command, "--output", output).exception)
    assert output.read_text() == "precious"
    nowhere = run("fit", tmp_path, "--output", tmp_path / "no" / "folder.fits")
    assert "There is no folder" in str(nowhere.exception), "said before a file is read"
    for wrong in (("--mode", "FOWLER"), ("--estimator", "best"), ("--group-reads", "0"), ("--mask", "absent.fits")):
        assert run("fit", ramp, *wrong, "--output", tmp_path / "never.fits").exit_code == 2
    assert not (tmp_path / "never.fits").exists()


@pytest.mark.parametrize("short", [1, 5000, 250_000])
def test_a_frame_for_which_there_is_no_room_leaves_nothing_behind(tmp_path: Path, short: int) -> None:
    data = b"x" * 288_000
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(data) - short, before[1]))
    try:
        with pytest.raises(Fatal, match="cannot be written: File too large"):
            write_new(tmp_path / "frame.fits", data)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [*tmp_path.iterdir()] == []


def test_a_frame_is_whole_or_absent(tmp_path: Path) -> None:
    output, dangling = tmp_path / "frame.fits", tmp_path / "dangling.fits"
    with pytest.raises(TypeError):
        write_new(output, "no bytes")  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []
    write_new(output, b"whole")
    plain = tmp_path / "plain"
    plain.touch()
    assert (output.read_bytes(), output.stat().st_mode) == (b"whole", plain.stat().st_mode)
    dangling.symlink_to(tmp_path / "elsewhere.fits")
    for there, reason in ((output, "is there already"), (dangling, "cannot be written: File exists")):
        with pytest.raises(Fatal, match=reason):
            write_new(there, b"other")
    assert output.read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling.fits", "frame.fits", "plain"]


def test_bad_input_ends_the_command_with_1_and_the_reason(tmp_path: Path) -> None:
    ramp = sample_like(tmp_path / "sample.fits")
    short = tmp_path / "short.fits"
    short.write_bytes(ramp.read_bytes()[:-2880])
    halves = ramp_file(tmp_path / "halves.fits", np.full((3, 4, 4), 0.5))
    seeing = tmp_path / "seeing.ecsv"
    Table({"time": [0.0], "value": [1.3]}).write(seeing)
    cases: list[tuple[list[object], str]] = [
        ([ramp, *FOREIGN[2:]], "--read-time"),
        ([ramp, *FOREIGN[:4]], "No readnoise is known"),
        ([ramp, *FOREIGN, "--gain", "two"], "neither a file nor a number"),
        ([ramp, *FOREIGN, "--mode", "MCDS"], "Give --group-reads 2, or fewer"),
        ([ramp, *FOREIGN, "--mode", "MCDS", "--group-reads", "3"], "do not fit"),
        ([ramp, *FOREIGN, "--reject-reads", seeing, "--maximum", "0.8"], "rejects all 4 reads"),
        ([ramp, *FOREIGN, "--reject-reads", seeing], "without a bound"),
        ([ramp, *FOREIGN, "--estimator", "optimal", "--jumps", "likelihood"], "no jump test"),
        ([short, *FOREIGN], "headers say"),
        ([halves, *FOREIGN], "no whole numbers"),
        ([ramp, halves, *FOREIGN[2:]], "or one ramp alone"),
    ]
    for arguments, reason in cases:
        result = run("fit", *arguments, "--output", tmp_path / "never.fits")
        assert isinstance(result.exception, Fatal), (arguments, result.output)
        assert reason in str(result.exception)
        assert result.exception.remedy, "says what to do"
        assert not (tmp_path / "never.fits").exists()
    command = [sys.executable, "-c", "from irisdrs.shared.cli import main; main()", "readout", "fit", str(short)]
    ended = subprocess.run([*command, *FOREIGN], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "CorruptObject" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_summary_for_people_is_rounded_and_its_paths_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    ramp = ramp_file(tmp_path / "ramp.fits", np.array([1000, 1100, 1201])[:, None, None] + np.zeros((3, 4, 4), int))
    gain = tmp_path / "a-long-name-of-a-file-that-no-narrow-terminal-has-room-for.fits"
    fits.PrimaryHDU(np.full((4, 4), 2.0)).writeto(gain)
    output = tmp_path / "frame.fits"
    given = ["fit", ramp, "--read-time", "0.3", "--gain", gain, "--readnoise", "6", "--mode", "CDS"]
    lines = run(*given, "--output", output).stdout.splitlines()
    assert lines[-1] == str(output)
    assert f"references          gain {gain}" in lines
    assert f"{'':20}readnoise 6.0" in lines
    assert "median rate (DN/s)  335" in lines
    assert not [line for line in lines if line.startswith(("exposure", "warnings", "output"))], "there is none"
    said = json.loads(run(*given, "--output", tmp_path / "again.fits", "--json").stdout)
    # Both are exact: 201 DN in 0.6 s, and the variance of both reads and of half a photon for each electron.
    assert said["median_rate_dn_s"] == pytest.approx(335, rel=1e-6)
    error = np.sqrt(2 * 6**2 + 201 / 2) / 0.6
    assert said["median_err_dn_s"] == pytest.approx(error, rel=1e-5)
    assert f"median err (DN/s)   {error:.5g}" in lines


def test_summed_ramps_are_counts_with_the_time_that_each_pixel_collected_them_in(tmp_path: Path) -> None:
    """By hand: ramps of 100 and 300 DN a read, of which one pixel saturates in the third read of the second."""
    counts = np.array([[1000, 1100, 1200, 1300], [2000, 2300, 2600, 2900]])[:, :, None, None] + np.zeros((4, 4), int)
    counts[1, 2:, 1, 2] = 65535
    ramp, output = ramp_file(tmp_path / "ramp.fits", counts), tmp_path / "frame.fits"
    given = ["fit", ramp, "--read-time", "0.25", "--gain", "2", "--readnoise", "6", "--mode", "CDS", "--coadd", "sum"]
    lines = run(*given, "--output", output).stdout.splitlines()
    assert "median sum (DN)     1200" in lines
    assert "median time (s)     1.5" in lines
    said = json.loads(run(*given, "--output", tmp_path / "again.fits", "--json").stdout)
    assert said["median_err_dn"] == pytest.approx(np.sqrt(4 * 6**2 + 1200 / 2), rel=1e-5)
    assert "median_rate_dn_s" not in said
    light, time = np.full((4, 4), 1200.0), np.full((4, 4), 1.5)
    light[1, 2], time[1, 2] = 600, 1.0
    with fits.open(output) as hdus:
        np.testing.assert_allclose(hdus["SCI"].data, light, rtol=1e-6)
        np.testing.assert_allclose(hdus["EXPTIME"].data, time, rtol=1e-6)
        assert (hdus["SCI"].header["BUNIT"], hdus[0].header["COADDING"]) == ("DN", "SUM")
        assert hdus["DQ"].data[1, 2] == Quality.SATURATED
    mean = tmp_path / "mean.fits"
    run(*given[:-2], "--output", mean)
    with fits.open(mean) as hdus:
        assert (hdus["SCI"].header["BUNIT"], "COADDING" in hdus[0].header, "EXPTIME" in hdus) == ("DN/s", False, False)


def test_the_help_has_examples() -> None:
    shown = run("fit", "--help").output
    for words in ("iris readout fit reads/", "--reject-intervals", "--read-time", "foreign", "bad pixels"):
        assert words in shown


async def test_says_what_is_wrong_with_what_it_was_given(bench: Any, tmp_path: Path, exposure: Any) -> None:
    options = await _options(bench, tmp_path, exposure[2])
    reads = [str(tmp_path / "store" / event.object.key) for event in bench.events if isinstance(event, ReadWritten)]
    damaged = tmp_path / "damaged.fits"
    damaged.write_bytes(Path(reads[1]).read_bytes()[:3000])
    pixels, header = decode_read(Path(reads[0]).read_bytes(), (64, 64))
    ninth, longer = tmp_path / "ninth.fits", tmp_path / "longer.fits"
    ninth.write_bytes(encode_read(pixels, header.model_copy(update={"read": 9})))
    longer.write_bytes(encode_read(pixels, header.model_copy(update={"read": 4, "reads": 9})))
    (tmp_path / "empty").mkdir()
    for given, error, words in (
        ([reads[0], reads[0]], Fatal, "and another file is too"),
        ([reads[0], str(ninth)], Fatal, "is read 9 of 4"),
        ([reads[0], str(longer)], Fatal, "of another window or sampling"),
        ([str(tmp_path / "empty")], Fatal, "no FITS file"),
        ([reads[0], str(damaged)], CorruptObject, "Cannot read the read"),
        ([reads[0]], Fatal, "A slope needs two reads"),
    ):
        result = run("fit", *given, *options, "--output", tmp_path / "never.fits")
        assert isinstance(result.exception, error)
        assert words in str(result.exception)
        assert result.exception.remedy
        assert not (tmp_path / "never.fits").exists()
