"""Wall and CPU time of things that take turns, so that all of them see the machine as busy as the others do."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class Spent:
    """Wall time, and CPU time of all threads; s, or ratios of them."""

    wall: float
    cpu: float

    def times(self, factor: float) -> "Spent":
        """Both, times a factor."""
        return Spent(self.wall * factor, self.cpu * factor)


def timed(work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs) -> tuple[_T, Spent]:
    """Result and time."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*arguments, **named)
    return result, Spent(time.perf_counter() - wall, time.process_time() - cpu)


def middle(spent: list[Spent]) -> Spent:
    """Median of each."""
    return Spent(median(one.wall for one in spent), median(one.cpu for one in spent))


@dataclass(slots=True)
class Turns:
    """Times of things by name and round, each for one of what it counts."""

    taken: dict[str, dict[int, Spent]] = field(default_factory=dict)

    def take(
        self, name: str, number: int, count: float, work: Callable[_P, _T], *arguments: _P.args, **named: _P.kwargs
    ) -> _T:
        """Do something that counts for so many (reads, pixels and reads), in a round."""
        result, spent = timed(work, *arguments, **named)
        self.taken.setdefault(name, {})[number] = spent.times(1 / count)
        return result

    def of(self, name: str) -> Spent:
        """Median of a thing."""
        return middle(list(self.taken[name].values()))

    def ratio(self, slower: str, faster: str) -> Spent:
        """Median of the ratios in the rounds that both took part in."""
        pairs = [(spent, self.taken[faster][k]) for k, spent in self.taken[slower].items() if k in self.taken[faster]]
        return middle([Spent(one.wall / other.wall, one.cpu / other.cpu) for one, other in pairs])
