"""What is written down: a table for people, JSON for programs."""

import json
import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.table import Table
from tests.chaos.performance import Outcome

_HEAD = ("case", "injected", "lost", "duplicated", "orphans", "wrong", "parked", "recovery, s", "goal")

_TEXT = """\
# What was measured

The last run of `make chaos` with each seed. The verdict is that of a ledger which shares nothing with the system
(`verdict.py`): it hashes what the edge was given, lists and hashes what lies in the store, and holds both against the
rows of the catalogue. *Recovery* counts from the end of the last fault or the last event of the edge, whichever was
later, until every product of the night is in the catalogue, so that what is left of the night itself is not in it; the
end of a server's fault is when it answers again, that of a killed process its death. *Parked* is what waits for a
person at the end: only what the case itself spoils may be there.
"""

_RUN = """
## Seed {seed}

`make chaos SEED={seed}` on {day}, {machine}; {held} of {count} cases hold their goal. {minutes:.0f} minutes in all.

{table}
"""

Record = dict[str, Any]


def table(outcomes: Sequence[Outcome]) -> Table:
    """The table for a terminal."""
    made = Table(*_HEAD)
    for outcome in outcomes:
        made.add_row(*_cells(_record(outcome)), style="" if not outcome.problems else "red")
    return made


def write(outcomes: Sequence[Outcome], folder: Path, seed: int, seconds: float) -> None:
    """Write a run into ``RESULTS.md`` and ``RESULTS.json``, in the place of an earlier one with its seed."""
    run = {"seed": seed, "date": datetime.now(UTC).isoformat(), "machine": machine(), "seconds": round(seconds)}
    facts = folder / "RESULTS.json"
    others = json.loads(facts.read_text(encoding="utf-8"))["runs"] if facts.exists() else []
    runs = [one for one in others if one["seed"] != seed]
    runs = sorted([*runs, run | {"cases": [_record(outcome) for outcome in outcomes]}], key=lambda one: one["seed"])
    facts.write_text(json.dumps({"runs": runs}, indent=2) + "\n", encoding="utf-8")
    (folder / "RESULTS.md").write_text(_TEXT + "".join(map(_section, runs)), encoding="utf-8")


def machine() -> str:
    """This machine in words."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    return f"{os.cpu_count()} cores, {memory_gb:.0f} GB, Python {platform.python_version()}"


def _section(run: Record) -> str:
    cases = run["cases"]
    rows = [_HEAD, tuple("---" for _ in _HEAD), *map(_cells, cases)]
    text = _RUN.format(
        seed=run["seed"],
        day=run["date"][:10],
        machine=run["machine"],
        held=sum(not case["problems"] for case in cases),
        count=len(cases),
        minutes=run["seconds"] / 60.0,
        table="\n".join("| " + " | ".join(row) + " |" for row in rows),
    )
    notes = [f"- **{case['case']}**: {case['note']}." for case in cases if case["note"]]
    broken = [f"- **{case['case']}**: {'; '.join(case['problems'])}." for case in cases if case["problems"]]
    return text + "".join(
        f"\n{title}:\n\n" + "\n".join(lines) + "\n"
        for title, lines in (("What has to be known", notes), ("What was not held", broken))
        if lines
    )


def _cells(case: Record) -> tuple[str, ...]:
    counts = [len(case[name]) for name in ("lost", "duplicated", "orphans", "wrong")]
    recovery = "never" if case["recovery_s"] is None else f"{case['recovery_s']:.1f}"
    return (
        case["case"],
        case["injected"],
        *map(str, counts),
        str(sum(case["parked"].values())),
        recovery,
        "missed" if case["problems"] else "held",
    )


def _record(outcome: Outcome) -> Record:
    verdict, case = outcome.verdict, outcome.case
    return {
        "case": case.name,
        "injected": case.injected,
        "note": case.note,
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
