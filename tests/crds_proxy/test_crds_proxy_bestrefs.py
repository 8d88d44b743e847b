"""Best references in process: every type, USEAFTER, pinned contexts, and what happens when a file cannot be had."""

import asyncio
import hashlib
import os
import shutil
import time
import weakref
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from irisdrs.crds_proxy.main import open_references
from irisdrs.crds_proxy.pinned_context import PinnedContext
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, facts_of, read_manifest, write_manifest
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context, reference_mappings
from irisdrs.shared.errors import Fatal, MissingReference
from irisdrs.shared.references import References
from irisdrs.shared.testing.references import CARDS, HEADER, write_reference, write_references

TYPES = tuple(CARDS)

#: Longest wait for what must happen at once, seconds: generous, only a failure waits that long.
SOON_S = 20.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Context 1: one reference of every type. Context 2: a dark after 2034, a dark of another time, another gain."""
    folder = tmp_path_factory.mktemp("references")
    assert build_context(folder / "cache", write_references(folder)) == "tmt_0001.pmap"
    later = [
        write_reference(folder / "newer.fits", "dark", USEAFTER="2034-08-01T05:04:03"),
        write_reference(folder / "short.fits", "dark", RAMPINTT=1.44),
        write_reference(folder / "better.fits", "gain", DESCRIP="better"),
    ]
    assert build_context(folder / "cache", later) == "tmt_0002.pmap"
    return folder / "cache"


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Cache:
    shutil.copytree(built, tmp_path / "cache")
    return Cache(tmp_path / "cache")


async def names(references: References, context: str, *types: str, **changed: str) -> list[str]:
    header = HEADER | {key.replace("__", "."): value for key, value in changed.items()}
    return [each.name for each in (await references.best_references(header, types, context)).values()]


async def test_every_type_is_found_with_its_verified_file(cache: Cache) -> None:
    found = await open_references(cache.root).best_references(HEADER, TYPES, "tmt_0001.pmap")
    assert set(found) == set(TYPES)
    for kind, reference in found.items():
        assert (reference.type, reference.name) == (kind, f"tmt_iris_{kind}_0001.fits")
        assert reference.path == cache.references / reference.name
        assert reference.sha256 == hashlib.sha256(reference.path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("date", "clock", "expected"),
    [
        ("2034-08-01", "05:04:02.999", "tmt_iris_dark_0001.fits"),
        ("2034-08-01", "05:04:03.000", "tmt_iris_dark_0002.fits"),
        ("2035-01-01", "00:00:00.000", "tmt_iris_dark_0002.fits"),
        ("2030-01-01", "00:00:00.000", "tmt_iris_dark_0001.fits"),
    ],
)
async def test_the_latest_dark_that_may_be_used_is_chosen(cache: Cache, date: str, clock: str, expected: str) -> None:
    asked = HEADER | {"meta.observation.date": date, "meta.observation.time": clock}
    found = await open_references(cache.root).best_references(asked, ["dark"], "tmt_0002.pmap")
    assert found["dark"].name == expected


@pytest.mark.parametrize("text", ["1.440", "1.44", "1.4400000001"])
async def test_integration_times_match_to_the_millisecond(cache: Cache, text: str) -> None:
    references = open_references(cache.root)
    assert await names(references, "tmt_0002.pmap", "dark", meta__exposure__integration_time=text) == [
        "tmt_iris_dark_0003.fits"
    ]


async def test_an_old_context_still_gives_the_old_file(cache: Cache) -> None:
    references = open_references(cache.root)
    assert await references.default_context() == "tmt_0002.pmap"
    for context, gain in (("tmt_0002.pmap", "0002"), ("tmt_0001.pmap", "0001"), ("tmt_0002.pmap", "0002")):
        assert await names(references, context, "gain") == [f"tmt_iris_gain_{gain}.fits"]


async def test_fits_keywords_ask_the_same_question(cache: Cache) -> None:
    asked = {"INSTRUME": "IRIS", **CARDS["dark"], "DATE-OBS": "2034-08-02", "TIME-OBS": "00:00:00"}
    found = await open_references(cache.root).best_references(
        {name: str(value) for name, value in asked.items()}, ["dark"], "tmt_0002.pmap"
    )
    assert found["dark"].name == "tmt_iris_dark_0002.fits"


@pytest.mark.parametrize(
    ("changed", "missing"),
    [
        ({"meta.instrument.detector": "IMG7"}, set(TYPES)),
        ({"meta.instrument.filter": "Zn1"}, {"flat"}),
        ({"meta.exposure.sampling_mode": "CDS"}, {"dark", "readnoise"}),
        ({"meta.instrument.name": "WFOS"}, set(TYPES)),
        ({"meta.observation.date": "2029-12-31"}, set(TYPES)),
        ({"meta.observation.date": "yesterday"}, set(TYPES)),
    ],
)
async def test_a_configuration_without_references_names_all_missing_types(
    cache: Cache, changed: dict[str, str], missing: set[str]
) -> None:
    with pytest.raises(MissingReference) as raised:
        await open_references(cache.root).best_references(HEADER | changed, TYPES, "tmt_0002.pmap")
    (key, value), message = next(iter(changed.items())), raised.value.message
    assert f"{key}={value}" in message
    assert {kind for kind in TYPES if f"{kind}: " in message} == missing
    assert "Deliver" in raised.value.remedy


async def test_a_header_without_the_keys_is_no_match(cache: Cache) -> None:
    with pytest.raises(MissingReference, match="dark"):
        await open_references(cache.root).best_references({"meta.instrument.name": "IRIS"}, ["dark"], "tmt_0002.pmap")


async def test_an_unknown_type_is_missing(cache: Cache) -> None:
    with pytest.raises(MissingReference, match="Unknown reference type"):
        await open_references(cache.root).best_references(HEADER, ["bias"], "tmt_0002.pmap")


def flip_a_bit(path: Path) -> None:
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize("damage", [flip_a_bit, cut])
@pytest.mark.parametrize("asked_before", [False, True])
async def test_a_damaged_file_is_not_handed_out(cache: Cache, damage: object, asked_before: bool) -> None:
    references = open_references(cache.root)
    if asked_before:
        assert await names(references, "tmt_0001.pmap", "flat") == ["tmt_iris_flat_0001.fits"]
    assert callable(damage)
    damage(cache.references / "tmt_iris_flat_0001.fits")
    with pytest.raises(MissingReference, match=r"flat: .*tmt_iris_flat_0001\.fits is damaged") as raised:
        await references.best_references(HEADER, ["gain", "flat"], "tmt_0001.pmap")
    assert "Restore" in raised.value.remedy
    assert await names(references, "tmt_0001.pmap", "gain") == ["tmt_iris_gain_0001.fits"]


async def test_an_absent_file_is_missing_until_it_is_there(cache: Cache, tmp_path: Path) -> None:
    references = open_references(cache.root)
    here, away = cache.references / "tmt_iris_mask_0001.fits", tmp_path / "away"
    here.rename(away)
    with pytest.raises(MissingReference, match=r"mask: .*tmt_iris_mask_0001\.fits is absent"):
        await names(references, "tmt_0001.pmap", "mask")
    away.rename(here)
    assert await names(references, "tmt_0001.pmap", "mask") == ["tmt_iris_mask_0001.fits"]


async def test_a_file_that_the_manifest_does_not_know_is_not_handed_out(cache: Cache) -> None:
    cache.manifest.unlink()
    with pytest.raises(MissingReference, match="cannot be verified"):
        await names(open_references(cache.root), "tmt_0001.pmap", "mask")


def rewrite(cache: Cache, name: str, old: str, new: str) -> None:
    """Change a mapping as a malicious author would: with right checksums."""
    from crds.core import rmap

    path = cache.mappings / name
    mapping = rmap.Mapping.from_string(path.read_text().replace(old, new), name, ignore_checksum=True)
    path.unlink()
    mapping.write(str(path))
    write_manifest(cache, read_manifest(cache) | {name: facts_of(path)})


@pytest.mark.parametrize("name", ["../../../secret.fits", "/etc/passwd", "tmt_iris_dark_0001.rmap"])
async def test_a_path_in_a_mapping_refuses_the_context(cache: Cache, name: str) -> None:
    rewrite(cache, "tmt_iris_flat_0001.rmap", "tmt_iris_flat_0001.fits", name)
    with pytest.raises(MissingReference, match="whole context") as raised:
        await names(open_references(cache.root), "tmt_0001.pmap", "gain")
    assert name in raised.value.message


@pytest.mark.parametrize(
    ("mapping", "old"),
    [("tmt_0001.pmap", "tmt_iris_0001.imap"), ("tmt_iris_0001.imap", "tmt_iris_gain_0001.rmap")],
)
async def test_a_path_to_a_mapping_refuses_the_context(cache: Cache, mapping: str, old: str) -> None:
    rewrite(cache, mapping, old, f"../tmt/{old}")
    with pytest.raises(MissingReference, match="whole context"):
        await names(open_references(cache.root), "tmt_0001.pmap", "gain")


async def test_a_mapping_without_reference_is_missing(cache: Cache) -> None:
    rewrite(cache, "tmt_iris_0001.imap", "tmt_iris_gain_0001.rmap", "N/A")
    with pytest.raises(MissingReference, match="gain: NOT FOUND"):
        await names(open_references(cache.root), "tmt_0001.pmap", "gain")


@pytest.mark.parametrize("wrong", ["tmt_iris_gain_0001.rmap", "tmt_0001.pmap"])
async def test_a_context_that_names_a_mapping_of_the_wrong_kind_is_missing(cache: Cache, wrong: str) -> None:
    rewrite(cache, "tmt_0001.pmap", "tmt_iris_0001.imap", wrong)
    with pytest.raises(MissingReference, match=r"tmt_0001\.pmap .* is damaged"):
        await names(open_references(cache.root), "tmt_0001.pmap", "gain")


@pytest.mark.parametrize("context", ["tmt_0009.pmap", "../tmt_0001.pmap", "tmt_iris_0001.imap", "tmt-operational", ""])
async def test_a_context_that_is_not_there_is_missing(cache: Cache, context: str) -> None:
    with pytest.raises(MissingReference, match="context"):
        await names(open_references(cache.root), context, "gain")


async def test_an_empty_cache_opens_and_answers_once_it_is_filled(tmp_path: Path) -> None:
    references = open_references(tmp_path / "cache")
    with pytest.raises(Fatal, match="holds no context"):
        await references.default_context()
    with pytest.raises(MissingReference):
        await names(references, "tmt_0001.pmap", "gain")
    await asyncio.to_thread(build_context, tmp_path / "cache", write_references(tmp_path))
    context = await references.default_context()
    assert await names(references, context, "gain") == ["tmt_iris_gain_0001.fits"]


async def test_contexts_share_what_they_have_in_common(cache: Cache) -> None:
    first = reference_mappings(load_context(cache.mappings, "tmt_0001.pmap"))
    loaded = {mapping.basename: mapping for mapping in first.values()}
    second = reference_mappings(load_context(cache.mappings, "tmt_0002.pmap", loaded))
    shared = {kind for kind, mapping in second.items() if mapping is first[kind]}
    assert shared == set(second) - {"dark", "gain"}
    assert second["gain"].reference_names() == ["tmt_iris_gain_0002.fits"]


async def test_two_caches_in_one_process_do_not_mix(cache: Cache, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert build_context(other, [write_reference(tmp_path / "g.fits", "gain", DETECTOR="IMG2")]) == "tmt_0001.pmap"
    here, there = open_references(cache.root), open_references(other)
    for _ in range(2):
        assert await names(here, "tmt_0001.pmap", "gain") == ["tmt_iris_gain_0001.fits"]
        found = await there.best_references(HEADER | {"meta.instrument.detector": "IMG2"}, ["gain"], "tmt_0001.pmap")
        assert found["gain"].path == Cache(other).references / "tmt_iris_gain_0001.fits"
        with pytest.raises(MissingReference, match="IMG1"):
            await names(there, "tmt_0001.pmap", "gain")


async def test_the_flat_layout_is_read_too(cache: Cache) -> None:
    instrument = cache.references
    (cache.config / "ref_cache_subdir_mode").write_text("flat")
    for path in instrument.iterdir():
        path.rename(cache.references / path.name)
    found = await open_references(cache.root).best_references(HEADER, ["gain"], "tmt_0001.pmap")
    assert found["gain"].path == cache.root / "references" / "tmt" / "tmt_iris_gain_0001.fits"


async def test_many_questions_at_once_are_answered_alike(cache: Cache) -> None:
    references = open_references(cache.root)
    headers = [HEADER | {"meta.observation.time": f"05:04:{second:02}.000"} for second in range(30)]
    found = await asyncio.gather(*(references.best_references(each, TYPES, "tmt_0002.pmap") for each in headers))
    assert [each["dark"].name for each in found] == ["tmt_iris_dark_0001.fits"] * 3 + ["tmt_iris_dark_0002.fits"] * 27


async def test_known_questions_are_answered_while_many_wait_for_crds(cache: Cache) -> None:
    references = open_references(cache.root)
    known = await names(references, "tmt_0002.pmap", *TYPES)
    with CRDS_LOCK:  # as a large context holds it while it is loaded
        waiting = [asyncio.create_task(names(references, "tmt_0001.pmap", "gain")) for _ in range(50)]
        await asyncio.sleep(0)
        async with asyncio.timeout(SOON_S):
            assert await names(references, "tmt_0002.pmap", *TYPES) == known
            assert await references.default_context() == "tmt_0002.pmap"
            assert (await references.file("tmt_iris_dark_0003.fits")).path.name == "tmt_iris_dark_0003.fits"
        assert not any(task.done() for task in waiting)
    assert await asyncio.gather(*waiting) == [["tmt_iris_gain_0001.fits"]] * 50


@pytest.mark.parametrize("name", ["tmt_iris_gain_0009.fits", "../x.fits", "tmt_0001.pmap", ""])
async def test_a_file_that_is_none_of_a_reference_is_missing(cache: Cache, name: str) -> None:
    with pytest.raises(MissingReference, match=r"is absent|cannot be verified|is no name"):
        await open_references(cache.root).file(name)


async def test_a_repeated_question_is_answered_at_once(cache: Cache) -> None:
    references = open_references(cache.root)
    await references.best_references(HEADER, TYPES, "tmt_0002.pmap")
    times = []
    for _ in range(1000):
        start = time.perf_counter()
        await references.best_references(HEADER, TYPES, "tmt_0002.pmap")
        times.append(time.perf_counter() - start)
    # 0.05 ms on an idle core; the limit leaves room for a busy one.
    assert sorted(times)[500] < 0.2e-3


def test_it_is_the_installed_implementation() -> None:
    (entry,) = entry_points(group="irisdrs.references")
    assert entry.load() is open_references


def test_a_context_that_nobody_needs_is_not_kept_beyond_the_next_one(cache: Cache) -> None:
    register()
    loaded: weakref.WeakValueDictionary[str, object] = weakref.WeakValueDictionary()
    PinnedContext(cache.mappings, "tmt_0001.pmap", loaded)
    kept = PinnedContext(cache.mappings, "tmt_0002.pmap", loaded)
    assert set(loaded) == {name for name in kept.mappings if name.endswith(".rmap")}


async def test_a_key_that_a_mapping_spells_in_lower_case_is_a_key_of_the_question(cache: Cache) -> None:
    register()
    from crds.core import rmap

    name = "tmt_iris_gain_0001.rmap"
    path = cache.path(name)
    rules = "'extra_keys' : ('meta.exposure.type',), 'rmap_relevance' : '(META_EXPOSURE_TYPE==\"SCI\")'"
    text = path.read_text().replace("'rmap_relevance' : 'always'", rules)
    path.unlink()
    rmap.ReferenceMapping.from_string(text, name, ignore_checksum=True).write(str(path))
    write_manifest(cache, read_manifest(cache) | {name: facts_of(path)})
    references = open_references(cache.root)
    for purpose, gain in (("SCI", "tmt_iris_gain_0001.fits"), ("FLT", "NOT FOUND n/a")):
        asked = HEADER | {"meta.exposure.type": purpose}
        assert await references.choose(asked, ["gain"], "tmt_0001.pmap") == {"gain": gain}
