"""A web application behind a real server on loopback, in the event loop of a test."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that nobody else is given: a server may come, go and come back there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))  # held without listening, so a server may listen beside it
        port: int = holder.getsockname()[1]
        yield port


@contextlib.asynccontextmanager
async def serving(application: Any, port: int = 0) -> AsyncIterator[str]:
    """Serve an ASGI application; gives its URL.

    Parameters
    ----------
    application : ASGI application
    port : int
        0 for any free one.
    """
    config = uvicorn.Config(
        application, host="127.0.0.1", port=port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                await task
            await asyncio.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
