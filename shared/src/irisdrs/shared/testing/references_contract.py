"""What every implementation of `References` does: subclass, give a `references` fixture on `cache`, and run."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import Fatal, MissingReference
from irisdrs.shared.references import References
from irisdrs.shared.testing.references import CARDS, HEADER, write_reference, write_references

TYPES = tuple(CARDS)

#: Headers for which something is missing, and what.
UNANSWERED: Mapping[str, tuple[Mapping[str, str], set[str]]] = {
    "another detector": (HEADER | {"meta.instrument.detector": "IMG7"}, set(TYPES)),
    "another filter": (HEADER | {"meta.instrument.filter": "Zn1"}, {"flat"}),
    "another sampling": (HEADER | {"meta.exposure.sampling_mode": "CDS"}, {"dark", "readnoise"}),
    "another instrument": (HEADER | {"meta.instrument.name": "WFOS"}, set(TYPES)),
    "too early": (HEADER | {"meta.observation.date": "2029-12-31"}, set(TYPES)),
    "a date that is none": (HEADER | {"meta.observation.date": "yesterday"}, set(TYPES)),
    "nothing": ({}, set(TYPES)),
    "no keys": ({"INSTRUME": "IRIS"}, set(TYPES)),
    "empty values": (dict.fromkeys(HEADER, ""), set(TYPES)),
    "control characters": (HEADER | {"meta.instrument.filter": "K\x00s\n"}, {"flat"}),
    "quotes": (HEADER | {"meta.instrument.filter": "'\"\\"}, {"flat"}),
    "letters of the world": (HEADER | {"meta.instrument.filter": "Кs 🔭"}, {"flat"}),
    "code": (HEADER | {"meta.instrument.filter": "__import__('os').abort()"}, {"flat"}),
    "a long text": (HEADER | {"meta.instrument.filter": "K" * 10_000}, {"flat"}),
    "a number that is none": (HEADER | {"meta.exposure.integration_time": "nan"}, {"dark"}),
}

#: Names that are none of a context, or of one that is not there.
UNKNOWN_CONTEXTS = ("tmt_0009.pmap", "../tmt_0001.pmap", "/etc/passwd", "tmt_iris_0001.imap", "tmt-operational", "")


def cut(path: Path) -> None:
    """Take the last byte off a read-only file."""
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size - 1)
    path.chmod(0o444)


class ReferencesContract:
    """Contract of `irisdrs.shared.references.References`.

    Give a fixture ``references`` that answers from the fixture ``cache`` and has been asked nothing yet.
    """

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """Context 1: one reference of every type. Context 2, in force: another gain."""
        folder = tmp_path_factory.mktemp("references")
        assert build_context(folder / "cache", write_references(folder)) == "tmt_0001.pmap"
        better = write_reference(folder / "better.fits", "gain", DESCRIP="better")
        assert build_context(folder / "cache", [better]) == "tmt_0002.pmap"
        return folder / "cache"

    @pytest.fixture
    def cache(self, built: Path, tmp_path: Path) -> Cache:
        """A cache of this test only."""
        shutil.copytree(built, tmp_path / "crds")
        return Cache(tmp_path / "crds")

    async def test_names_the_context_in_force(self, references: References, cache: Cache) -> None:
        assert await references.default_context() == "tmt_0002.pmap"
        (cache.server_config).write_text(cache.server_config.read_text().replace("tmt_0002.pmap", "tmt_0001.pmap"))
        assert await references.default_context() == "tmt_0001.pmap"

    async def test_a_cache_without_context_has_none_in_force(self, references: References, cache: Cache) -> None:
        cache.server_config.unlink()
        with pytest.raises(Fatal, match="holds no context") as raised:
            await references.default_context()
        assert raised.value.remedy

    async def test_finds_every_type_with_its_verified_file(self, references: References, cache: Cache) -> None:
        found = await references.best_references(HEADER, TYPES, "tmt_0001.pmap")
        assert list(found) == list(TYPES)
        for kind, reference in found.items():
            assert (reference.type, reference.name) == (kind, f"tmt_iris_{kind}_0001.fits")
            content = reference.path.read_bytes()
            assert content == (cache.references / reference.name).read_bytes()
            assert hashlib.sha256(content).hexdigest() == reference.sha256

    async def test_files_are_absolute_named_as_in_crds_and_read_only(self, references: References) -> None:
        for reference in (await references.best_references(HEADER, TYPES, "tmt_0001.pmap")).values():
            assert reference.path.is_absolute()
            assert reference.path.name == reference.name
            assert reference.path.stat().st_mode & 0o222 == 0

    async def test_a_pinned_context_keeps_its_answers(self, references: References) -> None:
        for context, gain in (("tmt_0002.pmap", "0002"), ("tmt_0001.pmap", "0001"), ("tmt_0002.pmap", "0002")):
            found = await references.best_references(HEADER, ["gain"], context)
            assert found["gain"].name == f"tmt_iris_gain_{gain}.fits"

    async def test_keywords_and_numbers_ask_the_same_question(self, references: References) -> None:
        asked = {"INSTRUME": "IRIS", "DATE-OBS": "2034-08-01", "TIME-OBS": "05:04:03.000"}
        asked |= {name: str(value) for name, value in CARDS["dark"].items()} | {"RAMPINTT": "5.7600000001"}
        found = await references.best_references(asked, ["dark"], "tmt_0001.pmap")
        assert found == await references.best_references(HEADER, ["dark"], "tmt_0001.pmap")

    async def test_asked_for_nothing_it_answers_nothing(self, references: References) -> None:
        assert await references.best_references(HEADER, [], "tmt_0001.pmap") == {}

    @pytest.mark.parametrize("case", UNANSWERED)
    async def test_names_all_that_is_missing(self, references: References, case: str) -> None:
        header, missing = UNANSWERED[case]
        for _ in range(2):
            with pytest.raises(MissingReference) as raised:
                await references.best_references(header, TYPES, "tmt_0001.pmap")
            assert {kind for kind in TYPES if f"{kind}: " in raised.value.message} == missing
            assert "Deliver" in raised.value.remedy

    async def test_an_unknown_type_is_missing(self, references: References) -> None:
        with pytest.raises(MissingReference, match="Unknown reference type"):
            await references.best_references(HEADER, ["gain", "../gain"], "tmt_0001.pmap")

    @pytest.mark.parametrize("context", UNKNOWN_CONTEXTS)
    async def test_an_unknown_context_is_missing(self, references: References, context: str) -> None:
        with pytest.raises(MissingReference, match="context"):
            await references.best_references(HEADER, ["gain"], context)

    async def test_answers_many_questions_at_once(self, references: References) -> None:
        questions = [(HEADER | {"n": str(n)}, TYPES[n % 7 :], f"tmt_000{n % 2 + 1}.pmap") for n in range(40)]
        answers = await asyncio.gather(*(references.best_references(*question) for question in questions))
        for (_, types, context), found in zip(questions, answers, strict=True):
            assert list(found) == list(types)
            for kind, reference in found.items():
                number = context[7] if kind == "gain" else "1"
                assert reference.name == f"tmt_iris_{kind}_000{number}.fits"
                assert hashlib.sha256(reference.path.read_bytes()).hexdigest() == reference.sha256

    async def test_a_damaged_file_is_missing_until_it_is_restored(
        self, references: References, cache: Cache, tmp_path: Path
    ) -> None:
        path = cache.references / "tmt_iris_flat_0001.fits"
        whole = shutil.copy2(path, tmp_path / "whole")
        cut(path)
        with pytest.raises(MissingReference, match=r"flat: .*tmt_iris_flat_0001\.fits is damaged") as raised:
            await references.best_references(HEADER, ["gain", "flat"], "tmt_0001.pmap")
        assert "Restore" in raised.value.remedy
        Path(whole).replace(path)
        found = await references.best_references(HEADER, ["gain", "flat"], "tmt_0001.pmap")
        assert found["flat"].name == path.name

    async def test_an_absent_file_is_missing(self, references: References, cache: Cache) -> None:
        (cache.references / "tmt_iris_mask_0001.fits").unlink()
        with pytest.raises(MissingReference, match=r"mask: .*tmt_iris_mask_0001\.fits is absent"):
            await references.best_references(HEADER, TYPES, "tmt_0001.pmap")
