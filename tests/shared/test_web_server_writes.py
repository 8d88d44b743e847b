"""How answers leave the web server: header, body and end in one write, large ones in pieces, and nothing is lost."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse
from uvicorn import Config
from uvicorn.server import ServerState

from irisdrs.shared.web_server import OneWrite

PIECE = b"x" * (1 << 20)


class Recorder(asyncio.Transport):
    """A connection that remembers each write."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()

    @app.get("/small")
    async def small() -> Response:
        return Response(b"a small body")

    @app.get("/pieces")
    async def pieces() -> StreamingResponse:
        async def stream() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield PIECE

        return StreamingResponse(stream())

    return app


async def written(app: FastAPI, request: bytes, answers: int = 1) -> Recorder:
    config, state, recorder = Config(app, http=OneWrite, lifespan="off"), ServerState(), Recorder()
    config.load()
    protocol = OneWrite(config=config, server_state=state, app_state={}, _loop=asyncio.get_running_loop())
    protocol.connection_made(recorder)
    protocol.data_received(request)
    async with asyncio.timeout(20.0):
        while state.total_requests < answers:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
    protocol.connection_lost(None)
    return recorder


async def test_an_answer_leaves_in_one_write(app: FastAPI) -> None:
    recorder = await written(app, b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n")
    (answer,) = recorder.writes
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\na small body")


async def test_an_answer_after_which_the_connection_closes_is_written_first(app: FastAPI) -> None:
    recorder = await written(app, b"GET /small HTTP/1.0\r\nHost: x\r\n\r\n")
    assert b"".join(recorder.writes).endswith(b"a small body")
    assert recorder.closed


async def test_large_pieces_are_written_as_they_come(app: FastAPI) -> None:
    recorder = await written(app, b"GET /pieces HTTP/1.1\r\nHost: x\r\n\r\n")
    assert sum(PIECE in piece for piece in recorder.writes) == 3
    assert b"".join(recorder.writes).endswith(b"0\r\n\r\n")
    assert len(recorder.writes) < 10
