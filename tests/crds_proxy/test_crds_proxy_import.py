"""`iris crds import`: a cache of the first form, with its names, hand-edited mappings and files that are elsewhere."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner, Result

from irisdrs.crds_proxy.cli import app
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context, load_mapping, reference_mappings, rows_of
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.data.fits import open_model
from irisdrs.shared.data.models import FlatModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.testing.references import write_certifiable, write_reference

KEYS = {
    "dark": ("META.INSTRUMENT.DETECTOR", "META.SUBARRAY.NAME"),
    "mask": ("META.INSTRUMENT.DETECTOR", "META.SUBARRAY.NAME"),
    "flat": ("META.INSTRUMENT.DETECTOR", "META.INSTRUMENT.FILTER", "META.INSTRUMENT.PUPIL"),
    "nonlin": ("META.INSTRUMENT.DETECTOR",),
    "drizpars": (),
    "bias": ("META.INSTRUMENT.DETECTOR",),
}

#: What the cache chooses: type, values, use after, file.
CHOSEN: list[tuple[str, Any, str, str]] = [
    ("dark", ("IRIS1", "CUSTOM"), "1900-01-01 00:00:00", "tmt_iris_dark_0001.fits"),
    ("dark", ("IRIS1", "FULL"), "1900-01-01 00:00:00", "tmt_iris_dark_0001.fits"),
    ("mask", ("IRIS1", "GENERIC"), "2015-10-01 00:00:00", "tmt_iris_mask_0001.fits"),
    ("mask", ("IRIS1", "CUSTOM"), "2015-10-01 00:00:00", "tmt_iris_mask_0002.fits"),
    ("flat", ("IRIS1|IRIS2", "K", "CLEAR"), "2015-06-01 00:00:00", "tmt_iris_flat_0003.fits"),
    ("nonlin", "IRIS1", "2015-06-01 00:00:00", "tmt_iris_nonlin_coeff.fits"),
    ("drizpars", (), "2014-01-01 00:00:00", "tmt_iris_drizpars_0001.fits"),
    ("bias", "IRIS1", "2014-01-01 00:00:00", "tmt_iris_bias_0001.fits"),
]


def write_mapping(folder: Path, name: str, header: dict[str, object], selector: str) -> None:
    kind = {".pmap": "PIPELINE", ".imap": "INSTRUMENT", ".rmap": "REFERENCE"}[Path(name).suffix]
    common = {"derived_from": "", "mapping": kind, "name": "edited_by_hand", "observatory": "TMT", "sha1sum": "0" * 40}
    lines = "".join(f"    {key!r} : {value!r},\n" for key, value in (common | header).items())
    (folder / name).write_text(f"header = {{\n{lines}}}\n\nselector = {selector}\n")


def write_cache(root: Path, chosen: list[tuple[str, Any, str, str]], has: list[str]) -> Path:
    """A cache as the first one is: wrong checksums, a name that is another's, N/A for types that nobody has."""
    for folder in ("config/tmt", "mappings/tmt", "references/tmt/iris"):
        (root / folder).mkdir(parents=True)
    (root / "config/tmt/server_config").write_text("{'operational_context': 'tmt_0001.pmap'}")
    mappings = root / "mappings/tmt"
    write_mapping(mappings, "tmt_0001.pmap", {"parkey": ("META.INSTRUMENT.NAME",)}, "{'IRIS' : 'tmt_iris_0003.imap'}")
    types = dict.fromkeys(kind for kind, *_ in chosen)
    below = {kind.upper(): f"tmt_iris_{kind}_0001.rmap" for kind in types} | {"DFLAT": "N/A"}
    write_mapping(mappings, "tmt_iris_0003.imap", {"instrument": "IRIS", "parkey": ("REFTYPE",)}, repr(below))
    for kind in types:
        header: dict[str, object] = {
            "classes": ("Match", "UseAfter"),
            "filekind": kind.upper(),
            "instrument": "IRIS",
            "parkey": (KEYS[kind], ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")),
        }
        rows = "".join(f"    {k!r} : UseAfter({{{u!r} : {f!r}}}),\n" for t, k, u, f in chosen if t == kind)
        write_mapping(mappings, f"tmt_iris_{kind}_0001.rmap", header, f"Match({{\n{rows}}})")
    for name in has:
        kind = name.split("_")[2].replace("nonlin", "nonlincoeff")
        write_certifiable(root / "references/tmt/iris" / name, kind, DETECTOR="IRIS1", TELESCOP="", DATAMODL="")
    return root


ALL = ["tmt_iris_dark_0001.fits", "tmt_iris_mask_0001.fits", "tmt_iris_flat_0003.fits", "tmt_iris_nonlin_coeff.fits"]


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def ask(former: Path, cache: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["import", str(former), "--cache", str(cache), *options], catch_exceptions=False)


def chosen_in(cache: Path, context: str) -> dict[str, dict[tuple[tuple[str, ...], str], str]]:
    register()
    mappings = reference_mappings(load_context(Cache(cache).mappings, context))
    return {kind: rows for kind, mapping in mappings.items() if (rows := rows_of(mapping))}


def test_what_is_there_comes_in_our_vocabulary_and_the_rest_is_listed(tmp_path: Path) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    before = contents(former)
    answer = ask(former, tmp_path / "cache")
    assert answer.exit_code == 1
    lines = answer.stdout.splitlines()
    assert lines[0] == "6 of 9 references of tmt_0001.pmap are taken by tmt_0001.pmap:"
    assert len(lines) == 1 + 9
    (absent,) = [line for line in lines if "  absent" in line]
    assert absent.split()[:1] == ["drizpars"]
    assert [line.split()[0] for line in lines if "  left  " in line] == ["mask", "bias"]
    assert any("bias is no type of reference" in line for line in lines)
    assert any("mask is not matched on META.SUBARRAY.NAME, and this is for SUB_ARRAY only" in line for line in lines)
    assert contents(former) == before

    assert chosen_in(tmp_path / "cache", "tmt_0001.pmap") == {
        "dark": {
            (("IMG1", "N/A", "N/A", "FULL"), "1900-01-01 00:00:00"): "tmt_iris_dark_0001.fits",
            (("IMG1", "N/A", "N/A", "SUB_ARRAY"), "1900-01-01 00:00:00"): "tmt_iris_dark_0001.fits",
        },
        "flat": {
            (("IMG1", "K", "CLEAR", "N/A", "N/A", "N/A"), "2015-06-01 00:00:00"): "tmt_iris_flat_0001.fits",
            (("IMG2", "K", "CLEAR", "N/A", "N/A", "N/A"), "2015-06-01 00:00:00"): "tmt_iris_flat_0001.fits",
        },
        "mask": {(("IMG1",), "2015-10-01 00:00:00"): "tmt_iris_mask_0001.fits"},
        "nonlincoeff": {(("IMG1",), "2015-06-01 00:00:00"): "tmt_iris_nonlincoeff_0001.fits"},
    }


async def test_what_came_answers_questions_and_opens_as_what_it_is(tmp_path: Path) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    ask(former, tmp_path / "cache")
    asked = {"INSTRUME": "IRIS", "DETECTOR": "IMG1", "FILTER": "K", "PUPIL": "CLEAR", "OBSMODE": "IMG"}
    asked |= {"DATE-OBS": "2034-08-01", "TIME-OBS": "05:00:00"}
    found = await open_references(tmp_path / "cache").best_references(asked, ["flat"], "tmt_0001.pmap")
    flat = open_model(found["flat"].path, FlatModel)
    assert (flat.meta.instrument.detector, flat.meta.telescope, flat.meta.reftype) == ("IMG1", "TMT", "flat")
    assert np.array_equal(flat.data, np.ones((4, 4)))
    with fits.open(found["flat"].path) as hdus:
        assert "Imported from tmt_iris_flat_0003.fits" in str(hdus[0].header["HISTORY"])
    raw, came = (former / "references/tmt/iris/tmt_iris_flat_0003.fits").read_bytes(), found["flat"].path.read_bytes()
    assert came.endswith(raw[raw.index(b"XTENSION") :])


def test_it_adds_to_what_the_cache_has(tmp_path: Path) -> None:
    build_context(tmp_path / "cache", [write_reference(tmp_path / "gain.fits", "gain")])
    former = write_cache(tmp_path / "former", CHOSEN[2:3], ALL)
    answer = ask(former, tmp_path / "cache", "--json")
    assert answer.exit_code == 0
    told = json.loads(answer.stdout)
    assert (told["source"], told["context"]) == ("tmt_0001.pmap", "tmt_0002.pmap")
    assert told["rows"] == [
        {
            "type": "mask",
            "configuration": "IRIS1 GENERIC",
            "useafter": "2015-10-01 00:00:00",
            "file": "tmt_iris_mask_0001.fits",
            "fate": "taken",
            "problem": "",
        }
    ]
    assert set(chosen_in(tmp_path / "cache", "tmt_0002.pmap")) == {"gain", "mask"}
    again = json.loads(ask(former, tmp_path / "cache", "--json").stdout)
    assert again["context"] == "tmt_0002.pmap"  # the same changes nothing


@pytest.mark.parametrize(("has", "options"), [(ALL, ["--dry-run"]), ([], [])])
def test_a_dry_run_or_an_empty_import_writes_nothing(tmp_path: Path, has: list[str], options: list[str]) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, has)
    answer = ask(former, tmp_path / "cache", *options)
    assert answer.exit_code == 1
    assert f"{6 if has else 0} of 9 references of tmt_0001.pmap" in answer.stdout
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../../passwd.fits", "x/y.fits", "tmt_iris_dark_0001.rmap"])
def test_a_cache_that_names_what_is_no_file_of_it_is_refused(tmp_path: Path, name: str) -> None:
    former = write_cache(tmp_path / "former", [(*CHOSEN[2][:3], name), *CHOSEN[:1]], ALL)
    with pytest.raises(Fatal, match="no name of a"):
        ask(former, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_file_that_is_cut_short_is_refused_and_nothing_comes(tmp_path: Path) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    cut = former / "references/tmt/iris/tmt_iris_nonlin_coeff.fits"
    cut.write_bytes(cut.read_bytes()[:-100])
    with pytest.raises(CorruptObject, match=r"tmt_iris_nonlin_coeff\.fits cannot be imported: The file has"):
        ask(former, tmp_path / "cache")
    assert context_in_force(Cache(tmp_path / "cache")) is None


def test_a_folder_that_is_no_cache_or_has_not_all_mappings_is_named(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="names no CRDS context"):
        ask(tmp_path, tmp_path / "cache")
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    (former / "mappings/tmt/tmt_iris_flat_0001.rmap").unlink()
    with pytest.raises(Fatal, match=r"needs a mapping that is absent: .*tmt_iris_flat_0001\.rmap"):
        ask(former, tmp_path / "cache")


def test_a_cache_is_not_imported_into_itself(tmp_path: Path) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    before = contents(former)
    assert CliRunner().invoke(app, ["import", str(former), "--cache", str(former)]).exit_code == 2
    assert contents(former) == before


def test_the_client_itself_substitutes_the_former_names(tmp_path: Path) -> None:
    register()
    from irisdrs.shared.crds.mappings import write_reference_mapping

    file = write_certifiable(tmp_path / "tmt_iris_gain_0001.fits", "gain", DETECTOR="IRIS3")
    write_reference_mapping(tmp_path, "tmt_iris_gain_0001.rmap", "", reference_types()["gain"], {})
    with CRDS_LOCK:
        inserted = load_mapping(tmp_path, "tmt_iris_gain_0001.rmap").insert_reference(str(file))
    assert rows_of(inserted) == {(("IMG3",), "2030-01-01 00:00:00"): file.name}


def test_equal_caches_come_as_equal_files(tmp_path: Path) -> None:
    former = write_cache(tmp_path / "former", CHOSEN, ALL)
    for name in "ab":
        ask(former, tmp_path / name)
    sums = [
        {path.relative_to(tmp_path / name): hashlib.sha256(content).hexdigest() for path, content in found.items()}
        for name in "ab"
        if (found := contents(tmp_path / name))
    ]
    assert sums[0] == sums[1]
