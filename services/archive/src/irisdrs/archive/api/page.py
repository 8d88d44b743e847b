"""The page: the newest products as a plain list. Nothing is fetched from elsewhere."""

from html import escape
from urllib.parse import quote

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.query import latest
from irisdrs.archive.catalogue.selection import ProductRow

#: Rows on the page: two screens.
ROWS = 50

_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>IRIS archive</title>
<style>body{font-family:sans-serif;margin:2em}td,th{text-align:left;padding:.2em 1em .2em 0}</style></head>
<body><h1>IRIS archive</h1><p>Newest products. Ask for more at <a href="/api/docs">/api/docs</a>.</p>
<table><tr><th>Product</th><th>Filter</th><th>Last photon (UTC)</th><th>Reads</th><th>File</th></tr>
"""


def router(catalogue: Catalogue) -> APIRouter:
    """The route ``/``."""
    routes = APIRouter()

    @routes.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        with catalogue.read() as session:
            rows = latest(session, ROWS)
        body = "".join(map(_line, rows)) or '<tr><td colspan="5">Nothing yet.</td></tr>'
        return HTMLResponse(f"{_HEAD}{body}</table></body></html>", headers={"Cache-Control": "no-store"})

    return routes


def _line(row: ProductRow) -> str:
    link = f"/api/products/{quote(row.product_id)}"
    return (
        f'<tr><td><a href="{link}">{escape(row.product_id)}</a></td><td>{escape(row.filter or "")}</td>'
        f"<td>{row.photons_end:%Y-%m-%d %H:%M:%S}</td><td>{row.reads_used}/{row.reads_expected}</td>"
        f'<td><a href="{link}/file">{row.size / 1e6:.1f} MB</a></td></tr>\n'
    )
