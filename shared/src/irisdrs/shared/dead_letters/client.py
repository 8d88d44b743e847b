"""Where a command finds the dead letters: at the broker and the store, or at an embedded system over HTTP."""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
from pydantic import TypeAdapter

from irisdrs.shared.adapters import open_bus, open_store
from irisdrs.shared.bus.port import Busy, Unroutable
from irisdrs.shared.dead_letters.letters import (
    Action,
    DeadLetterOffice,
    Decision,
    Found,
    Letter,
    Moved,
    NoReason,
    NoSuchLetter,
    Selection,
)
from irisdrs.shared.dead_letters.office import DeadLetters
from irisdrs.shared.dead_letters.web import MAX_IDS, Order
from irisdrs.shared.errors import Fatal, IrisError, Outage
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.port import JSON

#: Longest wait for a server that is away when a command begins, seconds.
PATIENCE_S = 20.0

#: Longest wait for an answer, seconds: five hundred letters are recorded and moved in it, on a slow disk.
_TIMEOUT_S = 120.0

#: Errors that are the same on both sides.
_ERRORS: Mapping[str, type[IrisError]] = {
    kind.__name__: kind for kind in (NoSuchLetter, NoReason, Busy, Unroutable, Outage)
}

_Letters, _Decisions = TypeAdapter(list[Letter]), TypeAdapter(list[Decision])


@contextlib.asynccontextmanager
async def open_office(
    settings: HostSettings, url: str | None, progress: Callable[[int], None] | None = None
) -> AsyncIterator[DeadLetterOffice]:
    """The dead letters of the broker that the settings name, or of the embedded system at a URL.

    Parameters
    ----------
    settings : HostSettings
    url : str, optional
        Where `iris up` answers; by default the broker, and without one `HostSettings.archive_url`.
    progress : callable
        Is told how many letters have moved, each time some have.

    Raises
    ------
    Outage
        If a server stays away.
    Fatal
        If one refuses us.
    """
    if url is None and settings.amqp_url is not None:
        with tempfile.TemporaryDirectory(prefix="iris-dead-letters-") as scratch:
            async with (
                open_bus(settings, "iris dead-letters", PATIENCE_S) as bus,
                open_store(settings, Path(scratch), PATIENCE_S) as store,
            ):
                yield DeadLetters(bus, store, progress=progress)
        return
    async with httpx.AsyncClient(
        base_url=(url or settings.archive_url).rstrip("/"), timeout=_TIMEOUT_S, trust_env=False
    ) as client:
        yield HttpDeadLetters(client, progress)


class HttpDeadLetters:
    """The client of `irisdrs.shared.dead_letters.web`. A `DeadLetterOffice`.

    Parameters
    ----------
    client : httpx.AsyncClient
        With the system's URL as its base.
    progress : callable
        Is told how many letters have moved, each time some have.
    """

    def __init__(self, client: httpx.AsyncClient, progress: Callable[[int], None] | None = None) -> None:
        self._client, self._progress = client, progress

    async def waiting(self, selection: Selection) -> list[Letter]:
        """Letters that are parked."""
        return _Letters.validate_json(await self._ask("GET", "", params=_query(selection)))

    async def decided(self, selection: Selection) -> list[Decision]:
        """Decisions that were carried out."""
        return _Decisions.validate_json(await self._ask("GET", "/decided", params=_query(selection)))

    async def show(self, letter_id: str) -> Found:
        """All of one letter."""
        if not letter_id.isalnum():  # would be another address
            raise NoSuchLetter(f"{letter_id!r} is no id of a dead letter.", remedy="Ids have 12 hex digits.")
        return Found.model_validate_json(await self._ask("GET", f"/{letter_id}"))

    async def redrive(self, ids: Sequence[str], by: str, reason: str = "") -> Moved:
        """Send letters again."""
        return await self._order(Action.REDRIVE, ids, by, reason)

    async def discard(self, ids: Sequence[str], by: str, reason: str) -> Moved:
        """Take letters away."""
        return await self._order(Action.DISCARD, ids, by, reason)

    async def _order(self, action: Action, ids: Sequence[str], by: str, reason: str) -> Moved:
        moved, missing = [], []
        for start in range(0, len(ids), MAX_IDS):
            order = Order(ids=list(ids[start : start + MAX_IDS]), by=by, reason=reason)
            answer = Moved.model_validate_json(
                await self._ask("POST", f"/{action}", content=order.model_dump_json(), headers={"content-type": JSON})
            )
            moved += answer.moved
            missing += answer.missing
            if self._progress is not None:
                self._progress(len(answer.moved))
        return Moved(moved=moved, missing=missing)

    async def _ask(self, method: str, path: str, **what: Any) -> bytes:
        where = self._client.base_url
        try:
            answer = await self._client.request(method, f"/bus/dead-letters{path}", **what)
        except httpx.HTTPError as error:
            raise Outage(
                f"Nobody answers at {where} ({error}).",
                remedy="Start the system with `iris up`, or name its address with --url, or a broker in IRIS_AMQP_URL.",
            ) from error
        if answer.is_success:
            return answer.content
        raise _error(answer, str(where))


def _error(answer: httpx.Response, where: str) -> IrisError:
    try:
        detail = answer.json()["detail"]
        return _ERRORS.get(detail["error"], Fatal)(detail["message"], remedy=detail["remedy"])
    except (ValueError, KeyError, TypeError):
        return Fatal(
            f"{where} answers {answer.status_code} to a question about dead letters: {answer.text[:200]}",
            remedy="Does an `iris up` of this version run there?",
        )


def _query(selection: Selection) -> dict[str, str]:
    return {name: str(value) for name, value in selection.model_dump(mode="json", exclude_none=True).items()}
