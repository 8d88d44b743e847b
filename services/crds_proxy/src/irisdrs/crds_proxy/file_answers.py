"""Hand out verified files over HTTP: whole, in parts, or not at all if the client has them already."""

import contextlib
import os
from collections.abc import AsyncGenerator, MutableMapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.figures import Figures
from irisdrs.crds_proxy.holdings import Arriving
from irisdrs.crds_proxy.verification import VerifiedFile


def answer_with(file: VerifiedFile, request: Request, figures: Figures, kind: str) -> Response:
    """Answer a GET or HEAD with a file; its ETag is its SHA-256.

    Parameters
    ----------
    file : VerifiedFile
    request : Request
        ``If-None-Match``, ``Range`` and ``If-Range`` count.
    figures : Figures
    kind : str
        ``mapping`` or ``reference``, for the figures.
    """
    etag = f'"{file.sha256}"'
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in known or "*" in known:
        return Response(status_code=304, headers={"ETag": etag})
    # With what `stat` says now, a file that vanished is an error before the answer begins, not within it.
    stat = os.stat(file.path)  # noqa: PTH116
    answer = _File(file.path, headers={"ETag": etag}, media_type="application/octet-stream", stat_result=stat)
    answer.bytes_out = figures.file_bytes.labels(kind)
    return answer


async def answer_with_reference(references: LocalReferences, name: str, request: Request) -> Response:
    """Answer a GET or HEAD with a reference: with what is there of it, if all of one on its way is wanted.

    Raises
    ------
    MissingReference
        If it was never published, or the name is none of a reference.
    Outage
        If it cannot be brought now.
    """
    if request.method == "GET" and {"range", "if-none-match"}.isdisjoint(request.headers):
        coming = await references.arriving(name)
        if coming is not None:
            return await _answer_while_it_comes(coming, references.figures, "reference")
    return answer_with(await references.file(name), request, references.figures, "reference")


async def _answer_while_it_comes(coming: Arriving, figures: Figures, kind: str) -> Response:
    """Answer a GET with a file that is on its way: with each piece when it is there.

    The connection is cut, before its last byte, when the file turns out to be damaged.

    Raises
    ------
    Outage
        If nothing of it comes.
    """
    pieces, bytes_out = coming.pieces(), figures.file_bytes.labels(kind)
    first = await anext(pieces, b"")

    async def counted() -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing(pieces):
            bytes_out.inc(len(first))
            yield first
            async for piece in pieces:
                bytes_out.inc(len(piece))
                yield piece

    return StreamingResponse(
        counted(), headers={"Content-Length": str(coming.size)}, media_type="application/octet-stream"
    )


class _File(FileResponse):
    """A file in larger pieces than the framework's, because references have 64 MiB and more; counts what goes out."""

    chunk_size = 1 << 20
    bytes_out: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: MutableMapping[str, Any]) -> None:
            await send(message)
            self.bytes_out.inc(len(message.get("body", b"")))

        await super().__call__(scope, receive, counting)
