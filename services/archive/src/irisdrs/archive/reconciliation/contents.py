"""What the keys of an observation's objects say: which reads, facts and frames there are. No I/O."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from irisdrs.archive.reconciliation.findings import Orphan
from irisdrs.shared.identifiers import ExposureId, ProductId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import exposure_prefix

#: Calibration levels whose objects are compared.
LEVELS = (0, 1, 2)

_FACT = re.compile(r"(started|ended|aborted)\.json")
_FAILED = re.compile(r"failed-(\d{4})-(\d{5})\.json")
_READ = re.compile(r"(\d{4}/\d{5})-[0-9a-f]{16}\.fits")
_VERSION = re.compile(r"[0-9a-f]{16}-[0-9a-f]{16}\.fits")

#: Where an exposure's folder and a product's folder end, in segments of a key.
_EXPOSURE_DEPTH, _PRODUCT_DEPTH = 7, 6


@dataclass(slots=True)
class ExposureContents:
    """Objects of one exposure of one detector.

    Attributes
    ----------
    facts : set of str
        ``started``, ``ended``, ``aborted``.
    slots : set of str
        Ramp and read, ``0001/00008``, that are there or will not come.
    reads, raw, reduced : list of str
        Keys.
    """

    facts: set[str] = field(default_factory=set)
    slots: set[str] = field(default_factory=set)
    reads: list[str] = field(default_factory=list)
    raw: list[str] = field(default_factory=list)
    reduced: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Contents:
    """Objects of an observation, or of some of its exposures."""

    exposures: dict[ExposureId, ExposureContents] = field(default_factory=dict)
    strays: list[Orphan] = field(default_factory=list)

    def of(self, exposure: ExposureId) -> ExposureContents:
        """Objects of an exposure; none if it has none."""
        return self.exposures.get(exposure) or ExposureContents()

    def keys(self) -> Iterator[str]:
        """Keys of all objects that have rows."""
        for exposure in self.exposures.values():
            yield from exposure.reads
            yield from exposure.raw
            yield from exposure.reduced


def contents(plan: ObservationPlan, keys: Iterable[str]) -> Contents:
    """Sort the keys of an observation's objects."""
    planned = {exposure_prefix(plan.night, exposure): exposure for exposure in plan.exposure_ids()}
    found = Contents()
    for key in keys:
        reason = _note_fact_or_read(found, planned, key) if key.startswith("0/") else _note_frame(found, plan, key)
        if reason is not None:
            found.strays.append(Orphan(key, reason))
    return found


def _note_fact_or_read(found: Contents, planned: dict[str, ExposureId], key: str) -> str | None:
    """Take note of an object of level 0; why it belongs to nothing, if it does not."""
    prefix = "/".join(key.split("/", _EXPOSURE_DEPTH)[:_EXPOSURE_DEPTH]) + "/"
    exposure = planned.get(prefix)
    if exposure is None:
        return "an exposure that the plan has not"
    into = found.exposures.setdefault(exposure, ExposureContents())
    name = key[len(prefix) :]
    if match := _READ.fullmatch(name):
        into.slots.add(match[1])
        into.reads.append(key)
    elif match := _FACT.fullmatch(name):
        into.facts.add(match[1])
    elif match := _FAILED.fullmatch(name):
        into.slots.add(f"{match[1]}/{match[2]}")
    else:
        return "neither a read nor a fact of its exposure"
    return None


def _note_frame(found: Contents, plan: ObservationPlan, key: str) -> str | None:
    """As `_note_fact_or_read`, of a frame."""
    parts = key.split("/", _PRODUCT_DEPTH)
    try:
        product = ProductId.parse(parts[5])
    except (ValueError, IndexError):
        return "no product"
    if product.exposure.observation != plan.observation or str(product.level) != parts[0]:
        return "the product of another observation or level"
    if product.exposure not in found.exposures and product.exposure not in plan.exposure_ids():
        return "an exposure that the plan has not"
    if not _VERSION.fullmatch(parts[-1]):
        return "no version of its product"
    into = found.exposures.setdefault(product.exposure, ExposureContents())
    (into.raw if product.level == 1 else into.reduced).append(key)
    return None
