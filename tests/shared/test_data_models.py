"""Data models and their files: what goes in comes out, the same bytes every time, and damage is called damage."""

import hashlib
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asdf
import numpy as np
import pytest
from asdf.exceptions import ValidationError
from astropy import units as u
from astropy.io import fits
from astropy.modeling.models import Pix2Sky_TAN, Shift

import irisdrs.shared.data
from irisdrs.shared.data.exposure_metadata import apply_read_header
from irisdrs.shared.data.fits import headers, open_model, to_bytes
from irisdrs.shared.data.models import (
    MODELS,
    DarkModel,
    ImageModel,
    IrisModel,
    MaskModel,
    NonlinCoeffModel,
    RampModel,
    RawFrameModel,
    ReferenceModel,
    RefpixModel,
)
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.quality import Quality

PRODUCT = "2034B-007-123-IRIS-IMG1-SCI0-0034-L1-raw"

#: astropy warns of damage on its way to the error that the tests ask for.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")


def read_header() -> ReadHeader:
    return ReadHeader(
        observation="2034B-007-123",
        detector="IMG1",
        exposure_type="SCI",
        exposure=34,
        night="2034-08-01",
        ramp=1,
        read=1,
        reads=8,
        ramps=2,
        read_time_s=0.72,
        read_interval_s=0.72,
        sampling_mode="UTR",
        ended_at=datetime(2034, 8, 1, 5, 4, 3, 720_000, tzinfo=UTC),
        mode="IMG",
        filter="H",
        scale_arcsec=0.004,
        ra_deg=150.25,
        dec_deg=-2.5,
        position_angle_deg=30.0,
        airmass=1.2,
        shape=(2, 3),
    )


def raw_frame() -> RawFrameModel:
    model = RawFrameModel(data=np.arange(6, dtype=np.float32).reshape(2, 3))
    model.err = np.full((2, 3), 0.5, np.float32)
    model.var_rnoise = np.full((2, 3), 0.25, np.float32)
    model.dq = np.array([[0, Quality.SATURATED, 0], [0, 0, Quality.REFERENCE_PIXEL]], np.uint32)
    apply_read_header(model, read_header())
    model.meta.product.id, model.meta.product.level, model.meta.product.kind = PRODUCT, 1, "raw"
    model.meta.provenance.inputs_hash = "0123456789abcdef" * 4
    model.meta.bunit_data = "DN/s"
    model.meta.ref_file.dark.name = "crds://tmt_iris_dark_0001.fits"
    model.meta.ref_file.crds.context_used = "tmt_0001.pmap"
    model.meta.cal_step.ramp_fit = "COMPLETE"
    model.meta.wcsinfo.ctype1, model.meta.wcsinfo.crpix1, model.meta.wcsinfo.cd1_1 = "RA---TAN", 1.5, -1.1e-6
    return model


def entangled_frame() -> RawFrameModel:
    """A frame whose tree needs several asdf extensions, which asdf lists in the order of a set."""
    model = raw_frame()
    model.meta.transform = Shift(1.0) & Shift(2.0) | Pix2Sky_TAN()
    model.meta.distance = 3.0 * u.m
    model.add_history_entry("made for a test")
    return model


def test_arrays_and_metadata_come_back() -> None:
    with raw_frame() as model, open_model(to_bytes(model), RawFrameModel) as back:
        for name in ("data", "err", "var_rnoise", "dq"):
            np.testing.assert_array_equal(getattr(back, name), getattr(model, name))
            assert getattr(back, name).dtype == getattr(model, name).dtype
            assert getattr(back, name).dtype.isnative
        flat, flat_back = model.to_flat_dict(include_arrays=False), back.to_flat_dict(include_arrays=False)
    assert {name: flat_back[name] for name in flat if name.startswith("meta")} == {
        name: value for name, value in flat.items() if name.startswith("meta")
    }


def test_keywords_are_where_astropy_users_look() -> None:
    with fits.open(io.BytesIO(to_bytes(raw_frame())), checksum=True) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "VAR_RNOISE", "ASDF"]
        primary, image = hdus[0].header, hdus["SCI"].header
        assert hdus["DQ"].data[1, 2] == 1 << 31
    expected = {
        "DATAMODL": "RawFrameModel",
        "FILENAME": f"{PRODUCT}.fits",
        "OBS_ID": "2034B-007-123",
        "PROGRAM": "2034B-007",
        "EXP_NO": 34,
        "DETECTOR": "IMG1",
        "NUMREADS": 8,
        "NUMRAMPS": 2,
        "RAMPINTT": 5.76,
        "EXPTIME": 11.52,
        "READTIME": 0.72,
        "FRM_TIME": 720_000,
        "SAMPMODE": "UTR",
        "FILTWAVE": 1.633,
        "IFSSCALE": 0.004,
        "RA": 150.25,
        "PA": 30.0,
        "SARRMODE": "FULL",
        "XSIZE": 3,
        "YSIZE": 2,
        "GAIN": 1.0,
        "READNOIS": 9.0,
        "DATE-OBS": "2034-08-01",
        "TIME-OBS": "05:04:03.000",
        "CRDS_CTX": "tmt_0001.pmap",
        "R_DARK": "crds://tmt_iris_dark_0001.fits",
        "S_RAMP": "COMPLETE",
        "INHASH": "0123456789abcdef" * 4,
    }
    assert {keyword: primary[keyword] for keyword in expected} == expected
    assert (image["BUNIT"], image["CTYPE1"], image["CRPIX1"], image["CD1_1"]) == ("DN/s", "RA---TAN", 1.5, -1.1e-6)


def test_no_keyword_stands_for_two_things() -> None:
    for model_class in MODELS.values():
        with model_class() as model:
            seen: dict[tuple[str, str], str] = {}
            for path, node in _keywords(model.schema):
                place = (node.get("fits_hdu", "PRIMARY"), node["fits_keyword"])
                assert seen.setdefault(place, path) == path
                assert len(node["fits_keyword"]) <= 8


def _keywords(node: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    found = [(path, node)] if "fits_keyword" in node else []
    for part in node.get("allOf", []):
        found += _keywords(part, path)
    for name, child in node.get("properties", {}).items():
        found += _keywords(child, f"{path}.{name}")
    return found


def test_a_model_asks_crds_what_its_reads_ask() -> None:
    header = read_header()
    with raw_frame() as model:
        assert model.get_crds_parameters() == header.crds_parameters()
        assert model.crds_observatory == "tmt"
        assert model.override_handle == "override://RawFrameModel"


def test_what_is_not_known_is_not_asked() -> None:
    with IrisModel() as model:
        assert model.get_crds_parameters() == {}
        model.meta.instrument.detector = "IMG2"
        model.meta.exposure.integration_time = 6
        assert model.get_crds_parameters() == {
            "meta.instrument.detector": "IMG2",
            "meta.exposure.integration_time": "6.000",
        }


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [("instrument", "detector", "IMG7"), ("exposure", "reads", "many"), ("cal_step", "dark_sub", "DONE")],
)
def test_values_that_do_not_fit_are_errors(group: str, name: str, value: object) -> None:
    with RawFrameModel() as model, pytest.raises(ValidationError):
        setattr(getattr(model.meta, group), name, value)


@pytest.mark.parametrize("model_class", [m for m in MODELS.values() if issubclass(m, ReferenceModel)])
def test_references_come_back_with_their_metadata(model_class: type[ReferenceModel], tmp_path: Path) -> None:
    model = model_class()
    primary = model.get_primary_array_name()
    shape = (6, 2, 3) if model_class in (NonlinCoeffModel, RefpixModel) else (2, 3)
    setattr(model, primary, np.arange(np.prod(shape)).reshape(shape))
    model.meta.reftype, model.meta.useafter = "dark", "2034-08-01T00:00:00"
    model.meta.author, model.meta.pedigree, model.meta.description = "IRIS", "GROUND", "of a test"
    path = tmp_path / "reference.fits"
    path.write_bytes(to_bytes(model))
    with irisdrs.shared.data.open(path) as back:
        assert type(back) is model_class
        np.testing.assert_array_equal(getattr(back, primary), np.arange(np.prod(shape)).reshape(shape))
        assert (back.meta.reftype, back.meta.useafter) == ("dark", "2034-08-01T00:00:00")
    header = headers(path)[0]["cards"]
    assert isinstance(header, dict)
    assert [header[k] for k in ("REFTYPE", "USEAFTER", "PEDIGREE", "AUTHOR", "DESCRIP")] == [
        "dark",
        "2034-08-01T00:00:00",
        "GROUND",
        "IRIS",
        "of a test",
    ]


def test_a_ramp_keeps_its_reads_and_their_times() -> None:
    model = RampModel(data=np.arange(24, dtype=np.uint16).reshape(1, 4, 2, 3) + 65_500)
    model.read_times = np.array([[0.72, 1.44, np.nan, 2.88]])
    with open_model(to_bytes(model), RampModel) as back:
        assert back.data.dtype == np.uint16
        np.testing.assert_array_equal(back.data, model.data)
        np.testing.assert_array_equal(back.read_times, model.read_times)


def test_the_mask_needs_no_image() -> None:
    with open_model(to_bytes(MaskModel(dq=np.ones((2, 3), np.uint32))), MaskModel) as back:
        assert back.shape == (2, 3)
        assert "data" not in back.instance


_SAY = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("models_test", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(json.dumps(module.digest_and_order()))
"""


def digest_and_order() -> list[str]:
    """SHA-256 of the frame's file, and its extensions in the order in which asdf by itself lists them."""
    model = entangled_frame()
    file = io.BytesIO()
    asdf.AsdfFile({"transform": model.meta.transform, "distance": model.meta.distance}).write_to(file)
    with asdf.open(io.BytesIO(file.getvalue())) as tree:
        order = [extension["extension_uri"] for extension in tree["history"]["extensions"]]
    return [hashlib.sha256(to_bytes(entangled_frame())).hexdigest(), *order]


def test_bytes_are_the_same_in_every_process() -> None:
    """asdf lists its extensions in the order of a set, which the hash seed decides, and where objects lie in memory.

    Another process imports for seconds: most often one is enough, since its order is another one than here.
    """
    digest, *order = digest_and_order()
    for seed in map(str, range(1, 9)):
        said = subprocess.run(
            [sys.executable, "-c", _SAY, __file__],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        found, *other = json.loads(said)
        assert found == digest
        if other != order:
            return
    pytest.fail(f"asdf lists {order} in the same order for every seed: the test tests nothing")


def test_bytes_do_not_depend_on_the_order_or_the_file_that_was_read(tmp_path: Path) -> None:
    data = to_bytes(entangled_frame())
    path = tmp_path / "somewhere.fits"
    path.write_bytes(data)
    with open_model(path, RawFrameModel) as back:
        assert to_bytes(back) == data
    one, other = ImageModel(data=np.ones((2, 3), np.float32)), ImageModel()
    one.meta.observation.night, one.meta.exposure.gain = "2034-08-01", 2.0
    other.meta.exposure.gain, other.meta.observation.night = 2.0, "2034-08-01"
    other.data = np.ones((2, 3), np.float32)
    assert to_bytes(one) == to_bytes(other)


def test_the_other_content_has_other_bytes() -> None:
    one, other = raw_frame(), raw_frame()
    other.data[0, 0] += 1
    assert to_bytes(one) != to_bytes(other)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "raw.fits"
    path.write_bytes(to_bytes(raw_frame()))
    with pytest.raises(CorruptObject, match="RawFrameModel"):
        open_model(path, DarkModel)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    data = to_bytes(raw_frame())
    path = tmp_path / "cut.fits"
    for size in (0, 100, 2880, 9000, len(data) - 2880, len(data) - 1):
        path.write_bytes(data[:size])
        for source in (path, data[:size]):
            with pytest.raises(CorruptObject):
                open_model(source, RawFrameModel)
            with pytest.raises(CorruptObject):
                headers(source)
    with pytest.raises(CorruptObject):
        open_model(bytes(range(256)) * 100, RawFrameModel)


def test_a_header_that_breaks_its_schema_is_refused() -> None:
    with fits.open(io.BytesIO(to_bytes(raw_frame()))) as hdus:
        hdus[0].header["DETECTOR"] = "IMG7"
        out = io.BytesIO()
        hdus.writeto(out)
    with pytest.raises(CorruptObject, match="IMG7"):
        open_model(out.getvalue(), RawFrameModel)


def test_files_of_nobody_are_not_opened() -> None:
    out = io.BytesIO()
    fits.PrimaryHDU(np.zeros((2, 3), np.float32)).writeto(out)
    with pytest.raises(CorruptObject, match="DATAMODL"):
        irisdrs.shared.data.open(out.getvalue())
    hdu = fits.PrimaryHDU()
    hdu.header["DATAMODL"] = "NirspecModel"
    out = io.BytesIO()
    hdu.writeto(out)
    with pytest.raises(CorruptObject, match="NirspecModel"):
        irisdrs.shared.data.open(out.getvalue())


def test_headers_tell_where_the_data_are() -> None:
    data = to_bytes(entangled_frame())
    hdus = json.loads(json.dumps(headers(data)))
    assert [hdu["extname"] for hdu in hdus] == ["PRIMARY", "SCI", "ERR", "DQ", "VAR_RNOISE", "ASDF"]
    assert hdus[0]["cards"]["HISTORY"] == "made for a test"
    image = hdus[1]
    pixels = np.frombuffer(data, ">f4", 6, image["data_offset"])
    np.testing.assert_array_equal(pixels, np.arange(6))
    assert (image["cards"]["NAXIS1"], image["data_size"]) == (3, 2880)
