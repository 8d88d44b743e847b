"""The rounds of the archive and its report: what is damaged, or under way, hides nothing else."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import date

import pytest

from irisdrs.archive.catalogue.engine import Catalogue
from irisdrs.archive.reconciliation.findings import Orphan
from irisdrs.archive.reconciliation.ledger import Known, Ledger, Look
from irisdrs.archive.reconciliation.reconciler import Reconciler
from irisdrs.archive.reconciliation.survey import Scope, survey
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.facts import ObservationStarted
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.service import none_held
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.keys import exposure_prefix, fact_key, observation_key
from irisdrs.shared.store.port import JSON, Store
from irisdrs.shared.testing.small_observation import NIGHT, small_plan

ROUNDS = ("under_way", "everything", "at_start")

FIRST, SECOND, NEVER = (
    small_plan(exposures=1).model_copy(update={"observation": f"2034B-007-00{n}"}) for n in (1, 2, 3)
)

#: JSON that no parser follows to its end.
DEEP = b"[" * 200_000


class BrittleLedger(Ledger):
    """Cannot look at the first observation, for a reason that nobody has foreseen."""

    async def look(self, known: Known, keys: Sequence[str] | None = None) -> Look:
        """Fail, or look."""
        if known.observation == FIRST.observation:
            raise ZeroDivisionError("nobody has foreseen it")
        return await super().look(known, keys)


class SlowLedger(Ledger):
    """While it lists the objects of a night, the second observation begins."""

    async def night(self, night: date, known: Collection[str]) -> tuple[dict[str, list[str]], list[Orphan]]:
        """List, after the beginning."""
        await begin(self.store, SECOND, started=b"{}")
        return await super().night(night, known)


def exposure(plan: ObservationPlan) -> ExposureId:
    """Its first one."""
    return next(iter(plan.exposure_ids()))


async def begin(store: Store, plan: ObservationPlan, **facts: bytes) -> None:
    """What the edge puts when an observation begins, and facts of its exposure."""
    key = observation_key(plan.night, plan.observation)
    await store.put(key, plan.model_dump_json().encode(), media_type=JSON)
    for name, content in facts.items():
        await store.put(fact_key(plan.night, exposure(plan), name), content, media_type=JSON)


def reconciler(ledger: Ledger) -> Reconciler:
    return Reconciler(ledger, none_held, first_s=0, every_s=60, all_every_s=600, confirm_s=0)


async def told(events: AsyncIterator[Event]) -> list[tuple[type[Event], str]]:
    return [(type(event), event.subject) async for event in events]


@pytest.mark.parametrize("fact", ["started", "ended"])
@pytest.mark.parametrize("content", [DEEP, b"", b"\xff", b"[]", b'{"exposure":' + b"9" * 5000 + b"}"])
@pytest.mark.parametrize("name", ROUNDS)
async def test_a_damaged_fact_is_reported_and_hides_no_other_observation(
    store: DirectoryStore, catalogue: Catalogue, name: str, content: bytes, fact: str
) -> None:
    await begin(store, FIRST, **{fact: content})
    await begin(store, SECOND)
    ledger = Ledger(store, catalogue)
    assert await told(getattr(reconciler(ledger), name)()) == [
        (ObservationStarted, FIRST.observation),
        (ObservationStarted, SECOND.observation),
    ]
    report = await survey(ledger, none_held, Scope(everything=True))
    assert [row.subject for row in report.missed] == [FIRST.observation, SECOND.observation]
    assert {row.key for row in report.orphans} == {fact_key(NIGHT, exposure(FIRST), fact)}


@pytest.mark.parametrize("name", ROUNDS)
async def test_damaged_metadata_and_plans_hide_no_other_observation(
    store: DirectoryStore, catalogue: Catalogue, name: str
) -> None:
    await store.put(observation_key(NIGHT, FIRST.observation), DEEP, media_type=JSON)
    await begin(store, SECOND)
    read = f"{exposure_prefix(NIGHT, exposure(SECOND))}0001/00001-{'0' * 16}.fits"
    await store.put(read, b"", metadata={"sampling": "[" * 1500})
    ledger = Ledger(store, catalogue)
    assert await told(getattr(reconciler(ledger), name)()) == [(ObservationStarted, SECOND.observation)]
    report = await survey(ledger, none_held, Scope(everything=True))
    assert {row.key for row in report.orphans} == {observation_key(NIGHT, FIRST.observation), read}


@pytest.mark.parametrize("name", ROUNDS)
async def test_an_observation_whose_look_fails_is_counted_and_the_others_go_on(
    store: DirectoryStore, catalogue: Catalogue, name: str
) -> None:
    for plan in (FIRST, SECOND):
        await begin(store, plan)
    ledger = BrittleLedger(store, catalogue)
    one = reconciler(ledger)
    assert await told(getattr(one, name)()) == [(ObservationStarted, SECOND.observation)]
    (counted,) = one.figures.failed.collect()
    assert [sample.value for sample in counted.samples if sample.name.endswith("_total")] == [1]
    report = await survey(ledger, none_held, Scope())
    assert [row.subject for row in report.missed] == [SECOND.observation]
    (orphan,) = report.orphans
    assert (orphan.key, "ZeroDivisionError" in orphan.reason) == (observation_key(NIGHT, FIRST.observation), True)


async def test_an_observation_that_begins_during_a_look_is_no_orphan(
    store: DirectoryStore, catalogue: Catalogue
) -> None:
    await begin(store, FIRST)
    stray = fact_key(NIGHT, exposure(NEVER), "started")
    await store.put(stray, b"{}", media_type=JSON)
    report = await survey(SlowLedger(store, catalogue), none_held, Scope(everything=True))
    assert [row.key for row in report.orphans] == [stray]
