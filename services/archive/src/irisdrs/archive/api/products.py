"""Products: list, one, its header, its file."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO

import structlog
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from sqlalchemy import update
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from irisdrs.archive.api.parameters import page_cursor, product_filter
from irisdrs.archive.api.problems import Problem
from irisdrs.archive.api.ranges import UnsatisfiableRange, byte_range
from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.catalogue.query import find, row_of, version_of
from irisdrs.archive.catalogue.selection import MAX_PAGE, Cursor, ProductFilter, ProductPage, ProductRow
from irisdrs.archive.catalogue.tables import Artifact, ArtifactStatus, Header, Product
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.store.port import ObjectRef, Store

_log = structlog.get_logger(__name__)

#: Bytes that are read from disk at a time: large against a request's overhead, small against memory.
CHUNK_BYTES = 1 << 20

Version = Annotated[
    str | None,
    Query(description="First digits of the version (job hash); without it the current one", pattern="^[0-9a-f]{1,64}$"),
]


def router(catalogue: Catalogue, store: Store) -> APIRouter:
    """Routes under ``/api/products``."""
    routes = APIRouter(prefix="/api/products", tags=["products"])

    @routes.get("", summary="Products by observation, exposure, detector, level, type, time and cone")
    def products(
        wanted: Annotated[ProductFilter, Depends(product_filter)],
        cursor: Annotated[Cursor | None, Depends(page_cursor)],
        limit: Annotated[int, Query(description="Most rows", ge=1, le=MAX_PAGE)] = 100,
    ) -> ProductPage:
        with catalogue.read() as session:
            return find(session, wanted, limit=limit, cursor=cursor)

    @routes.get("/{product_id}", summary="One product: its current version, or the one that is named")
    def product(product_id: str, version: Version = None) -> ProductRow:
        with catalogue.read() as session:
            return row_of(_found(session, product_id, version))

    @routes.get("/{product_id}/header", summary="Header cards and byte offsets of every HDU")
    def header(product_id: str, version: Version = None) -> list[dict[str, object]]:
        with catalogue.read() as session:
            return session.get_one(Header, _found(session, product_id, version).artifact_id).hdus

    @routes.get(
        "/{product_id}/file", summary="The FITS file; its ETag is its SHA-256", response_class=StreamingResponse
    )
    async def file(product_id: str, request: Request, version: Version = None) -> Response:
        row = await asyncio.to_thread(_row, catalogue, product_id, version)
        return await _download(catalogue, store, row, request)

    return routes


def _row(catalogue: Catalogue, product_id: str, version: str | None) -> tuple[ProductRow, str]:
    with catalogue.read() as session:
        product = _found(session, product_id, version)
        return row_of(product), product.artifact.media_type


def _found(session: Session, product_id: str, version: str | None) -> Product:
    try:
        product = version_of(session, product_id, version)
    except ValueError as error:
        raise Problem(HTTPStatus.CONFLICT, str(error), "Give more digits of the version.") from error
    if product is None:
        what = "has no current version" if version is None else f"has no version {version}"
        raise Problem(
            HTTPStatus.NOT_FOUND,
            f"{product_id!r} is not in the catalogue or {what}.",
            "List what there is with /api/products?all_versions=true.",
        )
    return product


async def _download(catalogue: Catalogue, store: Store, found: tuple[ProductRow, str], request: Request) -> Response:
    row, media_type = found
    headers = {
        "ETag": f'"{row.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{row.product_id}-{row.version[:8]}.fits"',
    }
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if_range = request.headers.get("if-range")
    wanted = request.headers.get("range") if if_range in (None, headers["ETag"]) else None
    try:
        part = byte_range(wanted, row.size)
    except UnsatisfiableRange as error:
        raise Problem(
            HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, str(error), f"The file has {row.size} bytes."
        ) from error
    start, end = part or (0, row.size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{row.size}"
    stack = contextlib.AsyncExitStack()
    ref = ObjectRef(key=row.key, sha256=row.sha256, size=row.size, media_type=media_type)
    try:
        path = await stack.enter_async_context(store.local(ref))
        source = stack.enter_context(path.open("rb"))
    except CorruptObject as error:
        await asyncio.to_thread(_flag_damaged, catalogue, row)
        raise CorruptObject(
            f"{row.product_id}: the stored file is not what was verified at ingest. {error.message}",
            remedy="The archive does not hand it out. Tell its operator; the object must be restored.",
        ) from error
    except BaseException:
        await stack.aclose()
        raise
    status = HTTPStatus.OK if part is None else HTTPStatus.PARTIAL_CONTENT
    return _Download(stack, _chunks(source, start, end), status_code=status, headers=headers, media_type=media_type)


class _Download(StreamingResponse):
    """Streams part of a file and lets go of it, also when the client never takes a byte."""

    def __init__(self, held: contextlib.AsyncExitStack, chunks: AsyncIterator[bytes], **answer: Any) -> None:
        super().__init__(chunks, **answer)
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._held:
            await super().__call__(scope, receive, send)


async def _chunks(source: BinaryIO, start: int, end: int) -> AsyncIterator[bytes]:
    source.seek(start)
    left = end - start
    while left > 0:
        chunk = await asyncio.to_thread(source.read, min(CHUNK_BYTES, left))
        if not chunk:
            raise EOFError(f"{source.name} ended {left} bytes early")
        left -= len(chunk)
        yield chunk


def _flag_damaged(catalogue: Catalogue, row: ProductRow) -> None:
    _log.error("damaged object refused", product_id=row.product_id, key=row.key, sha256=row.sha256)
    with catalogue.write() as session:
        session.execute(
            update(Artifact)
            .where(Artifact.key == row.key, Artifact.sha256 == row.sha256)
            .values(status=ArtifactStatus.DAMAGED)
        )
