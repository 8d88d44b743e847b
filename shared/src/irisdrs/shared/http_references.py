"""References from a `crds_proxy` in another process: asked over HTTP, their files kept in a local folder."""

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import AsyncGenerator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import NoReturn

import httpx
from pydantic import ValidationError

from irisdrs.shared.crds.parameters import matching_parameters
from irisdrs.shared.errors import Fatal, MissingReference, Outage
from irisdrs.shared.reference_files import ReferenceFiles
from irisdrs.shared.reference_wire import (
    BEST_PATH,
    CONTEXT_PATH,
    FILES_PATH,
    FOUND_REFERENCES,
    MAX_QUESTION_BYTES,
    ContextInForce,
    FoundReference,
    Problem,
    mistakes,
)
from irisdrs.shared.references import Reference

#: Answers that are remembered: some 2 kB each, and more questions than a night asks.
_REMEMBERED = 10_000

#: Seconds: a proxy that is there takes a connection at once.
_CONNECT_S = 5.0

#: Longest silence, seconds: the first question about a file makes the proxy read all of it, and 1 GB may take 10 s.
_SILENCE_S = 30.0

#: Piece of a download, bytes: large against the hand-over to a thread.
_CHUNK_BYTES = 1 << 20

_REMEDY = (
    "Start it, or set IRIS_CRDS_URL to where it answers; without IRIS_CRDS_URL references come from the cache in "
    "IRIS_DATA_DIR."
)

#: Errors of the proxy that are raised again as they were.
_ERRORS: Mapping[str, type[Fatal]] = {"MissingReference": MissingReference, "Fatal": Fatal}


class HttpReferences:
    """`References` of a `crds_proxy` elsewhere. For one event loop; `close` it there.

    A context never changes, so the answer to (context, types, matching parameters) is remembered; the files are looked
    at each time. What was answered before is answered while the proxy is away.

    Parameters
    ----------
    url : str
        Where crds_proxy answers, e.g. ``http://127.0.0.1:8081``.
    cache_dir : Path
        Folder for the files; several processes may share it.
    silence_s : float
        How long the proxy may be silent before it counts as away, seconds.

    Raises
    ------
    Fatal
        If the URL is none.
    """

    def __init__(self, url: str, cache_dir: Path, *, silence_s: float = _SILENCE_S) -> None:
        base = _checked(url)
        self._shown = str(base.copy_with(userinfo=b""))
        self._files = ReferenceFiles(cache_dir)
        self._answers: OrderedDict[bytes, list[FoundReference]] = OrderedDict()
        self._client = httpx.AsyncClient(
            base_url=base, timeout=httpx.Timeout(silence_s, connect=min(_CONNECT_S, silence_s)), trust_env=False
        )

    async def close(self) -> None:
        """Give up what is being fetched, and the connections."""
        await self._files.close()
        await self._client.aclose()

    async def default_context(self) -> str:
        """Context in force for observations that start now.

        Raises
        ------
        Fatal
            If the proxy's cache holds no context.
        Outage
            If the proxy is away.
        """
        answer = await self._ask("GET", CONTEXT_PATH)
        try:
            return ContextInForce.model_validate_json(answer).context
        except ValidationError as error:
            raise self._not_understood(CONTEXT_PATH, mistakes(error)) from error

    async def best_references(
        self, header: Mapping[str, str], types: Sequence[str], context: str
    ) -> Mapping[str, Reference]:
        """Best reference of each type; see `irisdrs.shared.references.References`.

        Raises
        ------
        MissingReference
            As the proxy raises it.
        Fatal
            If the header is too large for a question, or no text.
        Outage
            If the proxy is away and the answer or a file is not here yet, or the local folder cannot take a file.
        Retryable
            If a file arrives damaged.
        """
        found = await self._choose(header, types, context)
        paths = [path for each in found if (path := self._files.recall(each)) is not None]
        if len(paths) < len(found):
            paths = await asyncio.gather(*(self._local(each) for each in found))
        return {
            each.type: Reference(each.type, each.name, each.sha256, path)
            for each, path in zip(found, paths, strict=True)
        }

    async def _choose(self, header: Mapping[str, str], types: Sequence[str], context: str) -> list[FoundReference]:
        question = _encode(header, types, context)
        remembered_as = hashlib.sha256(question).digest()
        answer = self._answers.get(remembered_as)
        if answer is not None:
            self._answers.move_to_end(remembered_as)
            return answer
        body = await self._ask("POST", BEST_PATH, question)
        try:
            answer = FOUND_REFERENCES.validate_json(body)
        except ValidationError as error:
            raise self._not_understood(BEST_PATH, mistakes(error)) from error
        if {each.type for each in answer} != set(types):
            raise self._not_understood(BEST_PATH, f"asked for {', '.join(types)}")
        self._answers[remembered_as] = answer
        if len(self._answers) > _REMEMBERED:
            self._answers.popitem(last=False)
        return answer

    async def _local(self, found: FoundReference) -> Path:
        return self._files.recall(found) or await self._files.fetch(found, self._download)

    async def _download(self, found: FoundReference) -> AsyncGenerator[bytes, None]:
        # As it is: a compressed form of the bytes would have another size.
        as_it_is = {"Accept-Encoding": "identity"}
        try:
            async with self._client.stream("GET", f"{FILES_PATH}/{found.name}", headers=as_it_is) as response:
                if response.status_code != HTTPStatus.OK:
                    await response.aread()
                    self._raise(response)
                async for chunk in response.aiter_bytes(_CHUNK_BYTES):
                    yield chunk
        except httpx.RequestError as error:
            raise self._away(error) from error

    async def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        try:
            response = await self._send(method, path, body)
        except httpx.RequestError as error:
            raise self._away(error) from error
        if response.status_code != HTTPStatus.OK:
            self._raise(response)
        return response.content

    async def _send(self, method: str, path: str, body: bytes | None) -> httpx.Response:
        headers = {"Content-Type": "application/json"} if body is not None else None
        try:
            return await self._client.request(method, path, content=body, headers=headers)
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            # The proxy may have closed an idle connection while this was on its way; asking twice changes nothing.
            return await self._client.request(method, path, content=body, headers=headers)

    def _raise(self, response: httpx.Response) -> NoReturn:
        """Raise what an answer that is no success stands for."""
        try:
            problem = Problem.model_validate_json(response.content)
        except ValidationError:
            what = "which is not how crds_proxy answers"
            raise self._outage(f"answers {response.status_code}, {what}") from None
        kind = _ERRORS.get(problem.error_class)
        if kind is None or response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._outage(f"answers {response.status_code}: {problem.message} {problem.remedy}".strip())
        raise kind(problem.message, remedy=problem.remedy)

    def _away(self, error: httpx.RequestError) -> Outage:
        return self._outage(f"does not answer: {str(error) or type(error).__name__}")

    def _not_understood(self, path: str, problem: str) -> Outage:
        return self._outage(f"gives an answer to {path} that is none: {problem}")

    def _outage(self, what: str) -> Outage:
        return Outage(f"crds_proxy at {self._shown} (IRIS_CRDS_URL) {what.rstrip('.')}.", remedy=_REMEDY)


def _checked(url: str) -> httpx.URL:
    try:
        checked = httpx.URL(url)
    except httpx.InvalidURL:
        checked = httpx.URL()
    if checked.scheme not in ("http", "https") or not checked.host:
        raise Fatal("IRIS_CRDS_URL is no address of crds_proxy.", remedy="It is like http://127.0.0.1:8081.")
    return checked


def _encode(header: Mapping[str, str], types: Sequence[str], context: str) -> bytes:
    """The one form of a question: equal questions have equal bytes."""
    parameters = matching_parameters(header)
    question = json.dumps({"context": context, "types": list(types), "header": parameters}, sort_keys=True).encode()
    if len(question) > MAX_QUESTION_BYTES:
        raise Fatal(
            f"The header asks crds_proxy with {len(question)} bytes, more than {MAX_QUESTION_BYTES}.",
            remedy="Ask with the parameters that references are matched on.",
        )
    return question
