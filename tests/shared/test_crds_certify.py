"""`crds certify` of the genuine client: a good file of every type passes, a bad one is told what is wrong with it."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.reference_types import Values, reference_types
from irisdrs.shared.testing.references import certifiable_arrays, write_certifiable, write_reference, write_references

#: What `crds certify` runs, in an environment in which the distribution is not installed.
CERTIFY = "import irisdrs_crds_startup, runpy; runpy.run_module('crds.certify', run_name='__main__')"

pytestmark = pytest.mark.peers

IFS: dict[str, Any] = {"DETECTOR": "IFS", "OBSMODE": "LEN", "IFSSCALE": 0.009, "FILTER": "Kbb", "IFSRES": "4000-K"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certify")
    build_context(folder / "cache", write_references(folder))
    return folder / "cache"


def certify(cache: Path, *arguments: Path | str) -> tuple[int, str]:
    kept = {name: value for name, value in os.environ.items() if "CRDS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", CERTIFY, *map(str, arguments)],
        env=kept | client_environment(cache),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_good_file_of_every_type_passes(cache: Path, tmp_path: Path) -> None:
    files = [write_certifiable(tmp_path / f"{kind}.fits", kind) for kind in reference_types()]
    ifs = [
        write_certifiable(tmp_path / f"{kind}_ifs.fits", kind, PUPIL="", **IFS) for kind in ("flat", "photom", "psf")
    ]
    code, said = certify(cache, *files, *ifs)
    assert (code, re.findall("ERROR.*|WARNING.*", said)) == (0, [])
    assert said.count("conforms to FITS standards") == len(files) + len(ifs)
    assert said.count("Inserting") == len(files) + len(ifs)


F4 = np.ones((4, 4), "f4")
ONE_NAN = np.where(np.arange(16).reshape(4, 4) == 6, np.nan, F4).astype("f4")

#: Type, extensions and keywords of a bad file, and what must be said of it.
BAD: dict[str, tuple[str, Mapping[str, Any], Mapping[str, Any], str]] = {
    "no USEAFTER": ("gain", {}, {"USEAFTER": ""}, "Missing required keyword 'USEAFTER'"),
    "USEAFTER that is no time": ("gain", {}, {"USEAFTER": "soon"}, "USEAFTER 'soon' is no time such as 2030-01-01T"),
    "USEAFTER of month 13": ("gain", {}, {"USEAFTER": "2030-13-01T00:00:00"}, "month must be in 1..12"),
    "no PEDIGREE": ("gain", {}, {"PEDIGREE": ""}, "Missing required keyword 'PEDIGREE'"),
    "PEDIGREE without dates": ("gain", {}, {"PEDIGREE": "INFLIGHT"}, "Checking 'PEDIGREE'.*'INFLIGHT' cannot be used"),
    "no AUTHOR": ("gain", {}, {"AUTHOR": ""}, "Missing required keyword 'AUTHOR'"),
    "no DESCRIP": ("gain", {}, {"DESCRIP": ""}, "Missing required keyword 'DESCRIP'"),
    "no HISTORY": ("gain", {}, {"HISTORY": ""}, "WARNING.*Missing suggested keyword 'HISTORY'"),
    "another telescope": ("gain", {}, {"TELESCOP": "JWST"}, r"'TELESCOP'.*'JWST' is not one of \['TMT'\]"),
    "another instrument": ("gain", {}, {"INSTRUME": "MODHIS"}, "INSTRUME='modhis'.*the instrument must be one of iris"),
    "an unknown type": ("gain", {}, {"REFTYPE": "bias"}, "REFTYPE='bias'.*the type one of adccoef, apcorr, dark"),
    "no DETECTOR": ("mask", {}, {"DETECTOR": ""}, "Missing required keyword 'DETECTOR'"),
    "the old name of a detector": ("mask", {}, {"DETECTOR": "IRIS1"}, "'IRIS1' is not one of .*'IMG1'"),
    "the spectrograph's distortion": ("distortion", {}, {"DETECTOR": "IFS"}, "Value 'IFS' is not one of .*'IMG1'"),
    "the imager's traces": ("trace", {}, {"DETECTOR": "IMG1"}, r"Value 'IMG1' is not one of \['IFS'\]"),
    "an unknown filter": ("flat", {}, {"FILTER": "Q"}, "Checking 'FILTER' : Value 'Q' is not one of"),
    "no pupil": ("flat", {}, {"PUPIL": ""}, "Missing required keyword 'PUPIL'"),
    "a cube's flat as an image's": ("flat", {}, {"DETECTOR": "IFS"}, "Missing required keyword 'IFSSCALE'"),
    "an unknown sampling": ("readnoise", {}, {"SAMPMODE": "MDS"}, r"'MDS' is not one of .*'MCDS'"),
    "a time that is no number": ("dark", {}, {"RAMPINTT": "long"}, "'RAMPINTT' : could not convert string to float"),
    "a negative time": ("dark", {}, {"RAMPINTT": -1.0}, "'RAMPINTT' of -1.0 is outside acceptable range"),
    "an unknown subarray": ("dark", {}, {"SARRMODE": "FULL_FRAME"}, "'FULL_FRAME' is not one of .*'SUB_ARRAY'"),
    "a lenslet's scale for slices": ("trace", {}, {"IFSSCALE": 0.009}, "'IFSSCALE' : Real 0.009 is not within"),
    "lenslets in slicer mode": ("rectmat", {}, {"OBSMODE": "SLI"}, r"Value 'SLI' is not one of \['LEN'\]"),
    "an unknown grating": ("wavecal", {}, {"IFSRES": "Z4000"}, "Value 'Z4000' is not one of .*'4000-Z'"),
    "another data model": ("gain", {}, {"DATAMODL": "FlatModel"}, r"'FlatModel' is not one of \['GainModel'\]"),
    "no image": ("gain", {"SCI": None}, {}, "Missing required array 'SCI'"),
    "a cube for an image": ("gain", {"SCI": np.ones((2, 4, 4), "f4")}, {}, r"ndim\(SCI_ARRAY,2\)\) is not satisfied"),
    "numbers of 64 bit": ("gain", {"SCI": np.ones((4, 4))}, {}, "DATA_TYPE=='float32'.* is not satisfied"),
    "errors of another shape": ("dark", {"ERR": F4[:3]}, {}, "ERR_ARRAY.SHAPE==SCI_ARRAY.SHAPE.* is not satisfied"),
    "five coefficients": ("nonlincoeff", {"COEFFS": np.ones((5, 4, 4), "f4")}, {}, r"SHAPE\[0\]==6\) is not satisfied"),
    "a column too few": ("linelist", {"TABLE": np.ones(1, [("NAME", "S4")])}, {}, "has_columns.* is not satisfied"),
    "an empty table": ("lensmap", {"TABLE": certifiable_arrays("lensmap")["TABLE"][:0]}, {}, "SHAPE.*is not satisfied"),
    "gain 0": ("gain", {"SCI": F4 - 1}, {}, "SCI must be finite and positive: 16 of 16 .*first is 0.0 at"),
    "a dark of NaN": ("dark", {"SCI": ONE_NAN}, {}, r"SCI must be finite: 1 of 16 numbers .* nan at \[1, 2\]"),
    "a negative error": ("dark", {"ERR": -F4}, {}, "ERR must be finite and not negative: 16 of 16"),
}


def test_a_bad_file_is_told_what_is_wrong_with_it(cache: Path, tmp_path: Path) -> None:
    files = {name: tmp_path / f"bad{number}.fits" for number, name in enumerate(BAD)}
    for name, (kind, arrays, cards, _) in BAD.items():
        write_certifiable(files[name], kind, arrays, **cards)
    code, said = certify(cache, *files.values())
    assert code != 0
    for name, (*_, expected) in BAD.items():
        report = said[said.index(f"Certifying '{files[name]}'") :].split("########", 1)[0]
        assert re.search(expected, report, re.DOTALL), f"{name}: {report}"


def test_pixels_that_must_not_be_used_may_be_anything(cache: Path, tmp_path: Path) -> None:
    flagged = np.isnan(ONE_NAN).astype("u4")
    files = [
        write_certifiable(tmp_path / "dark.fits", "dark", {"SCI": ONE_NAN, "DQ": flagged}),
        write_certifiable(tmp_path / "flat.fits", "flat", {"SCI": F4 - flagged.astype("f4"), "DQ": flagged}),
    ]
    code, said = certify(cache, *files)
    assert (code, "0 errors" in said) == (0, True), said


def test_every_kind_of_value_is_asked_for() -> None:
    assert {plane.values for kind in reference_types().values() for plane in kind.planes} == set(Values)


def test_a_file_that_overlaps_others_is_refused(cache: Path, tmp_path: Path) -> None:
    build_context(tmp_path / "cache", [write_reference(tmp_path / "all.fits", "saturation", SAMPMODE="ANY")])
    special = write_certifiable(tmp_path / "special.fits", "saturation", SAMPMODE="UTR")
    code, said = certify(tmp_path / "cache", special)
    assert code != 0
    assert re.search(r"Match case.*'UTR'.*is an equal weight special case of", said, re.DOTALL), said

    twins = [write_certifiable(tmp_path / f"{name}.fits", "gain", DESCRIP=name) for name in "ab"]
    code, said = certify(cache, *twins)
    assert code != 0
    assert re.search(r"Both 'b.fits' and 'a.fits' identically match case", said), said


def test_what_is_no_fits_file_or_cut_short_is_refused(cache: Path, tmp_path: Path) -> None:
    whole = write_certifiable(tmp_path / "gain.fits", "gain").read_bytes()
    (tmp_path / "cut.fits").write_bytes(whole[:-2880])
    (tmp_path / "empty.fits").write_bytes(b"")
    code, said = certify(cache, tmp_path / "cut.fits", tmp_path / "empty.fits")
    assert code != 0
    assert re.search("ERROR.*cut.fits.*buffer is too small", said), said
    assert re.search("ERROR.*empty.fits.*", said), said
