"""A web server in this process's event loop."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator

import uvicorn
from fastapi import FastAPI

from irisdrs.shared.errors import Fatal

#: Connections that may wait to be taken.
_BACKLOG = 128


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
        server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", access_log=False))
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
