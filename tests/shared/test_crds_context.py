"""Contexts around reference files: numbered up, written once, nothing written for a refused file."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, context_in_force, read_manifest
from irisdrs.shared.crds.context import build_context, next_name
from irisdrs.shared.crds.library import Library
from irisdrs.shared.crds.mappings import (
    load_context,
    reference_mappings,
    rows_of,
    write_context,
    write_instrument_mapping,
    write_reference_mapping,
)
from irisdrs.shared.crds.names import is_context_name, is_reference_name, is_safe_name
from irisdrs.shared.crds.reference_types import DETECTOR, reference_types
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.testing.references import HEADER, write_reference, write_references


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def chosen(cache: Path, context: str) -> dict[str, list[str]]:
    mappings = reference_mappings(load_context(Cache(cache).mappings, context))
    return {kind: sorted(set(rows_of(mapping).values())) for kind, mapping in mappings.items()}


def test_a_second_context_numbers_up_and_leaves_the_first_as_it_was(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = build_context(cache, write_references(tmp_path))
    before = contents(cache)
    second = build_context(cache, [write_reference(tmp_path / "x.fits", "mask", USEAFTER="2035-02-03T04:05:06")])

    assert (first, second, context_in_force(Cache(cache))) == ("tmt_0001.pmap", "tmt_0002.pmap", "tmt_0002.pmap")
    assert chosen(cache, first)["mask"] == ["tmt_iris_mask_0001.fits"]
    assert chosen(cache, second)["mask"] == ["tmt_iris_mask_0001.fits", "tmt_iris_mask_0002.fits"]
    assert chosen(cache, second)["dark"] == chosen(cache, first)["dark"] == ["tmt_iris_dark_0001.fits"]
    after = contents(cache)
    changed = {path.name for path, content in before.items() if after[path] != content}
    assert changed == {"manifest.json", "server_config"}


def test_the_same_key_and_time_replace_a_reference(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build_context(cache, write_references(tmp_path))
    second = build_context(cache, [write_reference(tmp_path / "better.fits", "gain", DESCRIP="better")])
    assert chosen(cache, second)["gain"] == ["tmt_iris_gain_0002.fits"]


def test_the_same_files_make_no_new_context_and_no_copies(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    references = write_references(tmp_path)
    first = build_context(cache, references)
    before = contents(cache)
    assert build_context(cache, references) == first
    assert contents(cache) == before


def test_two_caches_of_the_same_files_are_equal(tmp_path: Path) -> None:
    references = write_references(tmp_path)
    for name in ("a", "b"):
        build_context(tmp_path / name, references)
    there = [{p.relative_to(tmp_path / n): b for p, b in contents(tmp_path / n).items()} for n in ("a", "b")]
    assert there[0] == there[1]


def test_the_manifest_holds_size_and_checksums_of_every_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    build_context(cache.root, write_references(tmp_path))
    manifest = read_manifest(cache)
    assert len(manifest) == 7 + len(reference_types()) + 2  # references, their mappings, imap and pmap
    for name, facts in manifest.items():
        content = ((cache.references if name.endswith(".fits") else cache.mappings) / name).read_bytes()
        assert facts.size == len(content)
        assert facts.sha1sum == hashlib.sha1(content).hexdigest()
        assert facts.sha256 == hashlib.sha256(content).hexdigest()


def test_building_again_mends_a_damaged_file(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    references = write_references(tmp_path)
    build_context(cache.root, references)
    damaged = cache.references / "tmt_iris_dark_0001.fits"
    whole = damaged.read_bytes()
    damaged.chmod(0o644)
    damaged.write_bytes(whole[:-1])
    build_context(cache.root, references)
    assert damaged.read_bytes() == whole


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        ({"DETECTOR": "IMG9"}, "DETECTOR 'IMG9'"),
        ({"DETECTOR": ""}, "DETECTOR is missing"),
        ({"INSTRUME": "NIRCAM"}, "INSTRUME is 'NIRCAM'"),
        ({"REFTYPE": "bias"}, "REFTYPE 'bias'"),
        ({"USEAFTER": "yesterday"}, "USEAFTER 'yesterday'"),
        ({"USEAFTER": ""}, "USEAFTER is missing"),
        ({"USEAFTER": "0001-01-01T00:00:00+01:00"}, "USEAFTER '0001-01-01T00:00:00+01:00' is no date"),
        ({"RAMPINTT": "long"}, "RAMPINTT = 'LONG' is no number"),
        ({"SARRMODE": "FULL|SUB"}, "can match nothing"),
    ],
)
def test_a_refused_file_leaves_nothing_behind(tmp_path: Path, cards: dict[str, str], reason: str) -> None:
    cache = tmp_path / "cache"
    good = write_reference(tmp_path / "good.fits", "mask")
    with pytest.raises(Fatal) as refused:
        build_context(cache, [good, write_reference(tmp_path / "bad.fits", "dark", **cards)])
    assert reason in refused.value.message
    assert not cache.exists()


def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.fits").write_bytes(b"no FITS")
    with pytest.raises(CorruptObject, match=r"bad\.fits"):
        build_context(tmp_path / "cache", [tmp_path / "bad.fits"])


def test_two_references_of_one_key_are_refused(tmp_path: Path) -> None:
    twins = [write_reference(tmp_path / f"{name}.fits", "gain", DESCRIP=name) for name in ("a", "b")]
    with pytest.raises(Fatal, match="both the gain of IMG1"):
        build_context(tmp_path / "cache", twins)


def test_a_reference_that_overlaps_another_is_refused(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    context = build_context(cache, [write_reference(tmp_path / "any.fits", "saturation", SAMPMODE="ANY")])
    before = contents(cache)
    special = write_reference(tmp_path / "special.fits", "saturation", SAMPMODE="UTR")
    with pytest.raises(Fatal, match=r"special\.fits for IMG1, UTR overlaps .* for IMG1, \*"):
        build_context(cache, [special])
    assert contents(cache) == before
    with pytest.raises(Fatal, match="overlaps"):
        build_context(tmp_path / "other", [tmp_path / "any.fits", special])

    other = build_context(cache, [write_reference(tmp_path / "2.fits", "saturation", DETECTOR="IMG2", SAMPMODE="UTR")])
    assert (context, other) == ("tmt_0001.pmap", "tmt_0002.pmap")
    fallback = write_reference(tmp_path / "rest.fits", "readnoise", SAMPMODE="N/A")
    assert build_context(cache, [fallback, write_reference(tmp_path / "utr.fits", "readnoise")]) == "tmt_0003.pmap"


def test_a_context_of_fewer_keys_is_added_to(tmp_path: Path) -> None:
    """A cache of the version before, whose flats were matched on three keys and saturation on the detector."""
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    register()
    flat, saturation = reference_types()["flat"], reference_types()["saturation"]
    former = {
        "flat": (replace(flat, spectrograph=flat.imager), ("IMG1", "KS", "CLEAR")),
        "saturation": (replace(saturation, imager=(DETECTOR,), spectrograph=(DETECTOR,)), ("IMG1",)),
    }
    for name, (kind, values) in former.items():
        write_reference(cache.references / f"tmt_iris_{name}_0001.fits", name)
        rows = {(values, "2030-01-01 00:00:00"): f"tmt_iris_{name}_0001.fits"}
        write_reference_mapping(cache.mappings, f"tmt_iris_{name}_0001.rmap", "", kind, rows)
    write_instrument_mapping(cache.mappings, "tmt_iris_0001.imap", "", {n: f"tmt_iris_{n}_0001.rmap" for n in former})
    write_context(cache.mappings, "tmt_0001.pmap", "", "tmt_iris_0001.imap")
    cache.server_config.write_text(repr({"operational_context": "tmt_0001.pmap"}))

    more = [write_reference(tmp_path / f"{name}2.fits", name, DETECTOR="IMG2") for name in former]
    assert build_context(cache.root, more) == "tmt_0002.pmap"
    for context, detector, number in (("1", "IMG1", 1), ("2", "IMG1", 1), ("2", "IMG2", 2)):
        asked = HEADER | {"meta.instrument.detector": detector}
        found, _ = Library({}, cache.root, f"tmt_000{context}.pmap").choose(asked, list(former))
        assert [path.name for path in found.values()] == [f"tmt_iris_{name}_000{number}.fits" for name in former]


def test_what_a_stopped_build_left_is_stepped_over(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    cache.prepare()
    (cache.mappings / "tmt_0001.pmap").write_text("header = {")
    (cache.mappings / "tmt_iris_0004.imap").write_text("header = {")
    assert build_context(cache.root, write_references(tmp_path)) == "tmt_0002.pmap"
    assert (cache.mappings / "tmt_iris_0005.imap").exists()


def test_a_mapping_that_was_changed_is_refused(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "cache")
    context = build_context(cache.root, write_references(tmp_path))
    mapping = cache.mappings / "tmt_iris_gain_0001.rmap"
    mapping.chmod(0o644)
    mapping.write_text(mapping.read_text().replace("IMG1", "IMG2"))
    with pytest.raises(Fatal, match="damaged: sha1sum mismatch"):
        load_context(cache.mappings, context)


@pytest.mark.parametrize("content", ["{'operational_context': '../../x.pmap'}", "{}", "import os", "3"])
def test_a_damaged_server_config_is_refused(tmp_path: Path, content: str) -> None:
    cache = Cache(tmp_path)
    cache.prepare()
    cache.server_config.write_text(content)
    with pytest.raises(Fatal, match="server_config"):
        context_in_force(cache)


@pytest.mark.parametrize("content", ["", "{}", json.dumps({"files": {"a.fits": {"size": 1}}}), "[]"])
def test_a_damaged_manifest_is_refused(tmp_path: Path, content: str) -> None:
    cache = Cache(tmp_path)
    cache.prepare()
    cache.manifest.write_text(content)
    with pytest.raises(Fatal, match=r"manifest\.json"):
        read_manifest(cache)


@pytest.mark.parametrize(
    "name",
    ["../x.fits", "/etc/passwd", "a/b.fits", "A.fits", "x.fits\n", "x.sh", ".fits", "", "x..fits", "N/A", "ä.fits"],
)
def test_names_outside_the_rule_are_refused(name: str) -> None:
    assert not is_safe_name(name)


def test_names_of_contexts_and_references_differ() -> None:
    assert is_context_name("tmt_0001.pmap")
    assert not is_context_name("tmt_iris_0001.imap")
    assert is_reference_name("tmt_iris_dark_0001.fits")
    assert not is_reference_name("tmt_iris_dark_0001.rmap")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30))
def test_a_safe_name_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    if is_safe_name(name):
        assert (tmp_path / name).resolve().parent == tmp_path
    assert not is_safe_name(f"../{name}")


def test_references_and_mappings_of_a_type_are_counted_apart() -> None:
    taken = ["tmt_iris_dark_0007.rmap", "tmt_iris_dark_0002.fits", "tmt_iris_dark_0003.asdf", "tmt_iris_0009.imap"]
    assert next_name(taken, "tmt_iris_dark", ".fits") == "tmt_iris_dark_0004.fits"
    assert next_name(taken, "tmt_iris_dark", ".rmap") == "tmt_iris_dark_0008.rmap"
    assert next_name(taken, "tmt_iris", ".imap") == "tmt_iris_0010.imap"
    assert next_name(taken, "tmt", ".pmap") == "tmt_0001.pmap"


def test_rows_are_those_of_the_client(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build_context(cache, write_references(tmp_path))
    more = [
        write_reference(tmp_path / "any.fits", "dark", DETECTOR="IMG2", SAMPMODE="ANY"),
        write_reference(tmp_path / "later.fits", "dark", USEAFTER="2035-02-03T04:05:06"),
        write_reference(tmp_path / "other.fits", "dark", RAMPINTT=17.28),
    ]
    context = build_context(cache, more)
    for kind, mapping in reference_mappings(load_context(Cache(cache).mappings, context)).items():
        told = {
            (tuple(value for _, value in match), " ".join(part for _, part in time)): name
            for name in mapping.reference_names()
            for _, match, time in mapping.file_matches(name)
        }
        assert rows_of(mapping) == told
        assert len(told) == {"dark": 4}.get(kind, len(mapping.reference_names()))
