"""What every implementation of `Holdings` does: subclass, give `published`, `local` and `holdings`, and run."""

import asyncio
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from irisdrs.crds_proxy.holdings import Holdings, Published
from irisdrs.shared.crds.cache import Cache, context_in_force, read_manifest
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.testing.references import write_reference, write_references

#: Names that are none of a CRDS file, and of files that nobody published.
UNKNOWN_NAMES = (
    "tmt_iris_gain_0099.fits", "tmt_0099.pmap", "../config/tmt/manifest.json", "/etc/passwd", "..", "", "manifest.json",
    "tmt_iris_gain_0001.fits/..", "TMT_0001.PMAP", "tmt_0001.pmap\n", "a" * 300 + ".fits", "tmt_0001.pmap\x00",
)  # fmt: skip


class HoldingsContract:
    """Contract of `irisdrs.crds_proxy.holdings.Holdings`.

    Give a fixture ``holdings`` that has published all that lies in the cache ``published``, and brings files into the
    cache ``local`` (which may be the same one).
    """

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A cache with two contexts, the second one in force."""
        folder = tmp_path_factory.mktemp("published")
        build_context(folder / "crds", write_references(folder))
        build_context(folder / "crds", [write_reference(folder / "better.fits", "gain", DESCRIP="better")])
        return folder / "crds"

    async def test_the_catalogue_says_what_is_published(self, holdings: Holdings, published: Cache) -> None:
        catalogue = await holdings.catalogue()
        assert catalogue.context == context_in_force(published) == "tmt_0002.pmap"
        assert not catalogue.stale
        assert catalogue.files.keys() == read_manifest(published).keys()
        for name, facts in catalogue.files.items():
            content = published.path(name).read_bytes()
            assert (facts.size, facts.sha1sum) == (len(content), hashlib.sha1(content).hexdigest())
            assert facts.sha256 in ("", hashlib.sha256(content).hexdigest())

    async def test_history_is_numbered_and_goes_forward(self, holdings: Holdings) -> None:
        catalogue = await holdings.catalogue()
        assert [change.number for change in catalogue.changes] == list(range(1, len(catalogue.changes) + 1))
        times = [change.at for change in catalogue.changes]
        assert times == sorted(times)
        assert all(moment.tzinfo is not None for moment in (*times, catalogue.asked_at))
        together: dict[str, Published] = {}
        for change in catalogue.changes:
            together |= change.files
            assert change.context in together
            assert change.by
            assert change.reason
        assert together == dict(catalogue.files)

    async def test_a_moment_has_the_context_of_the_last_change_before(self, holdings: Holdings) -> None:
        catalogue = await holdings.catalogue()
        assert catalogue.context_at(datetime.now(UTC) + timedelta(days=1)) == catalogue.context
        for change in catalogue.changes[-1:]:
            assert catalogue.context_at(change.at) == change.context
        assert catalogue.context_at(catalogue.changes[0].at - timedelta(microseconds=1)) is None

    async def test_every_file_comes_whole_absolute_and_read_only(
        self, holdings: Holdings, published: Cache, local: Cache
    ) -> None:
        for name, facts in (await holdings.catalogue()).files.items():
            path = await holdings.local(name)
            assert path == local.path(name)
            assert path.is_absolute()
            assert path.read_bytes() == published.path(name).read_bytes()
            assert path.stat().st_mode & 0o222 == 0
            # Whoever reads the cache without us finds there what the file must be.
            known = read_manifest(local)[name]
            assert (known.size, known.sha1sum) == (facts.size, facts.sha1sum)
            assert known.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    async def test_many_may_ask_for_the_same_files_at_once(self, holdings: Holdings, published: Cache) -> None:
        names = sorted(read_manifest(published)) * 5
        paths = await asyncio.gather(*(holdings.local(name) for name in names))
        for name, path in zip(names, paths, strict=True):
            assert path.read_bytes() == published.path(name).read_bytes()

    @pytest.mark.parametrize("name", UNKNOWN_NAMES)
    async def test_what_is_not_published_is_missing(self, holdings: Holdings, name: str) -> None:
        with pytest.raises(MissingReference) as raised:
            await holdings.local(name)
        assert raised.value.remedy

    @pytest.mark.parametrize("name", ["tmt_iris_flat_0001.fits", "tmt_iris_flat_0001.rmap"])
    async def test_a_local_file_that_was_damaged_is_never_handed_out(
        self, holdings: Holdings, local: Cache, name: str
    ) -> None:
        path = await holdings.local(name)
        content = path.read_bytes()
        path.chmod(0o644)
        os.truncate(path, len(content) - 1)
        try:
            again = await holdings.local(name)
        except MissingReference as problem:
            assert name in problem.message
        else:
            assert again.read_bytes() == content
