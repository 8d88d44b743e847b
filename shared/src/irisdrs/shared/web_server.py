"""A web server in this process's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from irisdrs.shared.errors import Fatal

#: Connections that may wait to be taken.
_BACKLOG = 128


#: Bytes that may wait for the end of what is being done: answers that are larger go out in pieces anyway.
_TOGETHER = 64 * 1024


class OneWrite(H11Protocol):
    """HTTP/1.1, whose header, body and end leave in one write: one packet where there would be three."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(_Gathering(transport, self.loop))


class _Gathering(asyncio.Transport):
    """A transport that gathers what is written while nobody waits for anything."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) >= _TOGETHER:
            self._flush()
            self._transport.write(data)
        elif data:
            if not self._parts:
                self._loop.call_soon(self._flush)
            self._parts.append(bytes(data))

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._transport.get_extra_info(name, default)

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._transport.set_protocol(protocol)

    def abort(self) -> None:
        self._transport.abort()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts:
            self._transport.write(b"".join(parts))


class _Server(uvicorn.Server):
    """A server that leaves the signals of the process to its host."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def serving(app: FastAPI, host: str, port: int) -> AsyncIterator[str]:
    """Serve an application; gives its URL (with the real port where port 0 was asked for).

    Raises
    ------
    Fatal
        If the address cannot be had.
    """
    with _listening(host, port) as listener:
        server = _Server(uvicorn.Config(app, http=OneWrite, log_level="warning", lifespan="off", access_log=False))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            while not server.started:
                if task.done():
                    await task
                await asyncio.sleep(0.01)
            yield f"http://{host}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await asyncio.gather(task, return_exceptions=True)


def _listening(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port), backlog=_BACKLOG)
    except OSError as error:
        raise Fatal(
            f"Cannot listen on {host}:{port}: {error.strerror}.", remedy="Does it run already? Else name another port."
        ) from error
    # Connections inherit it; without it a body waits 40 ms for the acknowledgement of its header.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
