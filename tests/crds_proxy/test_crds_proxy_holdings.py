"""A local cache keeps the contract of what an observatory has published, and follows what is built in it."""

import shutil
from pathlib import Path

import pytest
from tests.crds_proxy.holdings_contract import HoldingsContract

from irisdrs.crds_proxy.cache_holdings import CacheHoldings
from irisdrs.crds_proxy.holdings import ChangeKind
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.testing.references import write_reference


class TestCacheHoldings(HoldingsContract):
    @pytest.fixture
    def published(self, built: Path, tmp_path: Path) -> Cache:
        shutil.copytree(built, tmp_path / "crds")
        return Cache(tmp_path / "crds")

    @pytest.fixture
    def local(self, published: Cache) -> Cache:
        return published

    @pytest.fixture
    def holdings(self, published: Cache) -> CacheHoldings:
        return CacheHoldings(Verifier(published))

    async def test_a_context_that_others_build_is_in_force_at_once(
        self, holdings: CacheHoldings, published: Cache, tmp_path: Path
    ) -> None:
        before = await holdings.catalogue()
        new = build_context(published.root, [write_reference(tmp_path / "m.fits", "mask", DESCRIP="better")])
        after = await holdings.catalogue()
        assert (before.context, after.context) == ("tmt_0002.pmap", new)
        assert [change.kind for change in after.changes] == [ChangeKind.IMPORT]
        assert after.files.keys() - before.files.keys() == {
            "tmt_0003.pmap", "tmt_iris_0003.imap", "tmt_iris_mask_0002.rmap", "tmt_iris_mask_0002.fits",
        }  # fmt: skip

    async def test_an_empty_cache_has_published_nothing(self, tmp_path: Path) -> None:
        catalogue = await CacheHoldings(Verifier(Cache(tmp_path / "none"))).catalogue()
        assert (catalogue.context, catalogue.changes, dict(catalogue.files)) == (None, (), {})
