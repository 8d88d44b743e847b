"""Products as a table for people."""

from rich.console import Console
from rich.table import Table

from irisdrs.archive.catalogue.selection import ProductPage, ProductRow


def print_page(page: ProductPage, console: Console) -> None:
    """Print rows, and how many there are in all."""
    if not page.products:
        console.print("No products match.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("product", no_wrap=True, overflow="fold")
    for name in ("filter", "last photon (UTC)", "RA", "Dec", "reads", "MB", "version", "state"):
        table.add_column(name, justify="right" if name in ("RA", "Dec", "reads", "MB") else "left")
    for row in page.products:
        table.add_row(*_cells(row))
    console.print(table)
    if page.next_cursor is not None:
        console.print(f"{len(page.products)} of {page.total}; --limit shows more.")


def _cells(row: ProductRow) -> list[str]:
    return [
        row.product_id,
        row.filter or "",
        f"{row.photons_end:%Y-%m-%d %H:%M:%S}",
        "" if row.ra_deg is None else f"{row.ra_deg:.5f}",
        "" if row.dec_deg is None else f"{row.dec_deg:+.5f}",
        f"{row.reads_used}/{row.reads_expected}",
        f"{row.size / 1e6:.1f}",
        row.version[:8],
        _state(row),
    ]


def _state(row: ProductRow) -> str:
    if row.status == "damaged":
        return "damaged"
    if row.conflicted:
        return "conflict"
    return "current" if row.current else "superseded"
