"""An index of a large reference mapping changes nothing of what the CRDS client chooses."""

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from irisdrs.crds_proxy.match_index import quicken
from irisdrs.shared.crds import register

#: How mappings spell what a value must be: plain, wild, one of several, patterns, ranges, negations, literals.
KEYS = ("A", "B", "AB", "*", "N/A", "A|B", "A*", "NOT A", "BETWEEN 1 3", ">=2", "1.0", "2.0", "{A*}", "(A|B.*)")
VALUES = ("A", "B", "AB", "C", "*", "N/A", "1.0", "2.0", "2.5", "UNDEFINED", "A*", "")


def mapping_of(rows: dict[tuple[str, str], str], merge: bool) -> Any:
    from crds.core import rmap

    header = {
        "classes": ("Match", "UseAfter"), "derived_from": "NONE", "filekind": "DARK", "instrument": "IRIS",
        "mapping": "REFERENCE", "name": "tmt_iris_dark_0001.rmap", "observatory": "TMT", "sha1sum": "",
        "merge_overlaps": merge,
        "parkey": (
            ("META.INSTRUMENT.DETECTOR", "META.INSTRUMENT.FILTER"), ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME"),
        ),
    }  # fmt: skip
    body = "".join(f"{row!r}: UseAfter({{'2030-01-01 00:00:00': {name!r}}}),\n" for row, name in rows.items())
    text = f"header = {header!r}\n\nselector = Match({{\n{body}}})\n"
    return rmap.ReferenceMapping.from_string(text, "tmt_iris_dark_0001.rmap", ignore_checksum=True)


def chosen(mapping: Any, header: dict[str, str]) -> str:
    """What it chooses, or what it says when it does not."""
    return str(mapping.get_best_ref(header))


@settings(max_examples=200, deadline=None)
@given(
    rows=st.dictionaries(st.tuples(st.sampled_from(KEYS), st.sampled_from(KEYS)), st.integers(1, 99), max_size=12),
    asked=st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), min_size=1, max_size=6),
    merge=st.booleans(),
)
def test_it_chooses_what_the_client_chooses(
    rows: dict[tuple[str, str], int], asked: list[tuple[str, str]], merge: bool
) -> None:
    register()
    names = {row: f"tmt_iris_dark_{number:04d}.fits" for row, number in rows.items()}
    plain, indexed = mapping_of(names, merge), mapping_of(names, merge)
    quicken(indexed, rows=0)
    for detector, band in asked:
        header = {
            "META.INSTRUMENT.DETECTOR": detector,
            "META.INSTRUMENT.FILTER": band,
            "META.OBSERVATION.DATE": "2034-08-01",
            "META.OBSERVATION.TIME": "05:04:03",
        }
        assert chosen(indexed, header) == chosen(plain, header)


@pytest.mark.parametrize(("band", "number"), [("B7", 8), ("B499", 500), ("B500", None), ("*", 501)])
def test_a_large_mapping_is_indexed_and_still_finds_its_rows(band: str, number: int | None) -> None:
    register()
    rows = {("IMG1", f"B{n}"): f"tmt_iris_dark_{n + 1:04d}.fits" for n in range(500)}
    mapping = mapping_of(rows | {("IMG2", "*"): "tmt_iris_dark_0501.fits"}, merge=False)
    quicken(mapping)
    assert "_winnow" in vars(mapping.selector)
    header = {
        "META.INSTRUMENT.DETECTOR": "IMG2" if number == 501 else "IMG1",
        "META.INSTRUMENT.FILTER": band,
        "META.OBSERVATION.DATE": "2034-08-01",
        "META.OBSERVATION.TIME": "05:04:03",
    }
    expected = f"tmt_iris_dark_{number:04d}.fits" if number else "NOT FOUND No match found."
    assert chosen(mapping, header) == expected


def test_an_index_goes_with_its_mapping_without_the_garbage_collector() -> None:
    """Large contexts are kept out of the collector's sight: a circle in them would stay for ever."""
    register()
    from crds.core.utils import clear_function_caches

    gc.disable()
    try:
        indexed = mapping_of({("A", "B"): "tmt_iris_dark_0001.fits"}, merge=False)
        quicken(indexed, rows=0)
        known = weakref.ref(indexed.selector)
        clear_function_caches()  # the client remembers mappings, too
        del indexed
        assert known() is None
    finally:
        gc.enable()
