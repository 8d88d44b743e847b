"""Ask a CRDS server by its own protocol, and download its files.

The protocol is that of the `crds` client: JSON-RPC by POST to ``{server}/json/{method}/{id}/``, whose answer has
``result`` and ``error``; files by GET under the addresses that `get_server_info` names.
"""

import asyncio
import base64
import itertools
import json
import re
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any

import httpx
from pydantic import BaseModel, BeforeValidator, Field, TypeAdapter, ValidationError

from irisdrs.shared.crds.registration import OBSERVATORY
from irisdrs.shared.errors import Fatal, Outage

#: Seconds: a server that is there takes a connection at once.
_CONNECT_S = 5.0

#: Seconds that a whole answer may take, however steadily it drips: the largest one at 1 MB/s.
_ANSWER_S = 60.0

#: Largest answer that is read, and largest table of files after it is unpacked, bytes: a million files have 100 MB.
_MOST_ANSWERED, _MOST_UNPACKED = 64 << 20, 256 << 20

#: Piece of a download, bytes: large against the hand-over to a thread.
_CHUNK_BYTES = 1 << 20

_REMEDY = "Look whether IRIS_CRDS_UPSTREAM is the address of a CRDS server, and whether it is up; it is asked again."


def _address(value: object) -> object:
    """Older servers say ``{"unchecked": address}``."""
    return value.get("unchecked", value) if isinstance(value, dict) else value


_Address = Annotated[str, BeforeValidator(_address), Field(pattern="^https?://")]


class FileSums(BaseModel):
    """Facts of one file, as the server tells them."""

    size: int = Field(ge=0)
    sha1sum: str = Field(pattern="^[0-9a-f]{40}$")


_SUMS = TypeAdapter(dict[str, FileSums])
_HISTORY = TypeAdapter(list[tuple[str, str, str]])


class ServerInfo(BaseModel):
    """What of `get_server_info` is needed here."""

    operational_context: str
    mapping_url: dict[str, _Address]
    reference_url: dict[str, _Address]
    download_metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Stream:
    """An answer with a file: where its bytes begin, and the bytes."""

    start: int
    chunks: AsyncIterator[bytes]


class CrdsServer:
    """A CRDS server of the observatory `tmt`. For one event loop; `close` it there.

    Parameters
    ----------
    url : str
        As in CRDS_SERVER_URL.
    silence_s : float
        How long the server may be silent before it counts as away, seconds.
    answer_s : float
        How long it may take for a whole answer, seconds; files may take longer.

    Raises
    ------
    Fatal
        If the URL is none.
    """

    def __init__(self, url: str, *, silence_s: float = 10.0, answer_s: float = _ANSWER_S) -> None:
        base = _checked(url)
        self._answer_s = answer_s
        self.shown = str(base.copy_with(userinfo=b""))
        self._numbers = itertools.count(1)
        self._client = httpx.AsyncClient(
            base_url=base,
            headers={"Accept-Encoding": "identity"},  # what is packed has no bound before it is unpacked
            timeout=httpx.Timeout(silence_s, connect=min(_CONNECT_S, silence_s)),
            trust_env=False,
            follow_redirects=False,  # the server, and nobody it names, decides where bytes come from
        )

    async def close(self) -> None:
        """Give up the connections."""
        await self._client.aclose()

    async def info(self) -> ServerInfo:
        """Contexts, addresses and table of files.

        Raises
        ------
        Outage
            If the server is away, or what it says is no such answer.
        """
        method = "get_server_info"
        found: ServerInfo = self._understood(method, _read_info, await self.call(method))
        return found

    async def history(self) -> list[tuple[str, str, str]]:
        """Start date (UTC, ISO), context and description of each change of the context, oldest first."""
        method = "get_context_history"
        return sorted(self._understood(method, _HISTORY.validate_python, await self.call(method, OBSERVATORY)))

    async def context_in_force(self) -> str:
        """Name of the default context."""
        method = "get_default_context"
        return str(self._understood(method, TypeAdapter(str).validate_python, await self.call(method, OBSERVATORY)))

    def files(self, info: ServerInfo) -> dict[str, FileSums]:
        """Size and SHA-1 of every file, from the table that the server packs into its information."""
        return dict(self._understood("get_server_info", _read_sums, info.download_metadata))

    async def call(self, method: str, *params: object) -> Any:
        """Result of a remote procedure.

        Raises
        ------
        Outage
            If the server is away, answers with an error, or its answer is none.
        """
        number = f"irisdrs-{next(self._numbers):08x}"
        question = {"jsonrpc": "1.0", "method": method, "params": list(params), "id": number}
        try:
            async with (
                asyncio.timeout(self._answer_s),
                self._client.stream("POST", f"json/{method}/{number}/", json=question) as response,
            ):
                body = await _bounded(response)
                status = response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise self.away(error) from error
        answer = self._understood(method, json.loads, body, f" ({status})")
        if not isinstance(answer, dict) or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise self._outage(f"answers {method} with {status}")
        if answer.get("error"):
            said = answer["error"].get("message") if isinstance(answer["error"], dict) else answer["error"]
            raise self._outage(f"refuses {method}: {said!s:.500}")
        return self._understood(method, _decoded, answer.get("result"))

    @asynccontextmanager
    async def download(self, folder_url: str, name: str, start: int) -> AsyncIterator[Stream]:
        """Bytes of a file from `start` on, or from 0 if the server does not know parts.

        Raises
        ------
        Outage
            If the server is away, also while the bytes come; or has no such file.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        address = f"{folder_url.rstrip('/')}/{name}"
        try:
            async with self._client.stream("GET", address, headers=headers) as response:
                if response.status_code not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
                    raise self._outage(f"answers {response.status_code} for {name}")
                begins = _first_byte(response) if response.status_code == HTTPStatus.PARTIAL_CONTENT else 0
                yield Stream(begins, response.aiter_raw(_CHUNK_BYTES))
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.away(error) from error

    def away(self, error: Exception) -> Outage:
        """The server does not answer."""
        return self._outage(f"does not answer: {str(error) or type(error).__name__}")

    def _understood(self, method: str, read: Any, value: object, more: str = "") -> Any:
        try:
            return read(value)
        except (ValidationError, ValueError, RecursionError, zlib.error) as error:
            raise self._outage(f"gives an answer to {method}{more} that is none: {error!s:.300}") from error

    def _outage(self, what: str) -> Outage:
        return Outage(f"The CRDS server {self.shown} (IRIS_CRDS_UPSTREAM) {what.rstrip('.')}.", remedy=_REMEDY)


def _checked(url: str) -> httpx.URL:
    try:
        checked = httpx.URL(url.rstrip("/") + "/")
    except httpx.InvalidURL:
        checked = httpx.URL()
    if checked.scheme not in ("http", "https") or not checked.host:
        raise Fatal("IRIS_CRDS_UPSTREAM is no address of a CRDS server.", remedy="It is like https://crds.example.org.")
    return checked


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > _MOST_ANSWERED:
            raise httpx.DecodingError(f"the answer has more than {_MOST_ANSWERED} bytes")
    return bytes(body)


def _read_info(value: object) -> ServerInfo:
    info = ServerInfo.model_validate(value)
    if OBSERVATORY not in info.mapping_url or OBSERVATORY not in info.reference_url:
        raise ValueError(f"it is a server of {', '.join(info.mapping_url)}, not of {OBSERVATORY}")
    return info


def _read_sums(table: dict[str, Any]) -> dict[str, FileSums]:
    return _SUMS.validate_python(_decoded(table))


def _decoded(value: object) -> Any:
    """Undo what servers do with large answers: JSON, compressed by gzip, in base 64; never more than its bound."""
    if not isinstance(value, dict) or "crds_encoded" not in value:
        return value
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    content = unpacker.decompress(base64.b64decode(str(value.get("crds_payload"))), _MOST_UNPACKED)
    if not unpacker.eof:
        raise ValueError(f"what is packed into it is cut, or has more than {_MOST_UNPACKED} bytes")
    return json.loads(content)


def _first_byte(response: httpx.Response) -> int:
    found = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/.*", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else 0
