"""Dead letters over HTTP, for other processes on the machine of an embedded system."""

import contextlib
from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from irisdrs.shared.dead_letters.letters import (
    DeadLetterOffice,
    Decision,
    Found,
    Letter,
    Moved,
    NoSuchLetter,
    Selection,
)
from irisdrs.shared.errors import IrisError, Outage
from irisdrs.shared.store.port import JSON

#: Letters that one request names at most.
MAX_IDS = 500

#: Largest request, bytes.
_MAX_BYTES = 64 * 1024


class Order(BaseModel):
    """What to do with some letters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: list[str] = Field(max_length=MAX_IDS)
    by: str = Field(min_length=1, max_length=200)
    reason: str = Field(default="", max_length=4000)


def dead_letter_routes(office: DeadLetterOffice) -> APIRouter:
    """Routes under ``/bus/dead-letters``.

    What changes something takes JSON only: a page of another origin cannot send that content type without asking
    first, and is never allowed to.
    """
    routes = APIRouter(prefix="/bus/dead-letters")

    @routes.get("")
    async def waiting(selection: Annotated[Selection, Query()]) -> list[Letter]:
        with _told():
            return await office.waiting(selection)

    @routes.get("/decided")
    async def decided(selection: Annotated[Selection, Query()]) -> list[Decision]:
        with _told():
            return await office.decided(selection)

    @routes.get("/{letter_id}")
    async def show(letter_id: str) -> Found:
        with _told():
            return await office.show(letter_id)

    @routes.post("/redrive")
    async def redrive(order: Annotated[Order, Depends(_order)]) -> Moved:
        with _told():
            return await office.redrive(order.ids, order.by, order.reason)

    @routes.post("/discard")
    async def discard(order: Annotated[Order, Depends(_order)]) -> Moved:
        with _told():
            return await office.discard(order.ids, order.by, order.reason)

    return routes


async def _order(request: Request) -> Order:
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise HTTPException(415, f"Send {JSON}.")
    length = request.headers.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and int(length) <= _MAX_BYTES):
        raise HTTPException(413, f"At most {_MAX_BYTES} bytes, with their Content-Length.")
    try:
        return Order.model_validate_json(await request.body())
    except ValidationError as error:
        raise HTTPException(422, str(error)) from error


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Turn errors into answers that `HttpDeadLetters` turns back."""
    try:
        yield
    except IrisError as error:
        status = 404 if isinstance(error, NoSuchLetter) else 503 if isinstance(error, Outage) else 409
        detail = {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
        raise HTTPException(status, detail) from error
