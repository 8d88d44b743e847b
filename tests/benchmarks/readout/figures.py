"""Figures with their goals, as a table for people and as JSON."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.benchmarks.readout.timing import Spent


@dataclass(frozen=True, slots=True)
class Figure:
    """Something measured.

    Attributes
    ----------
    name, unit : str
    wall : float
        By wall time, or what has nothing to do with time.
    cpu : float, optional
        By the CPU time of all threads: this one counts when others use the machine.
    goal, cpu_goal : float, optional
        Ratios shall be at least, everything else at most so large.
    """

    name: str
    unit: str
    wall: float
    cpu: float | None = None
    goal: float | None = None
    cpu_goal: float | None = None

    @classmethod
    def of(
        cls, name: str, unit: str, spent: Spent, goal: float | None = None, cpu_goal: float | None = None
    ) -> "Figure":
        """A figure of wall and CPU time."""
        return cls(name, unit, spent.wall, spent.cpu, goal, cpu_goal)

    @property
    def row(self) -> str:
        """Row of the table."""
        return (
            f"| {self.name} | {_said(self.unit, self.wall, self.goal)} | {_said(self.unit, self.cpu, self.cpu_goal)} |"
        )

    def reaches(self, measured: float | None, goal: float | None) -> bool | None:
        """Whether the goal is reached, if there is one."""
        if measured is None or goal is None:
            return None
        return measured >= goal if self.is_ratio else measured <= goal

    @property
    def is_ratio(self) -> bool:
        """Whether more is better."""
        return self.unit in ("x", "")

    def document(self) -> dict[str, object]:
        """For JSON."""
        found = {
            "reached": self.reaches(self.wall, self.goal),
            "reached_per_cpu": self.reaches(self.cpu, self.cpu_goal),
        }
        return {name: value for name, value in (asdict(self) | found).items() if value is not None}


def _said(unit: str, measured: float | None, goal: float | None) -> str:
    if measured is None:
        return ""
    text = f"{measured:.3g} {unit}".strip() if measured < 1000 else f"{measured:.0f} {unit}"
    return text if goal is None else f"{text} (goal {goal:g})"


def table(figures: Sequence[Figure]) -> str:
    """A table in Markdown."""
    return "\n".join(["| what | measured | by CPU time |", "|---|---|---|", *(figure.row for figure in figures)])


def machine(threads: int) -> dict[str, object]:
    """When and where it was measured."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "load": [round(load, 1) for load in os.getloadavg()],
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "numba", "stcal")},
    }


def _processor() -> str:
    """Name of the processor; that of its architecture where the kernel tells no more."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
