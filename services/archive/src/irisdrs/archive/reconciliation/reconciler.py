"""Reconciliation, round by round: what to look at, what to announce again, and when."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog

from irisdrs.archive.catalogue.observations import State
from irisdrs.archive.reconciliation.announcements import announcement
from irisdrs.archive.reconciliation.catalogued import Tally, observation_states, tallies
from irisdrs.archive.reconciliation.figures import Figures
from irisdrs.archive.reconciliation.findings import Conflict, Orphan, Wanted
from irisdrs.archive.reconciliation.ledger import Known, Ledger, Look
from irisdrs.shared.errors import CorruptObject, Outage
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.facts import ExposureStarted
from irisdrs.shared.service import Held, Round
from irisdrs.shared.store.keys import fact_key

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: How long an observation is looked at in every round, unless it was found whole before: from the end of its night, and
#: for one of an older night from the first look at it.
RECENT = timedelta(hours=24)

#: From the first look at what is under way to the first look at everything, seconds.
ALL_LATER_S = 600.0


@dataclass(slots=True)
class _Course:
    """One round as far as it has come."""

    name: str
    began_s: float = field(default_factory=time.monotonic)
    looked: int = 0
    missed: int = 0
    announced: int = 0
    held: int = 0
    failed: int = 0
    strays: list[Orphan] = field(default_factory=list)


class Reconciler:
    """Announces again what was missed.

    Parameters
    ----------
    ledger : Ledger
    held : coroutine function
        Gives the ids of the events that wait for a person.
    first_s : float
        From the start of the service to its first look, seconds.
    every_s, all_every_s : float
        From one look at what is under way, and at everything, to the next, seconds.
    confirm_s : float
        What was found missing is looked at again after this time, seconds: most of it was only under way.
    now : callable, optional
        The time (UTC).
    """

    def __init__(
        self,
        ledger: Ledger,
        held: Held,
        *,
        first_s: float,
        every_s: float,
        all_every_s: float,
        confirm_s: float,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._ledger, self._held, self._now = ledger, held, now
        self._first_s, self._every_s, self._all_every_s = first_s, every_s, all_every_s
        self._confirm_s = confirm_s
        self._settled: dict[str, Tally] = {}
        self._unsettled: set[str] = set()
        self._first_looks: dict[str, datetime] = {}
        self._rounds_missed: dict[str, dict[Wanted, int]] = {}
        self._wrong: dict[str, tuple[tuple[Orphan, ...], tuple[Conflict, ...]]] = {}
        self._said: dict[str, tuple[int, ...]] = {}
        self.figures = Figures()

    def rounds(self) -> tuple[Round, ...]:
        """The rounds of the archive."""
        return (
            Round("reconcile-at-start", self.at_start, every_s=None),
            Round("reconcile", self.under_way, self._every_s, self._first_s),
            Round("reconcile-all", self.everything, self._all_every_s, self._first_s + ALL_LATER_S),
        )

    async def under_way(self) -> AsyncIterator[Event]:
        """Look at the observations that are recent and not known to be whole."""
        course = _Course("reconcile")
        known, course.strays = await self._ledger.observations()
        states = await self._ledger.ask(observation_states)
        recent = [one for one in known if self._is_recent(one, states.get(one.observation))]
        counted = await self._tallies(recent)
        changed = [one for one in recent if self._settled.get(one.observation) != counted[one.observation]]
        looks = [await self._look(one, counted[one.observation], course) for one in changed]
        async for event in self._announce(course, [look for look in looks if look]):
            yield event
        self._say(course)

    async def everything(self) -> AsyncIterator[Event]:
        """Look at all observations, and at what belongs to none."""
        course = _Course("reconcile-all")
        known, course.strays = await self._ledger.observations()
        nights: dict[date, list[Known]] = defaultdict(list)
        for one in known:
            nights[one.night].append(one)
        for night, members in nights.items():
            keys, lost = await self._ledger.night(night, [one.observation for one in members])
            course.strays += lost
            counted = await self._tallies(members)
            looks = [
                await self._look(one, counted[one.observation], course, keys.pop(one.observation)) for one in members
            ]
            async for event in self._announce(course, [look for look in looks if look]):
                yield event
        self._say(course)

    async def at_start(self) -> AsyncIterator[Event]:
        """Everything that is missing, at once: nothing is under way; and what only memory has held."""
        course = _Course("reconcile-at-start")
        known, course.strays = await self._ledger.observations()
        for one in known:
            look = await self._look(one, (await self._tallies([one]))[one.observation], course)
            if look is not None:
                async for event in self._events(course, look, [*deadlines(look), *look.comparison.wanted]):
                    yield event
        self._say(course)

    def _is_recent(self, known: Known, state: str | None) -> bool:
        """Whether an observation's night has just been, or it is still under way whatever its night."""
        if self._now() <= night_end(known.night) + RECENT:
            return True
        if state == State.ENDED and known.observation not in self._unsettled:
            return False
        return self._now() <= self._first_looks.setdefault(known.observation, self._now()) + RECENT

    async def _tallies(self, known: Sequence[Known]) -> dict[str, Tally]:
        return await self._ledger.ask(partial(tallies, observations=[one.observation for one in known]))

    async def _look(
        self, known: Known, tally: Tally, course: _Course, keys: Sequence[str] | None = None
    ) -> Look | None:
        """Look at an observation, and remember whether it is whole; None if its plan cannot be read."""
        look = await self._alone(course, known.key, self._ledger.look(known, keys))
        if look is None:
            return None
        course.looked += 1
        name, found = known.observation, look.comparison
        self._wrong[name] = look.orphans, found.conflicts
        if found.whole:
            self._settled[name] = tally
            self._unsettled.discard(name)
            self._first_looks.pop(name, None)
            self._ledger.forget(known)
        else:
            self._settled.pop(name, None)
            self._unsettled.add(name)
        if not found.wanted:
            self._rounds_missed.pop(name, None)
        return look

    async def _announce(self, course: _Course, looks: Collection[Look]) -> AsyncIterator[Event]:
        """Announce what is missing still after a while."""
        missing = [look for look in looks if look.comparison.wanted]
        if missing:
            await asyncio.sleep(self._confirm_s)
        for look in missing:
            wanted = await self._alone(course, look.known.key, self._ledger.still_wanted(look))
            async for event in self._events(course, look, wanted or [], patient=True):
                yield event

    async def _events(
        self, course: _Course, look: Look, wanted: Collection[Wanted], patient: bool = False
    ) -> AsyncIterator[Event]:
        """The events to tell now, but for those that wait for a person."""
        course.missed += len(wanted)
        held = await self._held() if wanted else ()
        for one in self._due_now(look, wanted) if patient else wanted:
            event = await self._alone(course, one.key, announcement(self._ledger.store, look.plan, one))
            if event is not None and event.event_id in held:
                course.held += 1
            elif event is not None:
                course.announced += 1
                yield event

    async def _alone(self, course: _Course, key: str, doing: Awaitable[_T]) -> _T | None:
        """The result; None if it fails for something that lies in the store: the round goes on with the others."""
        try:
            return await doing
        except Outage:
            raise
        except CorruptObject as problem:
            course.strays.append(Orphan(key, str(problem)))
        except Exception as problem:  # noqa: BLE001 - one that cannot be looked at must not hide all others
            course.failed += 1
            _log.error("could not be reconciled: the others go on", round=course.name, key=key, exc_info=problem)
        return None

    def _due_now(self, look: Look, wanted: Collection[Wanted]) -> list[Wanted]:
        """What is announced in this round: in rounds 1, 2, 4, 8, ... since it was first missed."""
        before = self._rounds_missed.get(look.known.observation, {})
        counts = {one: before.get(one, 0) + 1 for one in wanted}
        self._rounds_missed[look.known.observation] = counts
        return [one for one, count in counts.items() if count & (count - 1) == 0]

    def _say(self, course: _Course) -> None:
        """Say what a round has found: in figures always, in the log when it is not what the last one found."""
        name, seconds = course.name, time.monotonic() - course.began_s
        orphans = len(course.strays) + sum(len(one) for one, _ in self._wrong.values())
        conflicts = sum(len(one) for _, one in self._wrong.values())
        self.figures.missed.labels(name).set(course.missed)
        self.figures.announced.labels(name).inc(course.announced)
        self.figures.held.labels(name).inc(course.held)
        self.figures.failed.labels(name).inc(course.failed)
        self.figures.seconds.labels(name).set(seconds)
        self.figures.orphans.set(orphans)
        self.figures.conflicts.set(conflicts)
        found = course.missed, course.announced, orphans, conflicts, course.failed
        if any(found) and found != self._said.get(name):
            _log.warning(
                "reconciled",
                round=name,
                looked=course.looked,
                missed=course.missed,
                announced=course.announced,
                held=course.held,
                failed=course.failed,
                orphans=orphans,
                conflicts=conflicts,
                seconds=round(seconds, 3),
                first_orphan=_first([*course.strays, *(one for found, _ in self._wrong.values() for one in found)]),
            )
        self._said[name] = found


def night_end(night: date) -> datetime:
    """When the UT date of a night ends."""
    return datetime(night.year, night.month, night.day, tzinfo=UTC) + timedelta(days=1)


def deadlines(look: Look) -> list[Wanted]:
    """The beginnings of the exposures that are under way: readout returns their deadlines."""
    return [
        Wanted(ExposureStarted, fact_key(look.known.night, exposure, "started"), exposure)
        for exposure in look.comparison.open
    ]


def _first(orphans: Sequence[Orphan]) -> str | None:
    return f"{orphans[0].key}: {orphans[0].reason}" if orphans else None
