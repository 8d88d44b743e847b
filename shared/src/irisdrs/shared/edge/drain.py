"""The drain: puts what the spool holds, and tells of it, strictly in the spool's order."""

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import structlog

from irisdrs.shared.bus.port import Unroutable
from irisdrs.shared.crash_points import reach
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal, Outage, Retryable
from irisdrs.shared.events.event import Event
from irisdrs.shared.store.port import ObjectRef, Store

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")

#: Publishes events, in order, and returns when they are confirmed.
Tell = Callable[[Sequence[Event]], Awaitable[None]]

#: Entries whose objects are put at the same time: enough to hide the store's latency; more share the same line.
WINDOW = 4

#: Entries that a server may refuse in a row before the drain ends: wrong keys or a wrong address refuse everything, and
#: the spool must not be put aside for that.
MOST_REFUSALS = 3

#: First and longest wait between two tries while a server is away, seconds: it doubles from one to the other.
FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0


class Server:
    """One of the two servers that the edge needs: says once that it is away, and once that it is back.

    Parameters
    ----------
    name : str
        ``store`` or ``bus``.
    longest_wait_s : float
    """

    def __init__(self, name: str, longest_wait_s: float = LONGEST_WAIT_S) -> None:
        self.name, self._longest_wait_s = name, longest_wait_s
        #: Whether the last try found it away.
        self.away = False
        self._refusals = 0

    async def patiently(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask it; while it is away, wait and ask again, however long that takes."""
        wait_s = min(FIRST_WAIT_S, self._longest_wait_s)
        while True:
            try:
                answer = await ask()
            except (Outage, Retryable, Unroutable) as problem:  # a broker may lack the queues that services declare
                self._note(away=True, problem=str(problem))
            else:
                self._note(away=False)
                self._refusals = 0
                return answer
            await asyncio.sleep(wait_s)
            wait_s = min(2.0 * wait_s, self._longest_wait_s)

    def note_refusal(self, problem: Exception) -> None:
        """Take note that it refused an entry for good.

        Raises
        ------
        Fatal
            If it has refused so many in a row that it would refuse all.
        """
        self._refusals += 1
        if self._refusals >= MOST_REFUSALS:
            raise Fatal(
                f"The {self.name} has refused {self._refusals} entries in a row: it is not the entries. {problem}",
                remedy="Mend it, move the files in the spool's damaged/ back into the spool, and start the edge again.",
            )

    def _note(self, *, away: bool, problem: str = "") -> None:
        if away and not self.away:
            _log.error(f"the {self.name} is away: reads wait in the spool", problem=problem)
        elif self.away and not away:
            _log.info(f"the {self.name} is back")
        self.away = away


class Drain:
    """Empties a spool into store and bus.

    Each event is told after its object is put and after the events of all earlier entries; an entry is removed last,
    so a process that dies tells it again. What can never be put or told is put aside, and the others go on.

    Parameters
    ----------
    spool : Spool
    store : Store
    tell : Tell
    longest_wait_s : float
        Longest wait between two tries while a server is away, seconds.
    """

    def __init__(self, spool: Spool, store: Store, tell: Tell, longest_wait_s: float = LONGEST_WAIT_S) -> None:
        self._spool, self._store, self._tell = spool, store, tell
        self.store, self.bus = Server("store", longest_wait_s), Server("bus", longest_wait_s)

    async def run(self) -> None:
        """Drain until cancelled."""
        ahead: asyncio.Queue[tuple[int, asyncio.Task[Event | None]]] = asyncio.Queue()
        window = asyncio.Semaphore(WINDOW)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell_in_order(ahead, window))
            number = 0
            while True:
                await window.acquire()
                number = await self._spool.following(number)
                ahead.put_nowait((number, group.create_task(self._put(number))))

    async def _tell_in_order(
        self, ahead: asyncio.Queue[tuple[int, asyncio.Task[Event | None]]], window: asyncio.Semaphore
    ) -> None:
        while True:
            number, putting = await ahead.get()
            event = await putting
            if event is not None and await self._sent(number, self.bus, functools.partial(self._tell, [event])):
                reach("edge.tell.after")
                await self._spool.remove(number)
            window.release()

    async def _put(self, number: int) -> Event | None:
        """Put the object of an entry; its event, or None when it was put aside."""
        try:
            entry, payload = await self._spool.load(number)
            event = entry.event()
        except Fatal as problem:
            await self._spool.set_aside(number, str(problem))
            return None
        if entry.object is None:
            return event
        put = functools.partial(self._put_object, entry.object, payload, entry.metadata)
        return event if await self._sent(number, self.store, put) else None

    async def _put_object(self, ref: ObjectRef, payload: Path, metadata: Mapping[str, str]) -> None:
        reach("edge.put.before")
        put = await self._store.put_file(ref.key, payload, media_type=ref.media_type, metadata=metadata)
        reach("edge.put.after")
        if put.stored.ref.sha256 != ref.sha256:
            _log.error(
                "same key, other bytes: adopted what is there",
                key=ref.key,
                stored=put.stored.ref.sha256,
                put=ref.sha256,
            )

    async def _sent(self, number: int, server: Server, send: Callable[[], Awaitable[None]]) -> bool:
        """Send an entry to a server; False when it refuses the entry, which is then put aside."""
        try:
            await server.patiently(send)
        except (Fatal, ValueError) as problem:
            await self._spool.set_aside(number, str(problem))
            server.note_refusal(problem)
            return False
        return True
