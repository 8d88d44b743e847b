"""The store as the ledger: which observations it knows, and one observation as it is in store and catalogue."""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import TypeVar

from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.reconciliation.announcements import announcement, plan_at
from irisdrs.archive.reconciliation.catalogued import catalogued, prefixes
from irisdrs.archive.reconciliation.comparison import compare
from irisdrs.archive.reconciliation.contents import LEVELS, contents
from irisdrs.archive.reconciliation.findings import Comparison, Orphan, Wanted
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.events.jobs import ExposureDue
from irisdrs.shared.identifiers import OBSERVATION_PATTERN, ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import OBSERVATIONS, night_prefix, observation_key
from irisdrs.shared.store.port import Store

_T = TypeVar("_T")

_FACT = re.compile(
    rf"{OBSERVATIONS}(?P<night>\d{{4}}-\d\d-\d\d)/(?P<observation>{OBSERVATION_PATTERN[1:-1]})(?P<ended>\.ended)?\.json"
)

_GONE_READ = "its row is in the catalogue, it is not in the store: nothing makes a read again, restore it from a copy"
_GONE_FRAME = "its row is in the catalogue, it is not in the store: made again, or restore it if it stays away"

#: Exposures of one observation that are listed one by one; of more, the whole observation is listed again.
FEW_EXPOSURES = 100


@dataclass(frozen=True, slots=True)
class Known:
    """An observation that the store knows.

    Attributes
    ----------
    observation, night
    ended : bool
        Whether the store says that it has ended.
    """

    observation: str
    night: date
    ended: bool = False

    @property
    def key(self) -> str:
        """Key of its plan."""
        return observation_key(self.night, self.observation)


@dataclass(frozen=True, slots=True)
class Look:
    """One observation as it was found.

    Attributes
    ----------
    known : Known
    plan : ObservationPlan
    comparison : Comparison
    orphans : tuple of Orphan
        Rows whose objects are proven to be gone, and objects that belong to nothing.
    """

    known: Known
    plan: ObservationPlan
    comparison: Comparison
    orphans: tuple[Orphan, ...]


class Ledger:
    """Looks at observations in store and catalogue; changes nothing.

    Parameters
    ----------
    store : Store
    catalogue : Catalogue
    """

    def __init__(self, store: Store, catalogue: Catalogue) -> None:
        self.store, self._catalogue = store, catalogue
        self._plans: dict[str, ObservationPlan] = {}

    async def observations(self) -> tuple[list[Known], list[Orphan]]:
        """Observations that the store knows, oldest night first, and what lies among their facts and is none."""
        found: dict[tuple[date, str], Known] = {}
        strays = []
        for key in await self.store.keys(OBSERVATIONS):
            match = _FACT.fullmatch(key)
            night = _night(match["night"]) if match else None
            if match is None or night is None:
                strays.append(Orphan(key, "no fact of an observation"))
                continue
            name = night, match["observation"]
            known = found.get(name) or Known(name[1], night)
            found[name] = replace(known, ended=True) if match["ended"] else known
        return [found[name] for name in sorted(found)], strays

    async def look(self, known: Known, keys: Sequence[str] | None = None) -> Look:
        """Compare an observation; its objects are listed unless that was done before.

        Raises
        ------
        CorruptObject
            If its plan cannot be read.
        Outage
            If store or catalogue are away.
        """
        plan = await self.plan(known)
        if keys is None:
            keys = await self._list(prefixes(known.night, known.observation))
        comparison = await self._compare(known, plan, keys, None)
        wanted = await self._due(plan, comparison.wanted)
        orphans = comparison.strays + tuple([key async for key in self._gone(comparison.absent)])
        return Look(known, plan, replace(comparison, wanted=wanted), orphans)

    async def still_wanted(self, look: Look) -> list[Wanted]:
        """What of a look is wanted still: only the exposures that miss something are looked at again."""
        concerned = {wanted.exposure for wanted in look.comparison.wanted if wanted.exposure is not None}
        exposures = sorted(concerned, key=str) if len(concerned) <= FEW_EXPOSURES else None
        keys = await self._list(prefixes(look.known.night, look.known.observation, exposures))
        again = await self._compare(look.known, look.plan, keys, exposures)
        before = set(look.comparison.wanted)
        return [wanted for wanted in await self._due(look.plan, again.wanted) if wanted in before]

    async def night(self, night: date, known: Collection[str]) -> tuple[dict[str, list[str]], list[Orphan]]:
        """Keys of all objects of a night by observation, and the objects of observations that have no plan."""
        found: dict[str, list[str]] = {observation: [] for observation in known}
        others: dict[str, list[str]] = defaultdict(list)
        for level in LEVELS:
            prefix = night_prefix(night, level)
            for key in await self.store.keys(prefix):
                observation = key[len(prefix) :].partition("/")[0]
                if observation in found:
                    found[observation].append(key)
                else:
                    others[observation].append(key)
        # One that has begun since the plans were listed has its plan by now: it was put before all of its objects.
        strays = [
            Orphan(key, "an observation without a plan")
            for observation, keys in others.items()
            if await self.store.head(observation_key(night, observation)) is None
            for key in keys
        ]
        return found, strays

    async def plan(self, known: Known) -> ObservationPlan:
        """The plan of an observation. Raises `CorruptObject` if it cannot be read."""
        if known.key not in self._plans:
            plan = await plan_at(self.store, known.key)
            if (plan.observation, plan.night) != (known.observation, known.night):
                raise CorruptObject(f"{known.key} is the plan of {plan.observation} on {plan.night}.")
            self._plans[known.key] = plan
        return self._plans[known.key]

    def forget(self, known: Known) -> None:
        """Give up what is remembered of an observation."""
        self._plans.pop(known.key, None)

    async def ask(self, question: Callable[[Session], _T]) -> _T:
        """Ask the catalogue, in a thread."""
        return await asyncio.to_thread(self._ask, question)

    def _ask(self, question: Callable[[Session], _T]) -> _T:
        with self._catalogue.read() as session:
            return question(session)

    async def _list(self, key_prefixes: Iterable[str]) -> list[str]:
        return [key for prefix in key_prefixes for key in await self.store.keys(prefix)]

    async def _compare(
        self, known: Known, plan: ObservationPlan, keys: Sequence[str], exposures: Collection[ExposureId] | None
    ) -> Comparison:
        """Compare in a thread: half a million keys take seconds."""
        wanted = prefixes(known.night, known.observation, exposures)
        rows = await self.ask(lambda session: catalogued(session, known.observation, wanted))
        return await asyncio.to_thread(lambda: compare(plan, known.ended, contents(plan, keys), rows, exposures))

    async def _due(self, plan: ObservationPlan, wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
        """What is wanted, without the deadlines that have not passed."""
        found = []
        for one in wanted:
            if one.kind is ExposureDue and not one.at_once and not await self._has_passed(plan, one):
                continue
            found.append(one)
        return tuple(found)

    async def _has_passed(self, plan: ObservationPlan, wanted: Wanted) -> bool:
        try:
            return await announcement(self.store, plan, wanted) is not None
        except CorruptObject:
            return True  # said when it is to be announced

    async def _gone(self, keys: Iterable[str]) -> AsyncIterator[Orphan]:
        for key in keys:
            if await self.store.head(key) is None:
                yield Orphan(key, _GONE_READ if key.startswith("0/") else _GONE_FRAME)


def _night(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
