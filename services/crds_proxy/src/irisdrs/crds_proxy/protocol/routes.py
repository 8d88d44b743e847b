"""The CRDS protocol over HTTP: ``POST /json/{method}/{id}/``, and files by their names."""

import time
from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.file_answers import answer_with, answer_with_reference
from irisdrs.crds_proxy.protocol.envelope import (
    MAX_CALL_BYTES,
    BadCall,
    TooLarge,
    answer,
    envelope,
    read_call,
    with_addresses,
)
from irisdrs.crds_proxy.protocol.methods import METHODS, Methods
from irisdrs.shared.crds.names import is_mapping_name
from irisdrs.shared.errors import MissingReference

_log = structlog.get_logger(__name__)


def add_protocol(app: FastAPI, references: LocalReferences) -> None:
    """Let an application answer the official client, whose ``CRDS_SERVER_URL`` is its address."""
    figures, methods = references.figures, Methods(references)

    async def call(request: Request) -> Response:
        """One call. Its id and method stand in the path too, for logs; the body counts."""
        start_s = time.perf_counter()
        try:
            asked = read_call(await _body(request))
        except BadCall as error:
            figures.calls.labels("none", "refused").inc()
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE if isinstance(error, TooLarge) else HTTPStatus.BAD_REQUEST
            return _json(envelope(None, None, str(error)), status)
        except ClientDisconnect:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        result, problem = await answer(methods, asked)
        if asked.method == "get_server_info" and problem is None:
            assert isinstance(result, dict)
            result = with_addresses(result, str(request.base_url))
        if problem is not None:
            _log.warning("call failed", method=asked.method[:100], problem=problem[:500])
        name = asked.method if asked.method in METHODS else "unknown"
        figures.calls.labels(name, "ok" if problem is None else "error").inc()
        figures.call_seconds.labels(name).observe(time.perf_counter() - start_s)
        return _json(envelope(asked.id, result, problem))

    async def mapping(request: Request) -> Response:
        name = request.path_params["name"]
        if not is_mapping_name(name):
            raise MissingReference(f"{name!r} is no name of a mapping.", remedy="They are called as tmt_0001.pmap.")
        return answer_with(await references.published(name), request, figures, "mapping")

    async def reference(request: Request) -> Response:
        return await answer_with_reference(references, request.path_params["name"], request)

    # Plain routes: what checks the body of a call is its method, not the framework.
    app.add_route("/json/{path:path}", call, methods=["POST"], include_in_schema=False)
    app.add_route("/mappings/tmt/{name}", mapping, methods=["GET"], include_in_schema=False)
    app.add_route("/references/tmt/{name}", reference, methods=["GET"], include_in_schema=False)


async def _body(request: Request) -> bytes:
    """The body, however large the client says that it is."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_CALL_BYTES:
            raise TooLarge(f"A call has at most {MAX_CALL_BYTES} bytes.")
    return bytes(body)


def _json(content: bytes, status: int = HTTPStatus.OK) -> Response:
    return Response(content, status_code=status, media_type="application/json")
