"""A CRDS server that has published one reference of every type, and crds_proxy in front of it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.crds_proxy.faulty_line import Line, served
from tests.crds_proxy.in_front import LARGE, in_front_of

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.main import open_references
from irisdrs.crds_proxy.upstream.holdings import UpstreamHoldings
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.testing.references import write_reference, write_references


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose gain is large."""
    folder = tmp_path_factory.mktemp("references")
    files = write_references(folder)
    gain = write_reference(folder / "gain.fits", "gain", NAXIS=1, NAXIS1=LARGE - 2880)
    with gain.open("ab") as file:
        file.write(bytes(range(240)) * ((LARGE - 2880) // 240))
    build_context(folder / "crds", files)
    return folder / "crds"


@pytest.fixture
def published(built: Path, tmp_path: Path) -> Cache:
    """What the server has published: a cache of this test's own."""
    shutil.copytree(built, tmp_path / "published")
    return Cache(tmp_path / "published")


@pytest.fixture
def line(published: Cache) -> Line:
    """The line to the server."""
    return Line(application(open_references(published.root)), "/references/tmt/")


@pytest.fixture
async def url(line: Line) -> AsyncIterator[str]:
    """Where the server answers, at the end of the line."""
    async with served(line) as url:
        yield url


@pytest.fixture
def local(tmp_path: Path) -> Cache:
    """The empty cache of crds_proxy."""
    return Cache(tmp_path / "local")


@pytest.fixture
async def holdings(url: str, local: Cache) -> AsyncIterator[UpstreamHoldings]:
    """What crds_proxy has, in front of the server."""
    holdings = in_front_of(url, local)
    yield holdings
    await holdings.close()
