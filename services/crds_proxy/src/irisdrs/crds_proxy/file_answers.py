"""Hand out verified files over HTTP: whole, in parts, or not at all if the client has them already."""

import os
from collections.abc import MutableMapping
from typing import Any

from fastapi import Request, Response
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from irisdrs.crds_proxy.figures import Figures
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


class _File(FileResponse):
    """A file in larger pieces than the framework's, because references have 64 MiB and more; counts what goes out."""

    chunk_size = 1 << 20
    bytes_out: Any

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: MutableMapping[str, Any]) -> None:
            await send(message)
            self.bytes_out.inc(len(message.get("body", b"")))

        await super().__call__(scope, receive, counting)
