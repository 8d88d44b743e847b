"""Reference files say what the detectors are, and CRDS can be told about them."""

import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.quality import Quality
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.references import write_references

NIGHT = date(2034, 8, 1)
TRUTHS = [DetectorTruth(Detector.IMG1, (64, 128), 2), DetectorTruth(Detector.IMG2, (64, 128), 2)]
TYPES = ["dark", "flat", "mask", "nonlincoeff", "saturation", "gain", "readnoise"]


def _write(directory: Path) -> list[Path]:
    return write_references(directory, TRUTHS, "H", 8 * 0.72, NIGHT)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return _write(tmp_path_factory.mktemp("references"))


def _planes(
    written: list[Path], kind: str, detector: str = "img1"
) -> tuple[dict[str, NDArray[Any]], dict[str, str | float]]:
    (path,) = [path for path in written if path.name == f"iris_{kind}_{detector}.fits"]
    with fits.open(path) as hdus:
        return {hdu.name: np.array(hdu.data) for hdu in hdus[1:] if hdu.is_image}, dict(hdus[0].header)


def test_every_detector_gets_seven_references(written: list[Path]) -> None:
    names = [path.name for path in written]
    assert sorted(names) == sorted(f"iris_{kind}_{name}.fits" for kind in TYPES for name in ("img1", "img2"))


def test_the_planes_are_the_truth(written: list[Path]) -> None:
    truth = TRUTHS[0]
    gain = truth.gain().astype(np.float32)
    assert np.array_equal(_planes(written, "gain")[0]["SCI"], np.broadcast_to(gain, truth.shape))
    assert np.allclose(_planes(written, "dark")[0]["SCI"] * gain, truth.dark(), rtol=1e-6)
    assert np.array_equal(_planes(written, "flat")[0]["SCI"], truth.flat())
    assert np.array_equal(_planes(written, "mask")[0]["DQ"], truth.quality())
    assert np.array_equal(_planes(written, "nonlincoeff")[0]["COEFFS"], truth.linearity())
    assert np.array_equal(_planes(written, "saturation")[0]["SCI"], truth.saturation())
    assert np.array_equal(_planes(written, "readnoise")[0]["SCI"], truth.read_noise())
    coefficients = truth.linearity()
    assert coefficients.dtype == np.float32
    assert coefficients.shape == (6, 64, 128)
    assert not coefficients[0].any()


def test_reference_pixels_are_marked_and_usable(written: list[Path]) -> None:
    mask = _planes(written, "mask")[0]["DQ"]
    border = np.ones(mask.shape, bool)
    border[4:-4, 4:-4] = False
    assert ((mask[border] & Quality.REFERENCE_PIXEL) != 0).all()
    assert not (mask[~border] & Quality.REFERENCE_PIXEL).any()
    assert np.mean((mask[border] & Quality.DO_NOT_USE) == 0) > 0.98


def test_dead_pixels_have_no_flat() -> None:
    truth = DetectorTruth(Detector.IMG1, (256, 256), 2)
    dead = (truth.quality() & Quality.DEAD) != 0
    assert dead.any()
    assert np.array_equal(truth.flat() == 0.0, dead)


def test_headers_hold_what_crds_matches(written: list[Path]) -> None:
    header = _planes(written, "dark")[1]
    assert header["INSTRUME"] == "IRIS"
    assert header["DETECTOR"] == "IMG1"
    assert header["REFTYPE"] == "dark"
    assert header["SAMPMODE"] == _planes(written, "readnoise")[1]["SAMPMODE"] == "N/A"
    assert float(header["RAMPINTT"]) == pytest.approx(5.76)
    assert header["SARRMODE"] == "FULL"
    assert header["USEAFTER"] == "2034-08-01T00:00:00"
    assert _planes(written, "flat")[1]["FILTER"] == "H"
    for kind, unit in (("dark", "DN/s"), ("gain", "electron/DN"), ("saturation", "DN"), ("readnoise", "DN")):
        (path,) = [path for path in written if path.name == f"iris_{kind}_img2.fits"]
        assert fits.getheader(path, "SCI")["BUNIT"] == unit
    assert _planes(written, "flat")[1]["PUPIL"] == "CLEAR"


def test_a_context_is_built_around_them(written: list[Path], tmp_path: Path) -> None:
    assert build_context(tmp_path / "cache", written).endswith(".pmap")


@pytest.mark.peers
def test_crds_certifies_them(written: list[Path], tmp_path: Path) -> None:
    build_context(tmp_path / "cache", written)
    code = "import irisdrs_crds_startup, runpy; runpy.run_module('crds.certify', run_name='__main__')"
    kept = {name: value for name, value in os.environ.items() if "CRDS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, written)],
        env=kept | client_environment(tmp_path / "cache"),
        capture_output=True,
        text=True,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "0 errors" in said
    assert "0 warnings" in said


def test_the_same_truth_gives_the_same_bytes(written: list[Path], tmp_path: Path) -> None:
    again = _write(tmp_path)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in written]
