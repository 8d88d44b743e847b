"""Products as a table for people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console

from irisdrs.archive.catalogue.selection import ProductPage, ProductRow

#: Between two columns.
GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its title, what stands in a row, and on which side."""

    title: str
    cell: Callable[[ProductRow], str]
    right: bool = False


def print_page(page: ProductPage, console: Console) -> None:
    """Print rows, and how many there are in all.

    A terminal gets the columns that fit, and is told of the others. A pipe has no width and gets all of them. An id is
    never broken, so that it can be copied and searched for.
    """
    if not page.products:
        console.print("No products match.")
        return
    texts = {column: _texts(column, page.products) for column in COLUMNS}
    shown = _fitting(texts, console.width) if console.is_terminal else list(COLUMNS)
    title, *rows = zip(*(texts[column] for column in shown), strict=True)
    _print_line(console, title, style="bold")
    for row in rows:
        _print_line(console, row)
    if left_out := [column.title for column in COLUMNS if column not in shown]:
        _print_line(console, [f"Not shown: {', '.join(left_out)}. A wider terminal or --json has them."])
    if page.next_cursor is not None:
        console.print(f"{len(page.products)} of {page.total}; --limit shows more.")


def _texts(column: Column, products: Sequence[ProductRow]) -> list[str]:
    """Title and cells of a column, all of one width."""
    texts = [column.title, *map(column.cell, products)]
    width = max(map(len, texts))
    return [text.rjust(width) if column.right else text.ljust(width) for text in texts]


def _fitting(texts: dict[Column, list[str]], room: int) -> list[Column]:
    """The first column, and of the others, the most important first, those for which there is room."""
    shown: list[Column] = []
    used = -len(GAP)
    for column, cells in texts.items():
        width = len(GAP) + len(cells[0])
        if not shown or used + width <= room:
            shown.append(column)
            used += width
    return shown


def _print_line(console: Console, cells: Sequence[str], style: str | None = None) -> None:
    # The terminal itself breaks what is longer than it is wide; rich would put line breaks into the text.
    console.print(GAP.join(cells).rstrip(), style=style, soft_wrap=True, markup=False, highlight=False)


def _state(row: ProductRow) -> str:
    if row.status == "damaged":
        return "damaged"
    if row.conflicted:
        return "conflict"
    return "current" if row.current else "superseded"


def _place(row: ProductRow) -> str:
    return "" if row.ra_deg is None or row.dec_deg is None else f"{row.ra_deg:9.5f} {row.dec_deg:+9.5f}"


#: The most important first: beside an id of an image, the first four fill 80 columns.
COLUMNS = (
    Column("product", lambda row: row.product_id),
    Column("state", _state),
    Column("last photon (UTC)", lambda row: f"{row.photons_end:%Y-%m-%d %H:%M:%S}"),
    Column("reads", lambda row: f"{row.reads_used}/{row.reads_expected}", right=True),
    Column("sampling", lambda row: row.sampling_mode or ""),
    Column("filter", lambda row: row.filter or ""),
    Column("MB", lambda row: f"{row.size / 1e6:.1f}", right=True),
    Column("version", lambda row: row.version[:8]),
    Column("RA Dec (deg)", _place),
)
