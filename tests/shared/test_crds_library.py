"""References for the command line from caches on disk."""

from pathlib import Path

import pytest

from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.library import Library
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.testing.references import HEADER, write_reference, write_references

GAIN = {
    "META.INSTRUMENT.NAME": "IRIS",
    "META.INSTRUMENT.DETECTOR": "IMG1",
    "META.OBSERVATION.DATE": "2034-08-01",
    "META.OBSERVATION.TIME": "05:00:00",
}


def test_two_caches_with_a_context_of_the_same_name_are_kept_apart(tmp_path: Path) -> None:
    whole, small = tmp_path / "whole", tmp_path / "small"
    context = build_context(small, [write_reference(tmp_path / "mask.fits", "mask")])
    assert build_context(whole, write_references(tmp_path)) == context
    with pytest.raises(MissingReference):
        Library({}, small, context).choose(GAIN, ["gain"])
    found, under = Library({}, whole, context).choose(GAIN, ["gain"])
    assert (found["gain"].is_relative_to(whole), under) == (True, context)
    with pytest.raises(MissingReference):
        Library({}, small, context).choose(GAIN, ["gain"])


def test_a_reference_of_any_mode_serves_all_and_gives_way_to_one_of_the_mode(tmp_path: Path) -> None:
    """So old caches, whose references name a mode, may be added to."""
    own = write_reference(tmp_path / "own.fits", "readnoise", SAMPMODE="UTR")
    any_mode = write_reference(tmp_path / "any.fits", "readnoise", SAMPMODE="N/A")
    build_context(tmp_path / "cache", [own, any_mode])
    library = Library({}, tmp_path / "cache")
    for mode, file in (("UTR", own), ("SINGLE", any_mode), ("CDS", any_mode), ("MCDS", any_mode)):
        found, _ = library.choose(HEADER | {"meta.exposure.sampling_mode": mode}, ["readnoise"])
        assert found["readnoise"].read_bytes() == file.read_bytes()


def test_a_chosen_file_that_the_cache_has_not_is_named(tmp_path: Path) -> None:
    """Delivered on another host, say: the context has come, the file has not."""
    context = build_context(tmp_path / "cache", write_references(tmp_path))
    library = Library({}, tmp_path / "cache")
    library.choose(GAIN, ["gain", "mask"])[0]["gain"].unlink()
    with pytest.raises(MissingReference) as found:
        library.choose(GAIN, ["gain", "mask"])
    assert (
        found.value.message == f"{context} chooses tmt_iris_gain_0001.fits, which is not in the cache {tmp_path}/cache."
    )
    assert "iris crds missing" in found.value.remedy
