"""A line between a client and an ASGI application that spoils downloads."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from fastapi import FastAPI

from irisdrs.shared.web_server import serving

#: Longest wait for what must happen at once, seconds: generous, only a failure waits that long.
SOON_S = 60.0

Message = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]
Fault = Callable[[Message], Message | None]


class Line:
    """Between the client and the application: counts what passes, and spoils the next downloads.

    Parameters
    ----------
    inner : ASGI application
    files : str
        Path under which it hands out files.

    Attributes
    ----------
    requests : list of str
        Path of each request.
    ranges : list of str
        Which part each download asked for; empty for all.
    faults : list
        Each is applied to the messages of one download.
    open : Event
        While it is clear, downloads stop after their header.
    """

    def __init__(self, inner: Any, files: str = "/references/files/") -> None:
        self._inner = inner
        self._files = files
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.faults: list[Fault] = []
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, scope: Message, receive: Any, send: Send) -> None:
        self.requests.append(scope["path"])
        is_file = scope["path"].startswith(self._files)
        if is_file:
            self.ranges.append(dict(scope["headers"]).get(b"range", b"").decode())
        fault = self.faults.pop(0) if is_file and self.faults else None

        async def spoiled(message: Message) -> None:
            passed = fault(message) if fault else message
            if passed is not None:
                await send(passed)
            if is_file and message["type"] == "http.response.start":
                await self.open.wait()

        await self._inner(scope, receive, spoiled)

    @property
    def downloads(self) -> list[str]:
        return [path.rpartition("/")[2] for path in self.requests if path.startswith(self._files)]

    async def until_download(self, number: int = 1) -> None:
        async with asyncio.timeout(SOON_S):
            while len(self.downloads) < number:
                await asyncio.sleep(0.01)


def served(application: Any, port: int = 0) -> AbstractAsyncContextManager[str]:
    """Serve an ASGI application on loopback; gives its URL."""
    outer = FastAPI(openapi_url=None)
    outer.mount("/", application)
    return serving(outer, "127.0.0.1", port)


def flipped(message: Message) -> Message:
    """One bit of each piece is another."""
    body = message.get("body", b"")
    return message | {"body": bytes([body[0] ^ 1]) + body[1:]} if body else message


def cut_off(message: Message) -> Message | None:
    """The connection ends after the header: the server closes it when the answer is not complete."""
    return None if "body" in message else message


def shorter(message: Message) -> Message:
    """The file is another one, with fewer bytes."""
    if "headers" in message:
        return message | {"headers": [(b"content-length", b"100")]}
    return message | {"body": message["body"][:100]}


def longer(message: Message) -> Message:
    """The file is another one, with twice the bytes."""
    if "headers" in message:
        lengths = [
            (name, str(2 * int(value)).encode()) for name, value in message["headers"] if name == b"content-length"
        ]
        return message | {"headers": lengths}
    return message | {"body": message["body"] * 2}


def failing(message: Message) -> Message:
    """The server fails."""
    return message | {"status": 500} if "status" in message else message
