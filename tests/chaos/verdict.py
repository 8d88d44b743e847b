"""The independent ledger: what the edge was given, against what lies in the store and what the catalogue says.

Nothing here is asked of the system but the rows of its catalogue: the ledger hashes what the edge was given itself,
lists the store itself, and hashes every object that it finds there.

*Lost*: an (exposure, detector, level) or a read that should exist and has no current row. *Duplicated*: one that has
two, or that is in the store twice with the same inputs. *Orphan*: a complete object without a row, or a row without
its object. *Wrong*: bytes of an object that are not those of its row, of its announcements, or of what the edge was
given.
"""

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx
from tests.chaos.shelf import Shelf

from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.events import Event, ReadWritten
from irisdrs.shared.identifiers import ReadId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.simulator.ledger import current_products, expected_products, expected_reads

#: First parts of the keys of reads, raw frames and reduced frames.
LEVELS = (0, 1, 2)


@dataclass(slots=True)
class Account:
    """What the edge was given, and what was said of it.

    Attributes
    ----------
    plan : ObservationPlan
    reads : dict
        SHA-256 of the bytes of every read that the edge spooled, by the id of the read.
    announced : dict
        Every SHA-256 that anybody announced of a key.
    spoilt : set of str
        Ids of reads that a test has damaged: they can be neither read nor catalogued.
    """

    plan: ObservationPlan
    reads: dict[str, str] = field(default_factory=dict)
    announced: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    spoilt: set[str] = field(default_factory=set)

    def hear(self, event: Event) -> None:
        """Take note of an announcement."""
        if event.announces is not None:
            self.announced[event.announces.key].add(event.announces.sha256)

    def expected(self) -> set[str]:
        """Ids of everything that must be current at the end."""
        return set(expected_products(self.plan)) | set(expected_reads(self.plan)) - self.spoilt


class WitnessedEdge(Edge):
    """An edge that the ledger looks over its shoulder: it hashes what is spooled itself."""

    account: Account
    #: What happens to a read before it is spooled; None: nothing.
    before: Callable[[ReadWritten, bytes], Awaitable[None]] | None = None

    async def write_packed(self, event: ReadWritten, data: bytes) -> None:
        """Note what is spooled, and spool it."""
        read = ReadId(event.exposure_id, event.ramp, event.read)
        self.account.reads[str(read)] = hashlib.sha256(data).hexdigest()
        if self.before is not None:
            await self.before(event, data)
        await super().write_packed(event, data)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the ledger found: ids and keys; and the error classes of what was parked, by queue."""

    lost: tuple[str, ...] = ()
    duplicated: tuple[str, ...] = ()
    orphans: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    parked: Mapping[str, int] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """Whether every object is there, once, as it was given."""
        return not (self.lost or self.duplicated or self.orphans or self.wrong)


async def missing(account: Account, client: httpx.AsyncClient) -> set[str]:
    """Ids that have no current row yet."""
    rows = await current_products(client, account.plan)
    return account.expected() - {str(row["product_id"]) for row in rows}


async def audit(account: Account, shelf: Shelf, client: httpx.AsyncClient, parked: Iterable[str] = ()) -> Verdict:
    """Hold the account of a night against store and catalogue."""
    rows = await current_products(client, account.plan, all_versions=True)
    objects = await asyncio.to_thread(_digests, account.plan, shelf)
    current = Counter(str(row["product_id"]) for row in rows if row["current"])
    return Verdict(
        lost=tuple(sorted(account.expected() - set(current))),
        duplicated=(
            *sorted(name for name, count in current.items() if count > 1),
            *_made_twice(objects),
        ),
        orphans=_orphans(account, rows, objects),
        wrong=_wrong(account, rows, objects),
        parked=dict(Counter(parked)),
    )


def _digests(plan: ObservationPlan, shelf: Shelf) -> dict[str, str]:
    """SHA-256 of every object of an observation, by key."""
    folders = [f"{level}/{plan.night:%Y/%m/%d}/{plan.observation}/" for level in LEVELS]
    keys = [key for folder in folders for key in shelf.keys(folder) if key.endswith(".fits")]
    return {key: hashlib.sha256(shelf.read(key)).hexdigest() for key in keys}


def _made_twice(objects: Iterable[str]) -> list[str]:
    """Products that are in the store in two versions of the same inputs: keys without the job's hash."""
    versions = Counter(key.rpartition("-")[0] for key in objects if not key.startswith("0/"))
    return sorted(f"{name} ({count} times)" for name, count in versions.items() if count > 1)


def _orphans(account: Account, rows: Iterable[Mapping[str, object]], objects: Mapping[str, str]) -> tuple[str, ...]:
    catalogued = {str(row["key"]) for row in rows}
    spoilt = {key for key in objects if account.reads.keys() and _read_of(account, key) in account.spoilt}
    without_row = set(objects) - catalogued - spoilt
    return (*sorted(without_row), *sorted(f"{key} (row only)" for key in catalogued - set(objects)))


def _read_of(account: Account, key: str) -> str | None:
    """Id of the read that the edge spooled under a key: its name ends in the first digits of the SHA-256."""
    return next((read for read, sha256 in account.reads.items() if key.endswith(f"-{sha256[:16]}.fits")), None)


def _wrong(account: Account, rows: Iterable[Mapping[str, object]], objects: Mapping[str, str]) -> tuple[str, ...]:
    found = set()
    for row in rows:
        name, key, sha256 = str(row["product_id"]), str(row["key"]), str(row["sha256"])
        given = account.reads.get(name, sha256)
        if key in objects and not objects[key] == sha256 == given:
            found.add(f"{name}: stored {objects[key][:8]}, catalogued {sha256[:8]}, given {given[:8]}")
        if account.announced.get(key, {sha256}) != {sha256}:
            found.add(f"{name}: announced {sorted(account.announced[key])}, catalogued {sha256}")
    return tuple(sorted(found))
