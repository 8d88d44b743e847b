"""The table of products: as wide as the terminal, ids never broken."""

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.query import find
from irisdrs.archive.catalogue.selection import ProductFilter, ProductPage
from irisdrs.archive.footprint import Circle
from irisdrs.archive.table import print_page

if TYPE_CHECKING:
    from tests.archive.conftest import Builder, Put

IMAGE = "2034B-007-123-IRIS-IMG1-SCI0-0034-L2-image"
READ = "2034B-007-123-IRIS-IMG1-SCI0-0034-L0-0001-00008"


@pytest.fixture
def page(catalogue: Catalogue, put: "Put", build: "Builder") -> ProductPage:
    """A read, a raw frame in two versions, and its image."""
    raw = build.raw(4)
    image = build.image(4, [raw], circle=Circle(150.1163, -2.2058, 0.003))
    put(catalogue, build.read(8), raw, build.raw(3, "old"), image)
    with catalogue.read() as session:
        return find(session, ProductFilter(all_versions=True), limit=100)


def printed(page: ProductPage, width: int, terminal: bool = True) -> list[str]:
    """Lines of the table on a terminal, or into a pipe, of some width."""
    out = io.StringIO()
    print_page(page, Console(file=out, width=width, force_terminal=terminal, color_system=None, _environ={}))
    return out.getvalue().splitlines()


def test_a_terminal_of_80_columns_gets_the_columns_that_fit(page: ProductPage) -> None:
    images = [row for row in page.products if row.level == 2]
    title, row, note = printed(ProductPage(total=1, products=images, next_cursor=None), 80)
    assert title.split() == ["product", "state", "last", "photon", "(UTC)", "reads"]
    assert row.split() == [IMAGE, "current", "2034-08-01", "05:00:00", "4/4"]
    assert note == "Not shown: sampling, filter, MB, version, RA Dec (deg). A wider terminal or --json has them."


@pytest.mark.parametrize("width", [1, 20, 60, 80, 100, 120])
def test_no_width_breaks_an_id_or_a_line(page: ProductPage, width: int) -> None:
    _, *rows, _ = printed(page, width)
    assert sorted(row.split()[0] for row in rows) == sorted(row.product_id for row in page.products)
    assert READ in {row.split()[0] for row in rows}
    assert all(len(row) <= max(width, len(READ)) for row in rows)


@pytest.mark.parametrize(("width", "terminal"), [(200, True), (80, False)])
def test_a_wide_terminal_and_a_pipe_get_everything(page: ProductPage, width: int, terminal: bool) -> None:
    title, *rows = printed(page, width, terminal)
    assert len(rows) == len(page.products)
    assert " ".join(title.split()) == "product state last photon (UTC) reads sampling filter MB version RA Dec (deg)"
    (image,) = (row.split() for row in rows if row.startswith(IMAGE))
    version = next(row.version[:8] for row in page.products if row.product_id == IMAGE)
    assert image[1:] == [
        "current",
        "2034-08-01",
        "05:00:00",
        "4/4",
        "UTR",
        "Ks",
        "0.0",
        version,
        "150.11630",
        "-2.20580",
    ]


def test_columns_stand_below_their_titles(page: ProductPage) -> None:
    title, *rows = printed(page, 200)
    for name in ("state", "last photon", "filter", "version"):
        assert all(row[title.index(name) - 2 : title.index(name)] == "  " for row in rows)
        assert all(row[title.index(name)] != " " for row in rows)
    assert all(row[title.index("reads") + len("reads") - 1] in "0123456789" for row in rows)


def test_what_the_limit_left_out_is_counted(page: ProductPage) -> None:
    first = ProductPage(total=4, products=page.products[:1], next_cursor="next")
    assert printed(first, 200)[-1] == "1 of 4; --limit shows more."
