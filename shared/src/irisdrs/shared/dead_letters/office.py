"""Dead letters: look at what is parked, send it again after a fix, or discard it; each decision is kept.

A decision is an object of its own, written before the message moves. Whoever dies in between leaves a decision
without effect: the message is parked still, and can be decided about again.
"""

import asyncio
import itertools
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog
from pydantic import ValidationError

from irisdrs.shared.bus.port import Bus, Parked, Parking
from irisdrs.shared.bus.topology import QUEUES, Queue
from irisdrs.shared.crash_points import reach
from irisdrs.shared.dead_letters.copies import by_event, ids
from irisdrs.shared.dead_letters.letters import (
    Action,
    Decision,
    Found,
    Letter,
    Moved,
    NoReason,
    NoSuchLetter,
    Selection,
    the_one,
)
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.store.port import JSON, Store

_log = structlog.get_logger(__name__)

#: Decisions lie under ``dead-letters/{parking id}-{number}.json``; of several about one letter the last one counts.
PREFIX = "dead-letters/"

#: Letters that are decided about at a time: each is recorded, then all of them move.
BATCH = 500

#: Requests to the store at the same time.
_AT_ONCE = 16


class DeadLetters:
    """The dead letters of a bus. A `DeadLetterOffice`.

    Parameters
    ----------
    bus : Bus
    store : Store
        Keeps the decisions.
    queues : sequence of Queue
        Rows of the topology table whose parked messages are looked at.
    progress : callable
        Is told how many letters have moved, each time some have.
    """

    def __init__(
        self, bus: Bus, store: Store, queues: Sequence[Queue] = QUEUES, progress: Callable[[int], None] | None = None
    ) -> None:
        self._bus, self._store, self._queues = bus, store, queues
        self._progress = progress
        self._known: dict[str, Decision] = {}  # written once: what was read is never read again
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def waiting(self, selection: Selection) -> list[Letter]:
        """Letters that are parked, queue by queue, oldest first; of copies the oldest."""
        name = selection.queue_name()
        parked = await self._parked([queue for queue in self._queues if name in (None, queue.name)])
        letters = [Letter.of(one) for one in parked]
        return [copies[0] for copies in by_event([one for one in letters if selection.takes(one, one.parked_at)])]

    async def decided(self, selection: Selection) -> list[Decision]:
        """Decisions that were carried out, oldest first."""
        parked = {one.id for one in await self._parked(self._queues)}
        last = {decision.letter.id: decision for decision in await self._decisions()}
        carried_out = [decision for letter, decision in last.items() if letter not in parked]
        return [decision for decision in carried_out if selection.takes(decision.letter, decision.at)]

    async def show(self, letter_id: str) -> Found:
        """All of one letter, parked or decided about."""
        parked = {one.id: one for one in await self._parked(self._queues)}
        decisions = await self._decisions()
        found = the_one(letter_id, [*parked, *(decision.letter.id for decision in decisions)])
        if found is None:
            raise NoSuchLetter(
                f"There is no dead letter {letter_id!r}.", remedy="`iris dead-letters list` shows what is parked."
            )
        about = [decision for decision in decisions if decision.letter.id == found]
        letter = Letter.of(parked[found]) if found in parked else about[-1].letter
        event = letter.queue, letter.event_id
        others = [
            decision
            for decision in decisions
            if letter.event_id and (decision.letter.queue, decision.letter.event_id) == event and decision not in about
        ]
        return Found(letter=letter, parked=found in parked, decisions=about, same_event=others)

    async def redrive(self, ids: Sequence[str], by: str, reason: str = "") -> Moved:
        """Send letters again to the queues that they were parked from."""
        return await self._decide(Action.REDRIVE, ids, by, reason)

    async def discard(self, ids: Sequence[str], by: str, reason: str) -> Moved:
        """Take letters away; the store keeps them."""
        if not reason.strip():
            raise NoReason("A dead letter is discarded for a reason.", remedy="Give one with --reason.")
        return await self._decide(Action.DISCARD, ids, by, reason)

    async def held(self) -> frozenset[str]:
        """Ids of events that are parked or were discarded: a person decides about them, nobody announces them again.

        An event that one queue has discarded and another one has handled is among them.
        """
        parked = [Letter.of(one) for one in await self._parked(self._queues)]
        last = {(decision.letter.queue, decision.letter.event_id): decision for decision in await self._decisions()}
        discarded = [event for (_, event), decision in last.items() if decision.action is Action.DISCARD]
        return frozenset(discarded + [letter.event_id for letter in parked]) - {""}

    async def _parked(self, queues: Sequence[Queue]) -> list[Parked]:
        return [parked for queue in queues for parked in await self._bus.parked(queue)]

    async def _decide(self, action: Action, ids: Sequence[str], by: str, reason: str) -> Moved:
        parked = await self._parked(self._queues)
        known = [one.id for one in parked]
        named = {one: the_one(one, known) for one in ids}
        chosen = {letter for letter in named.values() if letter is not None}
        moved: list[str] = []
        for queue in self._queues:
            if any(one.queue == queue.name and one.id in chosen for one in parked):
                async with self._bus.parking(queue) as parking:
                    moved += await self._move(parking, chosen, action, by, reason)
        return Moved(moved=moved, missing=[one for one, letter in named.items() if letter not in moved])

    async def _move(self, parking: Parking, chosen: Collection[str], action: Action, by: str, reason: str) -> list[str]:
        """Record and move the letters of one queue that are there still, with their copies: one of them is sent."""
        events = by_event([Letter.of(one) for one in parking.messages])
        mine = [copies for copies in events if any(one.id in chosen for one in copies)]
        known = await self._decisions()  # nobody else decides about these letters meanwhile: the parking is ours
        taken = frozenset(await self._store.keys(PREFIX))
        for start in range(0, len(mine), BATCH):
            batch = mine[start : start + BATCH]
            letters = {one.id: one for copies in batch for one in copies}
            times = _Times(known)
            decisions = [
                Decision(action=action, by=by, at=times.after_all(one), reason=reason, letter=one)
                for one in letters.values()
            ]
            await asyncio.gather(*(self._record(decision, taken) for decision in decisions))
            reach("dead_letters.recorded")
            if action is Action.REDRIVE:
                await parking.redrive([copies[0].id for copies in batch], by)
            await parking.discard(letters.keys())
            if self._progress is not None:
                self._progress(len(batch))
        return [one for one in ids(letter for copies in mine for letter in copies) if one in chosen]

    async def _record(self, decision: Decision, taken: Collection[str]) -> None:
        """Write a decision under the next number that is free."""
        data = decision.model_dump_json(indent=1).encode()
        async with self._places:
            for key in map(partial(_key, decision.letter.id), itertools.count(1)):
                if key not in taken and (await self._store.put(key, data, media_type=JSON, contested=True)).created:
                    self._known[key] = decision
                    return

    async def _decisions(self) -> list[Decision]:
        """All decisions, oldest first."""
        keys = await self._store.keys(PREFIX)
        await asyncio.gather(*(self._read(key) for key in keys if key not in self._known))
        return sorted((self._known[key] for key in keys if key in self._known), key=lambda decision: decision.at)

    async def _read(self, key: str) -> None:
        async with self._places:
            stored = await self._store.head(key)
            if stored is None:
                return
            try:
                self._known[key] = Decision.model_validate_json(await self._store.get(stored.ref))
            except (ValidationError, CorruptObject) as problem:
                _log.error("a decision about a dead letter cannot be read", key=key, problem=str(problem))


class _Times:
    """When decisions are made: by the clock here, but after every earlier one about the same letter or event.

    The last one counts, and the clock of whoever made an earlier one may be fast.
    """

    def __init__(self, decisions: Sequence[Decision]) -> None:
        self._now = datetime.now(UTC)
        self._last: dict[tuple[str, str], datetime] = {}
        for decision in decisions:
            for about in _about(decision.letter):
                self._last[about] = max(decision.at, self._last.get(about, decision.at))

    def after_all(self, letter: Letter) -> datetime:
        earlier = [self._last[about] + timedelta(microseconds=1) for about in _about(letter) if about in self._last]
        return max([self._now, *earlier])


def _about(letter: Letter) -> tuple[tuple[str, str], tuple[str, str]]:
    return ("", letter.id), (letter.queue, letter.event_id)


def _key(letter_id: str, number: int) -> str:
    return f"{PREFIX}{letter_id}-{number:03d}.json"
