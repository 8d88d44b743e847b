"""What is written down: a table for people, JSON for programs."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table
from tests.chaos.performance import Outcome

_HEAD = ("case", "injected", "lost", "duplicated", "orphans", "wrong", "parked", "recovery, s", "goal")

_TEXT = """\
# What was measured

`make chaos SEED={seed}` on {date}, {machine}; {held} of {count} cases hold their goal. {seconds:.0f} minutes in all.

The verdict is that of a ledger which shares nothing with the system (`verdict.py`): it hashes what the edge was given,
lists and hashes what lies in the store, and holds both against the rows of the catalogue. *Recovery* counts from the
end of the last fault or the last event of the edge, whichever was later, until every product of the night is in the
catalogue, so that what is left of the night itself is not in it; the end of a server's fault is when it answers again,
that of a killed process its death. *Parked* is what waits for a person at the end: only what the case itself spoils
may be there.

{table}
"""


def table(outcomes: Sequence[Outcome]) -> Table:
    """The table for a terminal."""
    made = Table(*_HEAD)
    for outcome in outcomes:
        made.add_row(*_cells(outcome), style="" if not outcome.problems else "red")
    return made


def write(outcomes: Sequence[Outcome], folder: Path, seed: int, seconds: float) -> None:
    """Write ``RESULTS.md`` and ``RESULTS.json``."""
    rows = [_HEAD, tuple("---" for _ in _HEAD), *(_cells(outcome) for outcome in outcomes)]
    text = _TEXT.format(
        seed=seed,
        date=f"{datetime.now(UTC):%Y-%m-%d}",
        machine=machine(),
        held=sum(not outcome.problems for outcome in outcomes),
        count=len(outcomes),
        seconds=seconds / 60.0,
        table="\n".join("| " + " | ".join(row) + " |" for row in rows),
    )
    notes = [f"- **{one.case.name}**: {one.case.note}." for one in outcomes if one.case.note]
    broken = [f"- **{one.case.name}**: {'; '.join(one.problems)}." for one in outcomes if one.problems]
    text += "".join(
        f"\n## {title}\n\n" + "\n".join(lines) + "\n"
        for title, lines in (("What has to be known", notes), ("What was not held", broken))
        if lines
    )
    (folder / "RESULTS.md").write_text(text, encoding="utf-8")
    found = {"seed": seed, "date": datetime.now(UTC).isoformat(), "machine": machine(), "seconds": round(seconds)}
    (folder / "RESULTS.json").write_text(
        json.dumps(found | {"cases": [_record(outcome) for outcome in outcomes]}, indent=2) + "\n", encoding="utf-8"
    )


def machine() -> str:
    """This machine in words."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, Python {platform.python_version()}"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    verdict = outcome.verdict
    counts = (len(verdict.lost), len(verdict.duplicated), len(verdict.orphans), len(verdict.wrong))
    recovery = "never" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}"
    return (
        outcome.case.name,
        outcome.case.injected,
        *map(str, counts),
        str(sum(verdict.parked.values())),
        recovery,
        "missed" if outcome.problems else "held",
    )


def _record(outcome: Outcome) -> dict[str, object]:
    verdict, case = outcome.verdict, outcome.case
    return {
        "case": case.name,
        "injected": case.injected,
        "setting": case.setting.value,
        "frames": 4 * case.exposures,
        "lost": verdict.lost,
        "duplicated": verdict.duplicated,
        "orphans": verdict.orphans,
        "wrong": verdict.wrong,
        "parked": dict(verdict.parked),
        "recovery_s": None if outcome.recovery_s is None else round(outcome.recovery_s, 1),
        "goal_s": case.recovery_s,
        "seconds": round(outcome.seconds, 1),
        "problems": outcome.problems,
    }
