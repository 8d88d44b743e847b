"""One case: a night of its own is played, something happens to it, and the ledger gives its verdict."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from tests.chaos.arena import Arena, Setting
from tests.chaos.verdict import Account, Verdict, WitnessedEdge, audit, missing

from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.port import Parked
from irisdrs.shared.edge.line import open_line
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.events import Event, ReadWritten
from irisdrs.shared.observation import ObservationPlan, PlannedExposure
from irisdrs.simulator.night import Night, play
from irisdrs.simulator.variates import generator

#: How long the system is given to come to rest after the last fault and the last event, seconds.
QUIET_S = 120.0

#: Longest that a night may take to be told, seconds: a failure waits so long, nothing else.
PATIENCE_S = 900.0

#: From one event of the edge to the next, seconds. A frame of four reads has six, and two cores reduce one each second.
PACE_S = 0.2

#: Bound of a spool, bytes: some nights of small reads.
SPOOL_BYTES = 1_000_000_000

#: Looks at the catalogue while a night is not complete, seconds.
_LOOK_S = 0.5


class Performance:
    """The night of one case, while it is played.

    Parameters
    ----------
    arena : Arena
    case : Case
    number : int
        Of the observation.
    seed : int
    """

    def __init__(self, arena: Arena, case: "Case", number: int, seed: int) -> None:
        self.arena, self.observatory, self.case = arena, arena.observatory, case
        self.plan = _longer(arena.plan, f"2034B-007-{number:03d}", case.exposures)
        self.account = Account(self.plan)
        self.random: np.random.Generator = generator(seed, "chaos", case.name)
        self.spool_dir = arena.observatory.data_dir / "spool" / self.plan.observation
        self._going = asyncio.Event()
        self._going.set()
        self.told = 0
        self.told_s = self.healed_s = time.monotonic()
        #: How an event of the edge is sent; a case may put something else in.
        self.send: Callable[[Event], Awaitable[None]] = self.publish
        #: What happens to a read and its bytes before they are spooled.
        self.before: Callable[[ReadWritten, bytes], Awaitable[None]] | None = None
        #: Tells the time (UTC) of the detectors; None: as planned.
        self.clock: Callable[[], datetime] | None = None
        #: Which parked events the case is to blame for, and how many there must be at least.
        self.blame: Callable[[Parked], bool] = lambda _: False
        self.parked_at_least = 0
        #: What else must hold at the end: gives what does not.
        self.check: Callable[[Sequence[Mapping[str, object]]], list[str]] = lambda _: []

    @property
    def events(self) -> int:
        """How many events the edge tells of this night."""
        sampling = self.plan.sampling
        return 2 + len(self.plan.exposure_ids()) * (2 + sampling.reads * sampling.ramps)

    @property
    def ended_s(self) -> float:
        """When the last fault ended or the last event was told."""
        return max(self.told_s, self.healed_s)

    async def publish(self, event: Event) -> None:
        """Send an event as the edge does."""
        await publish(self.arena.stage.bus, "edge", [event])

    async def reached(self, share: float) -> None:
        """Wait until a share of the night has been told."""
        while self.told < share * self.events:
            await asyncio.sleep(0.02)

    async def complete(self) -> None:
        """Wait until every product of the night is in the catalogue."""
        await self.reached(1.0)
        while await missing(self.account, self.arena.client):
            await asyncio.sleep(_LOOK_S)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """The edge tells nothing inside of this context, which begins when nothing is under way any more."""
        self._going.clear()
        before = -1
        while before != (before := await self._rows()):
            await asyncio.sleep(5.0)
        try:
            yield
        finally:
            await asyncio.sleep(2.0)  # until what was cut off is back
            self._going.set()

    async def _rows(self) -> int:
        return len(self.account.expected() - await missing(self.account, self.arena.client))

    @contextlib.asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """Something is wrong inside of this context."""
        try:
            yield
        finally:
            self.healed_s = time.monotonic()

    async def play(self) -> None:
        """Play the night, and tell all of it."""
        folder = self.observatory.data_dir
        spool = Spool(self.spool_dir, SPOOL_BYTES)
        async with open_line(self.arena.stage.settings, self.arena.stage.url) as line:
            edge = WitnessedEdge(self.plan, line.store, self._tell, spool, longest_wait_s=2.0)
            edge.account, edge.before = self.account, self.before
            async with edge:
                await play(Night(self.plan, clock=self.clock), edge, folder / "truth")
                await edge.drained()

    async def _tell(self, events: Sequence[Event]) -> None:
        for event in events:
            await asyncio.sleep(self.case.pace_s)
            await self._going.wait()
            self.account.hear(event)
            await self.send(event)
            self.told += 1
            self.told_s = time.monotonic()


#: What happens to a night: it runs beside it.
Act = Callable[[Performance], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that may happen.

    Attributes
    ----------
    name : str
    injected : str
        What is done, for people.
    act : Act
    setting : Setting
    exposures : int
        Of the night; each has four detectors.
    recovery_s : float
        Longest recovery that is held for good, seconds.
    pace_s : float
        From one event of the edge to the next, seconds.
    note : str
        What has to be known of it.
    """

    name: str
    injected: str
    act: Act
    setting: Setting = Setting.SWIFT
    exposures: int = 4
    recovery_s: float = 30.0
    pace_s: float = PACE_S
    note: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a case.

    Attributes
    ----------
    case : Case
    verdict : Verdict
    recovery_s : float, optional
        From the end of the last fault or the last event of the edge, whichever was later, until every product of the
        night was in the catalogue; None if that never happened.
    seconds : float
        The whole case.
    problems : tuple of str
        Why the goal is not held; empty if it is.
    """

    case: Case
    verdict: Verdict
    recovery_s: float | None
    seconds: float
    problems: tuple[str, ...]


async def perform(night: Performance) -> Outcome:
    """Play a case to its end, and judge it."""
    start_s, arena = time.monotonic(), night.arena
    arena.ears[:] = [night.account.hear]
    problems = []
    acting = asyncio.ensure_future(night.case.act(night))
    recovery_s = None
    try:
        await asyncio.sleep(0)  # the act first: it may put things into the night's way
        async with asyncio.timeout(PATIENCE_S):
            await night.play()
            recovery_s = await _recovery(night, acting)
            await acting
    except Exception as error:  # noqa: BLE001 - the other cases are played all the same
        problems.append(f"the night could not be played: {type(error).__name__}: {error}")
    finally:
        acting.cancel()
    verdict, parked = await _settled(night)
    problems += _problems(night, verdict, parked, recovery_s)
    problems += await _checked(night)
    if parked and (trouble := await arena.discard_parked()):
        problems.append(trouble)
    return Outcome(night.case, verdict, recovery_s, time.monotonic() - start_s, tuple(problems))


async def _recovery(night: Performance, acting: "asyncio.Future[None]") -> float | None:
    """Wait until the night is complete and nothing more happens to it; how long it took to be complete, seconds."""
    complete_s: float | None = None
    while not acting.done() or time.monotonic() - night.ended_s < QUIET_S:
        with contextlib.suppress(Exception):  # the archive may be the one that is away
            before_s, gone = night.healed_s, await missing(night.account, night.arena.client)
            if gone or before_s != night.healed_s:
                complete_s = None
            elif complete_s is None or complete_s < before_s:
                complete_s = time.monotonic()
        if acting.done() and complete_s is not None and complete_s > night.healed_s:
            return max(0.0, complete_s - night.ended_s)
        await asyncio.sleep(_LOOK_S)
    return None


async def _settled(night: Performance) -> tuple[Verdict, list[Parked]]:
    """The verdict as soon as nothing is wrong with it any more, or when the time of quiet is over."""
    arena = night.arena
    await arena.ready()
    while True:
        await asyncio.sleep(1.0)  # what was parked or made last would not be seen otherwise
        parked = await arena.parked()
        names = [f"{one.queue} {one.reason.error_class}" for one in parked]
        verdict = await audit(night.account, arena.shelf, arena.client, names)
        at_rest = verdict.clean and len(parked) >= night.parked_at_least and all(map(night.blame, parked))
        if at_rest or time.monotonic() - night.ended_s > QUIET_S:
            return verdict, parked


def _problems(night: Performance, verdict: Verdict, parked: Sequence[Parked], recovery_s: float | None) -> list[str]:
    """Goals that are not held."""
    found = [
        f"{len(names)} {what}, first {names[0]}"
        for what in ("lost", "duplicated", "orphans", "wrong")
        if (names := getattr(verdict, what))
    ]
    innocent = [one for one in parked if not night.blame(one)]
    if innocent:
        found.append(f"{len(innocent)} parked without need, first in {innocent[0].queue}: {innocent[0].reason.message}")
    if len(parked) < night.parked_at_least:
        found.append(f"{len(parked)} parked, at least {night.parked_at_least} expected")
    if recovery_s is None or recovery_s > night.case.recovery_s:
        found.append(f"recovery took {recovery_s or QUIET_S:.0f} s")
    return found


async def _checked(night: Performance) -> list[str]:
    answer = await night.arena.client.get("/api/products", params={"observation": night.plan.observation, "level": 1})
    return night.check(answer.json()["products"])


def _longer(plan: ObservationPlan, observation: str, exposures: int) -> ObservationPlan:
    """A plan of another observation with so many exposures, the last one a sky."""
    science, sky = plan.exposures[0], plan.exposures[-1]
    made: list[PlannedExposure] = [
        (sky if number == exposures else science).model_copy(update={"number": number})
        for number in range(1, exposures + 1)
    ]
    return plan.model_copy(update={"observation": observation, "exposures": tuple(made)})
