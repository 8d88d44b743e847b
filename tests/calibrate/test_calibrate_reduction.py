"""The pipeline end to end on 64 x 128 pixels of known truth."""

import dataclasses
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from irisdrs.calibrate.job import Reduced, Reduction
from irisdrs.calibrate.reduction import reduce
from irisdrs.calibrate.steps.dark_sub_step import DarkSubStep
from irisdrs.shared.data.fits import open_model, to_bytes
from irisdrs.shared.data.models import ImageModel, MaskModel, RawFrameModel
from irisdrs.shared.errors import CorruptObject, Fatal, WrongShape
from irisdrs.shared.quality import Quality
from irisdrs.shared.references import Reference

if TYPE_CHECKING:
    from tests.calibrate.conftest import Night

RAW_ID = "2034B-007-123-IRIS-IMG2-SCI0-0034-L1-raw"
PRODUCT_ID = "2034B-007-123-IRIS-IMG2-SCI0-0034-L2-image"
SKY_E_S = 40.0


def job_of(files: "Night", output: Path) -> Reduction:
    references = tuple(Reference(kind, path.name, "0" * 64, path) for kind, path in sorted(files.references.items()))
    return Reduction(files.raw, RAW_ID, PRODUCT_ID, references, "tmt_0007.pmap", "1" * 64, "2" * 64, "0.1+ab", output)


@pytest.fixture(scope="module")
def reduced(files: "Night", tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Reduced]:
    output = tmp_path_factory.mktemp("reduced") / "out.fits"
    return output, reduce(job_of(files, output))


def test_light_of_the_sources_comes_back(files: "Night", reduced: tuple[Path, Reduced]) -> None:
    """Residuals against the truth are noise of the claimed size, and photometry is right."""
    image = open_model(reduced[0], ImageModel)
    good = (image.dq & int(Quality.DO_NOT_USE)) == 0
    pull = ((image.data - files.truth) / image.err)[good]
    assert abs(float(np.median(pull))) < 0.05
    assert float(np.std(pull)) == pytest.approx(1.0, abs=0.04)
    y, x = np.indices(files.truth.shape)
    inside = np.hypot(x - 90.0, y - 20.0) < 8
    assert float(image.data[inside].sum()) == pytest.approx(20000.0, rel=0.01)


def test_what_is_no_rate_is_not_reduced(files: "Night", tmp_path: Path) -> None:
    with open_model(files.raw, RawFrameModel) as frame:
        frame.meta.bunit_data = "DN"
        summed = tmp_path / "summed.fits"
        summed.write_bytes(to_bytes(frame))
    job = dataclasses.replace(job_of(files, tmp_path / "out.fits"), raw=summed)
    with pytest.raises(Fatal, match=r"pixels are in DN, .* without --coadd sum"):
        reduce(job)
    assert not job.output.exists()
    dark = str(files.references["dark"])
    with pytest.raises(Fatal, match="pixels are in DN"):
        DarkSubStep.call(str(summed), override_dark=dark)


def test_errors_are_the_sum_of_the_variances(reduced: tuple[Path, Reduced]) -> None:
    image = open_model(reduced[0], ImageModel)
    total = image.var_poisson + image.var_rnoise + image.var_flat
    assert np.allclose(image.err, np.sqrt(total), rtol=1e-6)
    # One pixel by hand: response F, gain 2, read variance 0.04 and dark error 0.01 (DN/s).
    flat = np.random.default_rng(7).normal(1.0, 0.05, size=image.data.shape).astype(np.float32)
    assert image.var_rnoise[50, 50] == pytest.approx((0.04 + 0.01**2) / flat[50, 50] ** 2 * 2.0**2, rel=1e-5)


def test_flags_of_frame_mask_and_flat_meet(reduced: tuple[Path, Reduced]) -> None:
    dq = open_model(reduced[0], ImageModel).dq
    assert dq[12, 34] == Quality.HOT | Quality.DO_NOT_USE
    assert dq[10, 20] == Quality.NO_FLAT_FIELD | Quality.DO_NOT_USE
    assert dq[0, 0] == Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE
    assert dq[30, 60] == Quality.GOOD
    assert np.count_nonzero(dq[4:-4, 4:-4]) == 2


def test_header_says_what_was_done(reduced: tuple[Path, Reduced]) -> None:
    with fits.open(reduced[0]) as hdus:
        primary, sci = hdus[0].header, hdus["SCI"].header
        assert [hdu.name for hdu in hdus[1:7]] == ["SCI", "ERR", "DQ", "VAR_POISSON", "VAR_RNOISE", "VAR_FLAT"]
        assert sci["BUNIT"] == "electron/s"
        assert primary["PRODID"] == PRODUCT_ID
        assert (primary["PRODLEVL"], primary["PRODKIND"], primary["INPUTIDS"]) == (2, "image", RAW_ID)
        assert (primary["INHASH"], primary["JOBHASH"], primary["SOFTVER"]) == ("1" * 64, "2" * 64, "0.1+ab")
        assert primary["CRDS_CTX"] == "tmt_0007.pmap"
        for kind in ("DARK", "FLAT", "GAIN", "MASK"):
            assert primary[f"R_{kind}"] == f"crds://tmt_iris_{kind.lower()}_0001.fits"
        assert primary["R_LINCOE"] == "crds://tmt_iris_nonlincoeff_0001.fits", "what the readout did stays"
        for step in ("S_LINEAR", "S_DQINIT", "S_DARK", "S_FLAT", "S_GANSCL", "S_SKY", "S_WCS"):
            assert primary[step] == "COMPLETE"
        assert primary["SKYLEVEL"] == pytest.approx(SKY_E_S, abs=0.2)
        assert hdus["DQ"].data.dtype == np.uint32
        centre = WCS(sci).pixel_to_world(63.5, 31.5)
    # IMG2 lies right of (+x, 0.6 + 128/2 x 0.004) and below (-y, 0.6 + 64/2 x 0.004) the axis; PA 30 degrees.
    x, y, angle = 0.856, -0.728, np.radians(30.0)
    east, north = -x * np.cos(angle) + y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle)
    assert (centre.ra.deg - 150.0) * np.cos(np.radians(-20.0)) * 3600 == pytest.approx(east, abs=1e-4)
    assert (centre.dec.deg + 20.0) * 3600 == pytest.approx(north, abs=1e-4)


def test_result_tells_quality_and_versions(reduced: tuple[Path, Reduced]) -> None:
    _, result = reduced
    assert result.size == reduced[0].stat().st_size
    assert result.quality["sky_level"] == pytest.approx(SKY_E_S, abs=0.2)
    assert result.quality["bad_fraction"] == 2 / (56 * 120)
    assert list(result.step_versions) == ["dq_init", "dark_sub", "flat_field", "gain_scale", "sky_sub", "assign_wcs"]


def test_same_job_same_bytes_whatever_the_process(
    files: "Night", reduced: tuple[Path, Reduced], tmp_path: Path
) -> None:
    """Another hash seed, folder, file names, user name and time zone: the same bytes."""
    raw = tmp_path / "renamed.fits"
    raw.write_bytes(files.raw.read_bytes())
    job = dataclasses.replace(job_of(files, tmp_path / "other.fits"), raw=raw)
    code = (
        "import pickle, sys; from irisdrs.calibrate.reduction import reduce;"
        "print(reduce(pickle.loads(bytes.fromhex(sys.argv[1]))).sha256)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Honolulu", "USER": "somebody"}
    answer = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(job).hex()],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == reduced[1].sha256
    assert job.output.read_bytes() == reduced[0].read_bytes()
    for trace in (str(tmp_path), str(files.raw.parent), "renamed", "somebody"):
        assert trace.encode() not in job.output.read_bytes()


def test_a_damaged_frame_and_a_damaged_reference_are_named(files: "Night", tmp_path: Path) -> None:
    job = job_of(files, tmp_path / "out.fits")
    cut = tmp_path / "cut.fits"
    cut.write_bytes(files.raw.read_bytes()[:-2880])
    with pytest.raises(CorruptObject):
        reduce(dataclasses.replace(job, raw=cut))
    cut.write_bytes(files.references["dark"].read_bytes()[:100_000])
    damaged = tuple(dataclasses.replace(each, path=cut) if each.type == "dark" else each for each in job.references)
    with pytest.raises(CorruptObject):
        reduce(dataclasses.replace(job, references=damaged))
    assert not job.output.exists()


def test_a_reference_of_another_shape_is_refused(files: "Night", tmp_path: Path) -> None:
    small = tmp_path / "small.fits"
    small.write_bytes(to_bytes(MaskModel(dq=np.zeros((4, 4), np.uint32))))
    job = job_of(files, tmp_path / "out.fits")
    wrong = tuple(dataclasses.replace(each, path=small) if each.type == "mask" else each for each in job.references)
    with pytest.raises(WrongShape, match="mask"):
        reduce(dataclasses.replace(job, references=wrong))
