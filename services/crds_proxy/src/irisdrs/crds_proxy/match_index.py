"""Find what may match in a large reference mapping, before the CRDS client looks at each of its rows.

The client compares a header with every row: with 12,000 of them that takes tens of milliseconds. Most values in
mappings are plain texts, which match themselves only; an index of those leaves the client a few rows to judge. What
it chooses from them is what it would choose from all.
"""

from collections.abc import Callable, Mapping
from typing import Any
from weakref import WeakMethod

from crds.core import selectors

#: Values of a header that match every plain text of a mapping.
_WILD = ("*", "N/A")

#: Rows from which on an index is worth its while: below, the client takes less than half a millisecond.
_WORTHWHILE = 200

_Row = tuple[str, ...]


def quicken(mapping: Any, *, rows: int = _WORTHWHILE) -> None:
    """Give a loaded reference mapping an index, if it is large: what it chooses stays the same.

    Parameters
    ----------
    mapping : crds.core.rmap.ReferenceMapping
    rows : int
        From how many on it is large.
    """
    selector = mapping.selector
    if isinstance(selector, selectors.MatchSelector) and len(selector._match_selections) >= rows:
        # Not the method itself: a selector that holds itself would wait for the garbage collector.
        winnow = WeakMethod(selector._winnow)
        selector._winnow = _winnow_indexed(winnow, selector._parameters, selector._match_selections)


def _winnow_indexed(
    method: WeakMethod[Callable[[Mapping[str, str], dict[_Row, Any]], Any]],
    parameters: tuple[str, ...],
    rows: Mapping[_Row, Any],
) -> Callable[[Mapping[str, str], dict[_Row, Any]], Any]:
    columns = [_Column(number, rows) for number in range(len(parameters))]

    def winnow_few(header: Mapping[str, str], remaining: dict[_Row, Any]) -> Any:
        values = [header.get(parameter, "UNDEFINED") for parameter in parameters]
        found = [column.possible(value) for column, value in zip(columns, values, strict=True) if value not in _WILD]
        few = min(found, key=len, default=list(rows))
        winnow = method()
        assert winnow is not None  # it is the selector that calls this
        return winnow(header, {row: remaining[row] for row in few})

    return winnow_few


class _Column:
    """One parameter of all rows: which rows a value of a header may match, in the order of the mapping."""

    def __init__(self, number: int, rows: Mapping[_Row, Any]) -> None:
        plain: dict[str, list[int]] = {}
        others: list[int] = []
        for place, (matchers, _) in enumerate(rows.values()):
            matcher = matchers[number]
            # Subclasses have patterns, ranges, negations, or do not care.
            if type(matcher) is selectors.Matcher:
                plain.setdefault(matcher._key, []).append(place)
            else:
                others.append(place)
        names = list(rows)
        self._possible = {value: [names[n] for n in sorted([*places, *others])] for value, places in plain.items()}
        self._otherwise = [names[n] for n in others]

    def possible(self, value: str) -> list[_Row]:
        return self._possible.get(value, self._otherwise)
