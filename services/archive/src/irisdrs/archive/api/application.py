"""The web application of the archive."""

from fastapi import APIRouter, FastAPI
from fastapi.responses import HTMLResponse
from sqlalchemy import text

from irisdrs.archive.api import latencies, observations, page, problems, products, reconciliation
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.shared.service import Held, none_held
from irisdrs.shared.store.port import Store

#: A plain list of what there is, instead of a documentation page whose scripts come from elsewhere.
_DOCS = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>IRIS archive API</title></head><body>
<h1>IRIS archive API</h1><p>Machine readable: <a href="/api/openapi.json">OpenAPI</a>.</p>
<dl>{routes}</dl></body></html>"""


def application(catalogue: Catalogue, store: Store, held: Held = none_held) -> FastAPI:
    """Everything that can be asked over HTTP, and the page."""
    app = FastAPI(
        title="IRIS archive",
        description="Products of TMT/IRIS. Angles are ICRS degrees, times UTC, sizes bytes.",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(products.router(catalogue, store))
    app.include_router(observations.router(catalogue))
    app.include_router(latencies.router(catalogue))
    app.include_router(reconciliation.router(catalogue, store, held))
    app.include_router(_health(catalogue))
    app.include_router(page.router(catalogue))

    @app.get("/api/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        paths: dict[str, dict[str, dict[str, str]]] = app.openapi()["paths"]
        lines = [f"<dt>{path}</dt><dd>{one['summary']}</dd>" for path, verbs in paths.items() for one in verbs.values()]
        return HTMLResponse(_DOCS.format(routes="".join(lines)))

    return app


def _health(catalogue: Catalogue) -> APIRouter:
    routes = APIRouter(prefix="/api/health", tags=["health"])

    @routes.get("/live", summary="The process answers")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @routes.get("/ready", summary="The catalogue answers; 503 when it does not")
    def ready() -> dict[str, str]:
        with catalogue.read() as session:
            session.execute(text("SELECT 1 FROM product LIMIT 1"))
        return {"status": "ready"}

    return routes
