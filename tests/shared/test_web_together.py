"""Web applications of several services under one address."""

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response
from starlette.requests import Request

from irisdrs.shared.web_together import Together


def application(name: str, *paths: str) -> FastAPI:
    """Says its name at each path, and that it met a mistake of its own where one is made."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def say(request: Request) -> Response:
        if "mistake" in request.query_params:
            raise ValueError
        return JSONResponse([name, request.url.path])

    for path in paths:
        app.add_route(path, say, methods=["GET"])

    @app.exception_handler(ValueError)
    async def mistaken(request: Request, error: Exception) -> Response:
        return JSONResponse([name, "mistake"], status_code=500)

    return app


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    outer = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    outer.mount("/", Together([application("a", "/", "/both"), application("b", "/both", "/json/{rest:path}")]))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://iris") as client:
        yield client


@pytest.mark.parametrize(("path", "name"), [("/", "a"), ("/both", "a"), ("/json/x/y/", "b")])
async def test_each_path_has_its_application(client: httpx.AsyncClient, path: str, name: str) -> None:
    assert (await client.get(path)).json() == [name, path]
    assert (await client.get(path, params={"mistake": 1})).json() == [name, "mistake"]
    assert (await client.post(path)).status_code == 405


async def test_a_path_that_none_has_is_not_found(client: httpx.AsyncClient) -> None:
    assert (await client.get("/nothing")).status_code == 404
