"""A TCP proxy whose faults are switched while connections run through it: cut, refused, half-open, slow.

It stands between the system and a real server, and before several it plays the load balancer of a cluster: a new
connection goes to the next target that answers. Everything is on loopback. Needs nothing but a free port; it runs in a
thread of its own, so that its methods may be called from anywhere.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

_T = TypeVar("_T")

#: Bytes that are read at once, and chunks that one direction may hold back: 4 MiB.
_CHUNK_BYTES, _CHUNKS = 1 << 16, 64

#: Time for which one piece of a throttled stream is meant, seconds: short, so that healing is noticed soon.
_PIECE_S = 0.05

#: A target that takes no connection within this time is passed over, seconds.
_CONNECT_S = 2.0

#: Longest that the thread may take to do what it is told, seconds.
_ANSWER_S = 20.0

#: Close with a reset, as a broken line does, not with an orderly end: on, for 0 s (socket(7)).
_RESET = struct.pack("ii", 1, 0)


class TcpProxy:
    """A proxy on loopback; it takes connections as soon as it is made, and as a context until its end.

    Parameters
    ----------
    targets : sequence of int
        Ports of 127.0.0.1. New connections take turns among those that answer.
    port : int
        Where it listens; 0 chooses a free one.

    Attributes
    ----------
    targets : sequence of int
        May be changed while it runs; connections that are there stay.
    port : int
        Stays its own while it refuses connections.
    accepted : int
        Connections that were taken so far.
    bytes_up, bytes_down : int
        What was handed on so far, to targets and back.
    swallowed : int
        Bytes that were taken and not handed on.

    Raises
    ------
    OSError
        If the port is taken.
    """

    def __init__(self, targets: Sequence[int], port: int = 0) -> None:
        self.targets = targets
        self.accepted = self.bytes_up = self.bytes_down = self.swallowed = 0
        self._latency_s, self._bytes_per_s, self._half_open = 0.0, 0.0, False
        self._holder = _bound(port)
        self.port: int = self._holder.getsockname()[1]
        self._turn = 0
        self._connections: dict[asyncio.Task[None], _Pair] = {}
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._healed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        self._do(self._listen())

    @property
    def open(self) -> int:
        """Connections that are there now."""
        return len(self._connections)

    def cut(self) -> None:
        """Reset all connections now; new ones are taken."""
        self._do(self._cut(list(self._connections)))

    def refuse(self) -> None:
        """Take no new connections; those that are there stay."""
        self._do(self._refuse())

    def half_open(self) -> None:
        """Swallow every byte from now on, of new connections too; close nothing, whatever a side does."""
        self._half_open = True

    def delay(self, seconds: float) -> None:
        """Hand on every byte so much later, in each direction."""
        self._healed.clear()
        self._latency_s = seconds

    def throttle(self, bytes_per_s: float) -> None:
        """Hand on at most so many bytes a second, of each connection and direction."""
        self._healed.clear()
        self._bytes_per_s = bytes_per_s

    def heal(self) -> None:
        """End all faults. Connections that have lost bytes are reset; what was held back goes on at once."""
        self._do(self._heal())

    def close(self) -> None:
        """Cut all connections and end; the second time does nothing."""
        if self._loop.is_closed():
            return
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._holder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, work: Coroutine[Any, Any, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWER_S)

    async def _listen(self) -> None:
        if self._server is None:
            listener = _bound(self.port)  # beside the holder, which never listens
            self._server = await asyncio.start_server(self._accept, sock=listener, limit=_CHUNK_BYTES)

    async def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _heal(self) -> None:
        self._latency_s, self._bytes_per_s, self._half_open = 0.0, 0.0, False
        self._healed.set()
        await self._cut([task for task, pair in self._connections.items() if pair.lossy])
        await self._listen()

    async def _close(self) -> None:
        await self._refuse()
        await self._cut(list(self._connections))

    async def _cut(self, connections: "Sequence[asyncio.Task[None]]") -> None:
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pair = _Pair()
        task = asyncio.get_running_loop().create_task(self._serve(pair, reader, writer))
        self._connections[task] = pair
        task.add_done_callback(self._connections.pop)

    async def _serve(self, pair: "_Pair", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair.writers.append(writer)
        end = _reset
        try:
            if self._half_open:
                await self._swallow(pair, reader)
            elif (target := await self._connect()) is not None:
                pair.writers.append(target[1])
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._carry(pair, reader, target[1], self._count_up))
                    group.create_task(self._carry(pair, target[0], writer, self._count_down))
                end = _finish  # both sides have ended in order: what was written last still goes out
        except* OSError:
            pass  # one side is gone: so is the connection
        finally:
            for one in pair.writers:
                end(one)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """A connection to the next target that answers, None where none does."""
        for _ in range(len(self.targets)):
            target = self.targets[self._turn % len(self.targets)]
            self._turn += 1
            with contextlib.suppress(OSError):
                async with asyncio.timeout(_CONNECT_S):
                    return await asyncio.open_connection("127.0.0.1", target, limit=_CHUNK_BYTES)
        return None

    async def _carry(
        self, pair: "_Pair", source: asyncio.StreamReader, sink: asyncio.StreamWriter, count: Callable[[int], None]
    ) -> None:
        """Hand on what comes from one side, each chunk when its time has come, and then the end of the stream."""
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_CHUNKS)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(pair, source, waiting))
            while (due_and_chunk := await waiting.get())[1]:
                due_s, chunk = due_and_chunk
                await self._pause(due_s - self._loop.time())
                while chunk:
                    sent = await self._send(chunk, sink)
                    count(sent)
                    chunk = chunk[sent:]
            if sink.can_write_eof():
                sink.write_eof()

    async def _take(
        self, pair: "_Pair", source: asyncio.StreamReader, waiting: "asyncio.Queue[tuple[float, bytes]]"
    ) -> None:
        while True:
            try:
                chunk = await source.read(_CHUNK_BYTES)
            except OSError:
                if not self._half_open:
                    raise
                chunk = b""
            if self._half_open:  # the other side must not even hear of the end
                await self._swallow(pair, source, chunk)
            await waiting.put((self._loop.time() + self._latency_s, chunk))
            if not chunk:
                return

    async def _send(self, chunk: bytes, sink: asyncio.StreamWriter) -> int:
        """Write as much as the rate allows; gives how much it was, bytes."""
        rate = self._bytes_per_s
        piece = chunk[: max(1, int(rate * _PIECE_S))] if rate else chunk
        if rate:
            await self._pause(len(piece) / rate)
        sink.write(piece)
        await sink.drain()
        return len(piece)

    def _count_up(self, size: int) -> None:
        self.bytes_up += size

    def _count_down(self, size: int) -> None:
        self.bytes_down += size

    async def _pause(self, seconds: float) -> None:
        """Wait, or until the faults end."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._healed.wait()

    async def _swallow(self, pair: "_Pair", source: asyncio.StreamReader, chunk: bytes = b"") -> None:
        """Let all that comes vanish until the connection is cut, and keep it open after its end."""
        pair.lossy = True
        self.swallowed += len(chunk)
        with contextlib.suppress(OSError):
            while chunk := await source.read(_CHUNK_BYTES):
                self.swallowed += len(chunk)
        await asyncio.Event().wait()


class _Pair:
    """One connection through the proxy: both of its ends, and whether bytes of it are lost."""

    def __init__(self) -> None:
        self.writers: list[asyncio.StreamWriter] = []
        self.lossy = False


def _bound(port: int) -> socket.socket:
    """A socket on a port of 127.0.0.1, which does not listen yet."""
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(("127.0.0.1", port))
    return found


def _finish(writer: asyncio.StreamWriter) -> None:
    writer.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
