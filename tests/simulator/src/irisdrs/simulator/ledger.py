"""The independent ledger: what the edge did, against what the archive says there is.

*Lost* is an (exposure, detector, level) or a read that should exist and has no current product; *duplicated* is one
that has two.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import httpx

from irisdrs.shared.identifiers import ProductId, ReadId
from irisdrs.shared.observation import ObservationPlan

#: Products that every exposure of the imager comes to: level and kind.
PRODUCTS = ((1, "raw"), (2, "image"))
#: Rows asked for at a time.
PAGE = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """Products of one observation that should be there and are, are not, or are there twice."""

    found: tuple[str, ...]
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]


def expected_products(plan: ObservationPlan) -> list[str]:
    """Ids of the frames that a plan comes to."""
    return [str(ProductId(exposure, *product)) for exposure in plan.exposure_ids() for product in PRODUCTS]


def expected_reads(plan: ObservationPlan) -> list[str]:
    """Ids of the reads that a plan comes to."""
    return [
        str(ReadId(exposure, ramp, read))
        for exposure in plan.exposure_ids()
        for ramp in range(1, plan.sampling.ramps + 1)
        for read in range(1, plan.sampling.reads + 1)
    ]


def is_read(name: str) -> bool:
    """Whether an id is that of a read, not of a frame."""
    try:
        ReadId.parse(name)
    except ValueError:
        return False
    return True


def compare(expected: Iterable[str], current: Iterable[str]) -> Verdict:
    """Hold the ids of current products against those that should be there."""
    wanted, counts = set(expected), Counter(current)
    return Verdict(
        found=tuple(sorted(wanted & set(counts))),
        lost=tuple(sorted(wanted - set(counts))),
        duplicated=tuple(sorted(name for name, count in counts.items() if count > 1)),
    )


async def current_products(
    client: httpx.AsyncClient, plan: ObservationPlan, *, all_versions: bool = False
) -> list[Mapping[str, object]]:
    """Rows of all current products of an observation, or of all versions, reads included, as the archive gives them."""
    rows: list[Mapping[str, object]] = []
    parameters: dict[str, str | int] = {"observation": plan.observation, "limit": PAGE}
    if all_versions:
        parameters["all_versions"] = "true"
    while True:
        answer = await client.get("/api/products", params=parameters)
        answer.raise_for_status()
        page = answer.json()
        rows += page["products"]
        if not page["next_cursor"]:
            return rows
        parameters["cursor"] = page["next_cursor"]
