"""Ask over HTTP: the context in force, the best references for a header, and the bytes of a reference.

Every answer that is no success is a `Problem`: the client raises it again as the error that it was here.
"""

from http import HTTPStatus
from typing import Annotated

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.file_answers import answer_with_reference
from irisdrs.crds_proxy.protocol.routes import add_protocol
from irisdrs.shared.errors import Fatal, IrisError, MissingReference, Outage
from irisdrs.shared.reference_wire import (
    BEST_PATH,
    CONTEXT_PATH,
    FILES_PATH,
    MAX_QUESTION_BYTES,
    ContextInForce,
    FoundReference,
    Problem,
    Question,
    mistakes,
)

_log = structlog.get_logger(__name__)

#: Letters of an error that are logged: its values are the client's, of any length.
_LOGGED = 500

_BODY = {"required": True, "content": {"application/json": {"schema": Question.model_json_schema()}}}


class BadQuestion(Fatal):
    """The request is no question, or too large for one."""

    def __init__(self, status: HTTPStatus, message: str, *, remedy: str) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


def application(references: LocalReferences) -> FastAPI:
    """The web application of crds_proxy: our own questions, and the protocol of the official client beside them."""
    app = FastAPI(
        title="IRIS crds_proxy",
        description="Which calibration reference for this header, and its verified bytes.",
        version="1",
        openapi_url="/references/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.add_exception_handler(IrisError, _on_error)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(Exception, _on_bug)

    @app.get(CONTEXT_PATH, summary="The context in force for observations that start now")
    async def context() -> ContextInForce:
        return ContextInForce(context=await references.default_context())

    @app.post(BEST_PATH, summary="The best reference of each type", openapi_extra={"requestBody": _BODY})
    async def best(question: Annotated[Question, Depends(_question)]) -> list[FoundReference]:
        found = await references.best_references(question.header, question.types, question.context)
        return [
            FoundReference(type=kind, name=each.name, sha256=each.sha256, size=each.path.stat().st_size)
            for kind, each in found.items()
        ]

    @app.head(FILES_PATH + "/{name}", include_in_schema=False)
    @app.get(FILES_PATH + "/{name}", summary="A reference file; its ETag is its SHA-256", response_class=FileResponse)
    async def file(name: str, request: Request) -> Response:
        return await answer_with_reference(references, name, request)

    add_protocol(app, references)
    return app


async def _question(request: Request) -> Question:
    """Read a question, of bounded size whatever the client announces."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_QUESTION_BYTES:
            raise BadQuestion(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The question has more than {MAX_QUESTION_BYTES} bytes.",
                remedy="Send the parameters that references are matched on, not all that a file's header has.",
            )
    try:
        return Question.model_validate_json(bytes(body))
    except ValidationError as error:
        raise BadQuestion(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"This is no question: {mistakes(error)}.",
            remedy="Send JSON with context, types and header, all values as text.",
        ) from error


async def _on_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, IrisError)
    _log.warning("no answer", path=request.url.path, error_class=type(error).__name__, problem=str(error)[:_LOGGED])
    if isinstance(error, BadQuestion):
        return _problem(error.status, "Fatal", error.message, error.remedy)
    return _problem(_status(error), type(error).__name__, error.message, error.remedy)


def _status(error: IrisError) -> HTTPStatus:
    """A missing reference is not found; another fatal error lies in the cache, and asking again does not help."""
    if isinstance(error, MissingReference):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, Outage):
        return HTTPStatus.SERVICE_UNAVAILABLE
    return HTTPStatus.CONFLICT if isinstance(error, Fatal) else HTTPStatus.INTERNAL_SERVER_ERROR


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    word = HTTPStatus(error.status_code).phrase.title().replace(" ", "")
    remedy = "See /references/openapi.json for what can be asked."
    answer = _problem(error.status_code, word, f"{request.method} {request.url.path}: {error.detail}.", remedy)
    answer.headers.update(error.headers or {})
    return answer


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    _log.error("request failed", path=request.url.path, exc_info=error)
    return _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__, "crds_proxy failed to answer.", "Look into its log."
    )


def _problem(status: int, error_class: str, message: str, remedy: str) -> JSONResponse:
    body = Problem(error_class=error_class, message=message, remedy=remedy)
    return JSONResponse(body.model_dump(), status_code=status)
