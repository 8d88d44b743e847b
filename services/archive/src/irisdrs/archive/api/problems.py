"""Errors as problem details (RFC 9457): what happened, and what to do."""

from http import HTTPStatus

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from irisdrs.shared.errors import CorruptObject, IrisError, Outage

_log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is no success."""

    def __init__(self, status: HTTPStatus, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.remedy = remedy


def install(app: FastAPI) -> None:
    """Make every error of an application a problem document."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_validation)
    app.add_exception_handler(IrisError, _on_iris)


def answer(status: int, detail: str, remedy: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """A problem document."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "remedy": remedy,
    }
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Problem)
    return answer(error.status, error.detail, error.remedy)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    headers = dict(error.headers) if error.headers else None
    return answer(error.status_code, str(error.detail), "See /api/docs for what there is.", headers)


async def _on_validation(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(map(str, one['loc'][1:])) or 'request'}: {one['msg']}" for one in error.errors()]
    return answer(HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(problems), "See /api/docs for names and ranges.")


async def _on_iris(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, IrisError)
    _log.error("request failed", path=request.url.path, error_class=type(error).__name__, problem=str(error))
    if isinstance(error, Outage):
        return answer(HTTPStatus.SERVICE_UNAVAILABLE, error.message, error.remedy or "Try again later.")
    status = HTTPStatus.BAD_GATEWAY if isinstance(error, CorruptObject) else HTTPStatus.INTERNAL_SERVER_ERROR
    return answer(status, error.message, error.remedy or "Tell the archive's operator.")
