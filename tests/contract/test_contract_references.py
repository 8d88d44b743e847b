"""References in process and over HTTP keep the contract of their port, and say the same of what they cannot answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.errors import IrisError
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.references import References
from irisdrs.shared.testing.references import HEADER
from irisdrs.shared.testing.references_contract import TYPES, UNANSWERED, UNKNOWN_CONTEXTS, ReferencesContract, cut
from irisdrs.shared.web_server import serving


class TestLocalReferences(ReferencesContract):
    @pytest.fixture
    def references(self, cache: Cache) -> LocalReferences:
        return open_references(cache.root)


class TestHttpReferences(ReferencesContract):
    @pytest.fixture
    async def references(self, cache: Cache, tmp_path: Path) -> AsyncIterator[HttpReferences]:
        async with serving(application(open_references(cache.root)), "127.0.0.1", 0) as url:
            references = HttpReferences(url, tmp_path / "fetched")
            yield references
            await references.close()

    async def test_it_says_what_the_proxy_says(self, references: HttpReferences, cache: Cache) -> None:
        local = open_references(cache.root)
        for header, _ in UNANSWERED.values():
            assert await said(references, header) == await said(local, header)
        for context in UNKNOWN_CONTEXTS:
            assert await said(references, HEADER, context) == await said(local, HEADER, context)
        cut(cache.references / "tmt_iris_flat_0001.fits")
        (cache.references / "tmt_iris_mask_0001.fits").unlink()
        assert await said(references, HEADER) == await said(local, HEADER)
        cache.manifest.write_text("no JSON")
        assert await said(references, HEADER) == await said(local, HEADER)
        cache.server_config.write_text("{}")
        assert await refusal_of_context(references) == await refusal_of_context(local)


async def said(references: References, header: object, context: str = "tmt_0001.pmap") -> tuple[object, ...]:
    """Class, message and remedy of the error that a question raises."""
    assert isinstance(header, dict)
    with pytest.raises(IrisError) as raised:
        await references.best_references(header, TYPES, context)
    return type(raised.value), raised.value.message, raised.value.remedy


async def refusal_of_context(references: References) -> tuple[object, ...]:
    with pytest.raises(IrisError) as raised:
        await references.default_context()
    return type(raised.value), raised.value.message, raised.value.remedy
