"""What the `crds` client reads of the reference types follows from their table, and from nothing else."""

import json
from pathlib import Path

import pytest
import yaml

from irisdrs.shared import data
from irisdrs.shared.crds import register
from irisdrs.shared.crds.mappings import CRDS_LOCK, Rows, load_mapping, write_reference_mapping
from irisdrs.shared.crds.observatory_files import FOLDER, observatory_files
from irisdrs.shared.crds.reference_types import READOUT_TYPES, REDUCTION_TYPES, reference_types


def test_the_files_are_those_of_the_table() -> None:
    expected = observatory_files()
    assert {path: path.read_text() for path in expected} == expected
    assert {path for folder in ("specs", "tpns") for path in (FOLDER / folder).iterdir()} == {
        *(path for path in expected if path.parent != FOLDER),
        FOLDER / "tpns" / "iris_reference.tpn",  # what all types have, written by hand
    }


def test_the_client_knows_exactly_the_types_of_the_table() -> None:
    register()
    from crds import tmt

    assert sorted(reference_types()) == tmt.FILEKINDS
    assert set(READOUT_TYPES) | set(REDUCTION_TYPES) <= set(tmt.FILEKINDS)
    for name, kind in reference_types().items():
        assert tmt.TYPES.get_item("iris", name, "parkey") == [list(kind.keys), list(kind.time_keys)]
        assert tmt.TYPES.get_item("iris", name, "tpn") == f"iris_{name}.tpn"
        assert tmt.TEXT_DESCR[name] == kind.description


def test_products_record_the_reference_of_every_type_by_one_keyword() -> None:
    register()
    from crds.tmt.locate import filekind_to_keyword

    schema = yaml.safe_load((Path(data.__file__).parent / "schemas" / "core.schema.yaml").read_text())
    recorded = schema["properties"]["meta"]["properties"]["ref_file"]["properties"]
    keywords = {kind: recorded[kind]["properties"]["name"]["fits_keyword"] for kind in recorded if kind != "crds"}
    assert keywords == {kind: filekind_to_keyword(kind) for kind in reference_types()}
    assert len(set(keywords.values())) == len(keywords)


@pytest.mark.parametrize(
    ("name", "keys", "selector"),
    [
        ("dark", "DETECTOR SAMPMODE RAMPINTT SARRMODE", "UseAfter"),
        ("flat", "DETECTOR FILTER PUPIL OBSMODE IFSSCALE IFSRES", "UseAfter"),
        ("saturation", "DETECTOR SAMPMODE", "UseAfter"),
        ("sky", "DETECTOR FILTER RAMPINTT IFSSCALE IFSRES", "ClosestTime"),
        ("rectmat", "DETECTOR IFSSCALE FILTER IFSRES", "UseAfter"),
        ("wavecal", "DETECTOR OBSMODE IFSSCALE FILTER IFSRES", "ClosestTime"),
        ("lensmap", "DETECTOR IFSSCALE", "UseAfter"),
        ("apcorr", "OBSMODE FILTER IFSSCALE IFSRES", "UseAfter"),
    ],
)
def test_types_are_matched_as_the_design_says(name: str, keys: str, selector: str) -> None:
    from irisdrs.shared.crds.parameters import BY_PATH

    specification = json.loads((FOLDER / "specs" / "combined_specs.json").read_text())["iris"][name]
    assert " ".join(BY_PATH[key].keyword for key in specification["parkey"][0]) == keys
    assert specification["classes"] == ["Match", selector]


IMAGER = {"DETECTOR": "IMG1", "MODE": "IMG", "FILTER": "KS", "PUPIL": "CLEAR", "SCALE": "0.004", "GRATING": "MIRROR"}
LENSLETS = {"DETECTOR": "IFS", "MODE": "LEN", "FILTER": "KBB", "PUPIL": "CLEAR", "SCALE": "0.009", "GRATING": "4000-K"}
SLICER = LENSLETS | {"MODE": "SLI", "SCALE": "0.025"}


def best(folder: Path, name: str, configuration: dict[str, str], date: str = "2034-01-01") -> str:
    asked = {f"META.INSTRUMENT.{key}": value for key, value in configuration.items()}
    asked |= {"META.OBSERVATION.DATE": date, "META.OBSERVATION.TIME": "00:00:00"}
    with CRDS_LOCK:
        return str(load_mapping(folder, f"tmt_iris_{name}_0001.rmap").get_best_ref(asked))


def test_what_does_not_apply_to_a_detector_is_not_matched(tmp_path: Path) -> None:
    register()
    rows: Rows = {
        (("IMG1", "KS", "CLEAR", "N/A", "N/A", "N/A"), "2030-01-01 00:00:00"): "tmt_iris_flat_0001.fits",
        (("IFS", "KBB", "N/A", "LEN", "0.009", "4000-K"), "2030-01-01 00:00:00"): "tmt_iris_flat_0002.fits",
    }
    write_reference_mapping(tmp_path, "tmt_iris_flat_0001.rmap", "", reference_types()["flat"], rows)
    assert best(tmp_path, "flat", IMAGER) == "tmt_iris_flat_0001.fits"
    assert best(tmp_path, "flat", IMAGER | {"MODE": "LEN", "SCALE": "9"}) == "tmt_iris_flat_0001.fits"
    assert best(tmp_path, "flat", LENSLETS) == "tmt_iris_flat_0002.fits"
    assert best(tmp_path, "flat", LENSLETS | {"PUPIL": "COLD"}) == "tmt_iris_flat_0002.fits"
    assert best(tmp_path, "flat", SLICER).startswith("NOT FOUND No match")
    assert best(tmp_path, "flat", IMAGER | {"PUPIL": "COLD"}).startswith("NOT FOUND")


@pytest.mark.parametrize(
    ("name", "applies"), [("rectmat", "LEN"), ("trace", "SLI"), ("distortion", "IMG"), ("wavecal", "LEN SLI")]
)
def test_a_type_that_does_not_apply_to_a_mode_is_not_applicable(tmp_path: Path, name: str, applies: str) -> None:
    register()
    write_reference_mapping(tmp_path, f"tmt_iris_{name}_0001.rmap", "", reference_types()[name], {})
    for configuration in (IMAGER, LENSLETS, SLICER):
        relevant = best(tmp_path, name, configuration) != "NOT FOUND n/a"
        assert relevant == (configuration["MODE"] in applies.split())


def test_the_closest_wavelengths_are_chosen_before_and_after(tmp_path: Path) -> None:
    register()
    key = ("IFS", "SLI", "0.025", "KBB", "4000-K")
    rows: Rows = {(key, f"203{year}-01-01 00:00:00"): f"tmt_iris_wavecal_000{year}.fits" for year in (1, 5)}
    write_reference_mapping(tmp_path, "tmt_iris_wavecal_0001.rmap", "", reference_types()["wavecal"], rows)
    assert best(tmp_path, "wavecal", SLICER, "2030-06-01") == "tmt_iris_wavecal_0001.fits"
    assert best(tmp_path, "wavecal", SLICER, "2034-06-01") == "tmt_iris_wavecal_0005.fits"
    assert best(tmp_path, "wavecal", SLICER, "2032-06-01") == "tmt_iris_wavecal_0001.fits"
