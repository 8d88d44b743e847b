"""The question what is missing: answered once, nothing is told and nothing remembered."""

import asyncio
import json
from collections.abc import Awaitable, Collection, Iterable
from datetime import UTC, date, datetime
from typing import TypeVar

import structlog
from pydantic import BaseModel, ConfigDict, Field

from irisdrs.archive.catalogue.observations import State
from irisdrs.archive.reconciliation.announcements import announcement
from irisdrs.archive.reconciliation.catalogued import observation_states
from irisdrs.archive.reconciliation.findings import Orphan
from irisdrs.archive.reconciliation.ledger import Known, Ledger, Look
from irisdrs.archive.reconciliation.reconciler import RECENT, night_end
from irisdrs.shared.errors import CorruptObject, Outage
from irisdrs.shared.events.envelope import encode
from irisdrs.shared.identifiers import OBSERVATION_PATTERN
from irisdrs.shared.service import Held

_log = structlog.get_logger(__name__)

_T = TypeVar("_T")

#: Most findings of each kind in one answer: some 10 MB of events.
MOST = 5000


class Scope(BaseModel):
    """Which observations are looked at; without anything those that are recent or have not ended."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation: str | None = Field(default=None, pattern=OBSERVATION_PATTERN)
    night: date | None = None
    everything: bool = False

    def takes(self, known: Known, state: str | None) -> bool:
        """Whether an observation with this state in the catalogue is looked at."""
        if self.observation is not None or self.night is not None:
            return self.observation in (None, known.observation) and self.night in (None, known.night)
        return self.everything or state != State.ENDED or datetime.now(UTC) <= night_end(known.night) + RECENT


class MissedRow(BaseModel):
    """An event that somebody has missed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(description="CloudEvents type")
    subject: str
    key: str = Field(description="Object that it announces, or fact that it is built from")
    why: str = Field(default="", description="What is wrong without it")
    held: bool = Field(description="Whether it waits for a person already: it is not to be told again")
    event: dict[str, object] = Field(description="The event as it is told, a CloudEvent")


class OrphanRow(BaseModel):
    """A row without its object, or an object that belongs to nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    key: str
    reason: str


class ConflictRow(BaseModel):
    """A version that is never used: a read with two different contents is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    product_id: str
    version: str
    key: str


class Report(BaseModel):
    """What a look has found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observations: int = Field(description="Observations that were looked at")
    missed: list[MissedRow]
    orphans: list[OrphanRow]
    conflicts: list[ConflictRow]
    left_out: int = Field(description="Findings beyond the limit")


async def survey(
    ledger: Ledger,
    held: Held,
    scope: Scope,
    *,
    confirm_s: float = 0.0,
    limit: int = MOST,
) -> Report:
    """Look at observations and say what is missing, left over and in conflict.

    Parameters
    ----------
    ledger : Ledger
    held : coroutine function
        Gives the ids of the events that wait for a person.
    scope : Scope
    confirm_s : float
        What is missing is looked at again after this time, seconds.
    limit : int
        Most findings of each kind.

    Raises
    ------
    Outage
        If store or catalogue are away.
    """
    known, orphans = await ledger.observations()
    states = await ledger.ask(observation_states)
    chosen = [one for one in known if scope.takes(one, states.get(one.observation))]
    if scope.everything or scope.night is not None:
        for night in sorted({one.night for one in chosen} | ({scope.night} if scope.night else set())):
            members = [one.observation for one in known if one.night == night]
            orphans += (await ledger.night(night, members))[1]
    looks = []
    for one in chosen:
        look = await _alone(one.key, orphans, ledger.look(one))
        if look is not None:
            looks.append(look)
    missed, left_out = await _missed(ledger, await held(), looks, orphans, confirm_s, limit)
    orphans += [orphan for look in looks for orphan in look.orphans]
    conflicts = [conflict for look in looks for conflict in look.comparison.conflicts]
    return Report(
        observations=len(looks),
        missed=missed,
        orphans=[OrphanRow.model_validate(one) for one in orphans[:limit]],
        conflicts=[ConflictRow.model_validate(one) for one in conflicts[:limit]],
        left_out=left_out + max(0, len(orphans) - limit) + max(0, len(conflicts) - limit),
    )


async def _missed(
    ledger: Ledger,
    held: Collection[str],
    looks: Iterable[Look],
    orphans: list[Orphan],
    confirm_s: float,
    limit: int,
) -> tuple[list[MissedRow], int]:
    """The events that are missing still after a while, and how many more there are."""
    missing = [look for look in looks if look.comparison.wanted]
    if missing:
        await asyncio.sleep(confirm_s)
    found: list[MissedRow] = []
    left_out = 0
    for look in missing:
        for wanted in await _alone(look.known.key, orphans, ledger.still_wanted(look)) or []:
            if len(found) >= limit:
                left_out += 1
                continue
            event = await _alone(wanted.key, orphans, announcement(ledger.store, look.plan, wanted))
            if event is not None:
                found.append(
                    MissedRow(
                        type=event.told_as,
                        subject=event.subject,
                        key=wanted.key,
                        why=wanted.why,
                        held=event.event_id in held,
                        event=json.loads(encode(event, "archive/reconcile")),
                    )
                )
    return found, left_out


async def _alone(key: str, orphans: list[Orphan], doing: Awaitable[_T]) -> _T | None:
    """The result; None if it fails for something that lies in the store: that is a finding, the look goes on."""
    try:
        return await doing
    except Outage:
        raise
    except CorruptObject as problem:
        orphans.append(Orphan(key, str(problem)))
    except Exception as problem:  # noqa: BLE001 - one that cannot be looked at must not hide all others
        orphans.append(Orphan(key, f"it cannot be looked at: {type(problem).__name__}: {problem}"))
        _log.error("could not be reconciled: the others go on", key=key, exc_info=problem)
    return None
