"""Leave out reads, or the intervals between them, while a measured quantity was out of bounds: seeing, say.

The table has two columns and is an ECSV file (Astropy Proposal for Enhancement 6):

- `time`: UTC as ISO 8601 strings or an astropy Time, or numbers: seconds since the detector's reset (of the first ramp
  of an exposure), unless the column has another unit of time.
- `value`: numbers, in the unit of the bound. Rows without a finite value say nothing and are passed over.

Times increase. A value holds from its time until the next; before the first one nothing is known and nothing left out.

    # %ECSV 1.0
    # ---
    # datatype:
    # - {name: time, datatype: string}
    # - {name: value, unit: arcsec, datatype: float64}
    time value
    2034-08-01T05:00:00 0.45
    2034-08-01T05:00:30 0.92
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.table import Table
from astropy.time import Time
from erfa import ErfaWarning
from numpy.typing import NDArray

from irisdrs.shared.errors import Fatal


@dataclass(frozen=True, slots=True)
class Telemetry:
    """A quantity by time; arrays are (samples,).

    Attributes
    ----------
    times_s : float64
        Seconds since the detector's reset, increasing.
    values : float64
        Finite; each holds until the next.
    """

    times_s: NDArray[np.float64]
    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.times_s.shape != self.values.shape or not np.isfinite(self.values).all():
            raise ValueError("telemetry needs one finite value for each time")
        if not (np.isfinite(self.times_s).all() and (np.diff(self.times_s) > 0).all()):
            raise ValueError("times of telemetry must increase")


def use_reads(
    read_times_s: NDArray[np.float64], telemetry: Telemetry, *, minimum: float = -np.inf, maximum: float = np.inf
) -> NDArray[np.bool_]:
    """Which reads to use: those that ended while the quantity was within its bounds.

    A read that is left out costs no photons: the differences around it are merged.

    Parameters
    ----------
    read_times_s : float64 (reads,)
        Ends of the reads, seconds since the reset.
    telemetry : Telemetry
    minimum, maximum : float
        Bounds; themselves allowed.

    Returns
    -------
    use_read : bool (reads,)
    """
    return ~_any_beyond(read_times_s, read_times_s, telemetry, minimum, maximum)


def use_intervals(
    read_times_s: NDArray[np.float64], telemetry: Telemetry, *, minimum: float = -np.inf, maximum: float = np.inf
) -> NDArray[np.bool_]:
    """Which differences of neighbouring reads to use: those in which the quantity was never out of bounds.

    The photons of an interval that is left out do not enter the frame; the reads at its ends are still used for the
    intervals beside it.

    Parameters
    ----------
    read_times_s : float64 (reads,)
        Ends of the reads, seconds since the reset, increasing.
    telemetry : Telemetry
    minimum, maximum : float
        Bounds; themselves allowed.

    Returns
    -------
    use_difference : bool (reads - 1,)
    """
    return ~_any_beyond(read_times_s[:-1], read_times_s[1:], telemetry, minimum, maximum)


def _any_beyond(
    starts_s: NDArray[np.float64], stops_s: NDArray[np.float64], telemetry: Telemetry, minimum: float, maximum: float
) -> NDArray[np.bool_]:
    """Whether a value in force between start and stop, both included, is out of bounds."""
    bad = (telemetry.values < minimum) | (telemetry.values > maximum)
    before = np.concatenate([[0], np.cumsum(bad)])  # bad samples among the first k
    first = np.maximum(np.searchsorted(telemetry.times_s, starts_s, side="right") - 1, 0)
    last = np.searchsorted(telemetry.times_s, stops_s, side="right")
    return np.asarray(before[last] > before[np.minimum(first, last)])


def read_telemetry(path: Path, reset: datetime | None = None) -> Telemetry:
    """Read a table of telemetry.

    Parameters
    ----------
    path : Path
        ECSV file, see above.
    reset : datetime, optional
        The detector's reset (UTC); needed when the table's times are dates.

    Raises
    ------
    Fatal
        If the file is no such table.
    """
    with _dates_to_come():
        return _telemetry(path, reset)


@contextmanager
def _dates_to_come() -> Iterator[None]:
    """Times are taken relative to a reset of the same night: leap seconds that nobody has announced are in neither."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "ERFA function .* yielded .*dubious year", ErfaWarning)
        yield


def _telemetry(path: Path, reset: datetime | None) -> Telemetry:
    try:
        table = Table.read(path, format="ascii.ecsv")
    except MemoryError:
        raise  # says nothing of the table
    except Exception as problem:  # astropy checks little of a header: KeyError, TypeError, RecursionError ...
        raise Fatal(
            f"{path} is no ECSV table: {type(problem).__name__}: {problem}",
            remedy="Write it with astropy.table, format ecsv.",
        ) from problem
    missing = {"time", "value"} - set(table.colnames)
    if missing:
        raise Fatal(f"{path} has no column {', '.join(sorted(missing))}.", remedy="Name its columns time and value.")
    for name in ("time", "value"):
        if np.ndim(table[name]) != 1:
            raise Fatal(f"{path} has more than one {name} in a row.", remedy="Give one time and one value in each row.")
    try:
        values = np.ma.filled(np.ma.asarray(table["value"], np.float64), np.nan)
        times_s = _seconds(table["time"], reset)
        known = np.isfinite(values)
        return Telemetry(times_s[known], values[known])
    except (TypeError, ValueError) as problem:
        raise Fatal(
            f"{path} cannot be used: {problem}.",
            remedy="Give increasing times, in seconds since the reset or as UTC dates, and numbers as values.",
        ) from problem


def _seconds(column: Any, reset: datetime | None) -> NDArray[np.float64]:
    """Times of a table's column as seconds since the reset."""
    is_date = isinstance(column, Time) or column.dtype.kind in "UO"
    if not is_date:
        unit = units.s if column.unit is None else column.unit
        return np.asarray(np.ma.filled(np.ma.asarray(column, np.float64), np.nan) * unit.to(units.s))
    if reset is None:
        raise ValueError("its times are dates, and the time of the reset is not known (--reset-time)")
    dates = column if isinstance(column, Time) else Time(list(column), scale="utc")
    return np.asarray((dates - Time(reset, scale="utc")).to_value(units.s), np.float64)
