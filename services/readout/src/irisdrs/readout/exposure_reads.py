"""The reads of one exposure, from wherever they come: what offline sampling takes, and what rejects some of them."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.rejection import Telemetry, read_telemetry, use_intervals, use_reads
from irisdrs.readout.sampling.intervals import Intervals, intervals_of
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType, SamplingMode
from irisdrs.shared.window import Window

#: Shortest and longest time from one read to the next, s: no converter is as fast, and no exposure lasts four months.
#: Far beyond them rates and variances leave what 32-bit floats hold, and all pixels of a frame would be flagged zeros.
MIN_INTERVAL_S, MAX_INTERVAL_S = 1e-6, 1e7


class Reads(Protocol):
    """Reads of a ramp: an array (reads, rows, columns), or what decodes a file when it is asked for its read."""

    def __getitem__(self, index: int, /) -> NDArray[np.uint16]:
        """A read, uint16 (rows, columns), DN."""
        ...


@dataclass(frozen=True, slots=True)
class RampReads:
    """The reads of one ramp.

    Attributes
    ----------
    reads : Reads
        Raw counts.
    times_s : float64 (reads,)
        Ends of the reads since the reset, s, increasing.
    reset_s : float
        Reset of the ramp since that of the first ramp, s; NaN if it is not known.
    use_read : bool (reads,)
        False for reads to leave out: it costs no photons.
    use_interval : bool (reads - 1,)
        False for intervals between neighbouring reads to leave out, with their photons.
    """

    reads: Reads
    times_s: NDArray[np.float64]
    reset_s: float
    use_read: NDArray[np.bool_]
    use_interval: NDArray[np.bool_]

    @classmethod
    def whole(cls, reads: Reads, times_s: NDArray[np.float64], reset_s: float) -> "RampReads":
        """A ramp of which all reads are used."""
        number = len(times_s)
        return cls(reads, times_s, reset_s, np.ones(number, np.bool_), np.ones(max(number - 1, 0), np.bool_))

    @property
    def intervals(self) -> Intervals:
        """The used reads, and the usable differences between them."""
        return intervals_of(self.times_s, self.use_read, self.use_interval)


@dataclass(frozen=True, slots=True)
class ExposureReads:
    """The reads of an exposure of one detector.

    Attributes
    ----------
    ramps : tuple of RampReads
    shape : (rows, columns)
    facts : mapping
        Metadata for its frame, nested as in the data models.
    crds_parameters : mapping of str to str
        What CRDS chooses references by; empty for the ramp of another program.
    expected : int
        Reads that the exposure should have.
    mode : SamplingMode
        Sampling mode that it was taken for.
    group_reads : int, optional
        For MCDS: reads in each of the two groups.
    reset : datetime, optional
        Reset of the first ramp (UTC), if known.
    window : Window, optional
        Of the detector, if the reads are not of all of it.
    guide_windows : tuple of Window
        Of the detector, read besides.
    warnings : tuple of str
        What a person should know of what was left out.
    """

    ramps: tuple[RampReads, ...]
    shape: tuple[int, int]
    facts: Mapping[str, Any]
    crds_parameters: Mapping[str, str]
    expected: int
    mode: SamplingMode = SamplingMode.UTR
    group_reads: int | None = None
    reset: datetime | None = None
    window: Window | None = None
    guide_windows: tuple[Window, ...] = field(default=())
    warnings: tuple[str, ...] = ()

    def check_times(self) -> None:
        """Check that times of reads increase in every ramp, by times that can be.

        Raises
        ------
        Fatal
            If they do not.
        """
        for number, ramp in enumerate(self.ramps, 1):
            times = ramp.times_s
            with np.errstate(invalid="ignore"):
                apart = np.diff(times, prepend=0.0)
            apart[:1] += MIN_INTERVAL_S  # the first read may end as the reset does
            for wrong, what in (
                (~(apart > 0), "do not increase"),
                (~((apart >= MIN_INTERVAL_S) & (apart <= MAX_INTERVAL_S)), "are no times of reads"),
            ):
                if wrong.any():
                    k = int(np.argmax(wrong))
                    raise Fatal(
                        f"The times of the reads of ramp {number} {what}: reads {max(k, 1)} and {k + 1} end "
                        f"{times[max(k - 1, 0)]:.12g} s and {times[k]:.12g} s after the reset.",
                        remedy="Look at the headers; of a ramp in one file --read-time goes before them.",
                    )

    @property
    def foreign(self) -> bool:
        """Whether no detector of IRIS is known to have taken it."""
        return not self.crds_parameters

    @property
    def number(self) -> int:
        """Reads that are there."""
        return sum(len(ramp.times_s) for ramp in self.ramps)

    @property
    def used(self) -> int:
        """Reads that are not rejected."""
        return sum(int(ramp.use_read.sum()) for ramp in self.ramps)

    @property
    def rejected_intervals(self) -> int:
        """Intervals that are rejected."""
        return sum(int((~ramp.use_interval).sum()) for ramp in self.ramps)

    @property
    def identity(self) -> ExposureId | None:
        """Id of the exposure, if it is one of IRIS."""
        if self.foreign:
            return None
        observation, exposure = self.facts["observation"], self.facts["exposure"]
        return ExposureId(
            observation["observation"],
            Detector(self.facts["instrument"]["detector"]),
            ExposureType(exposure["type"]),
            observation["exposure_number"],
        )


@dataclass(frozen=True, slots=True)
class Rejection:
    """Tables of telemetry (`rejection`) and the bounds within which reads and intervals are used.

    Attributes
    ----------
    reads, intervals : Path, optional
        Tables that reject reads, and intervals between reads. Numbers as times are seconds since the first reset.
    minimum, maximum : float
        Bounds of the values of both tables; themselves allowed.
    """

    reads: Path | None = None
    intervals: Path | None = None
    minimum: float = -np.inf
    maximum: float = np.inf

    def check(self) -> None:
        """Check that tables and bounds go together.

        Raises
        ------
        Fatal
            If a table has no bound, or a bound no table.
        """
        if np.isnan(self.minimum) or np.isnan(self.maximum):
            raise Fatal("A bound is no number.", remedy="Give a number as --minimum or --maximum.")
        bounded = np.isfinite(self.minimum) or np.isfinite(self.maximum)
        if (self.reads or self.intervals) and not bounded:
            raise Fatal("A table of telemetry rejects nothing without a bound.", remedy="Give --minimum or --maximum.")
        if bounded and not (self.reads or self.intervals):
            raise Fatal(
                "There is a bound, but no table of telemetry.", remedy="Name one: --reject-reads or --reject-intervals."
            )
        if self.minimum > self.maximum:
            raise Fatal(
                f"No value lies between {self.minimum} and {self.maximum}.", remedy="Swap --minimum and --maximum."
            )


def leave_out(exposure: ExposureReads, rejection: Rejection) -> ExposureReads:
    """The exposure without what telemetry rejects, with a warning for each table that says nothing of its time.

    Raises
    ------
    Fatal
        If a table cannot be used, the resets of ramps are not known, or nothing is left.
    """
    rejection.check()
    bounds = {"minimum": rejection.minimum, "maximum": rejection.maximum}
    ramps, warnings = list(exposure.ramps), []
    if (rejection.reads or rejection.intervals) and not np.isfinite([ramp.reset_s for ramp in ramps]).all():
        raise Fatal(
            f"Telemetry rejects reads by their time, and the resets of {len(ramps)} ramps are not known.",
            remedy="Give --reset-time for every ramp, in their order.",
        )
    if rejection.reads is not None:
        table = read_telemetry(rejection.reads, exposure.reset)
        used = [use_reads(ramp.times_s + ramp.reset_s, table, **bounds) for ramp in ramps]
        ramps = [replace(ramp, use_read=ramp.use_read & use) for ramp, use in zip(ramps, used, strict=True)]
        warnings += _warnings(rejection.reads, table, exposure, all(use.all() for use in used))
    if rejection.intervals is not None:
        table = read_telemetry(rejection.intervals, exposure.reset)
        used = [use_intervals(ramp.times_s + ramp.reset_s, table, **bounds) for ramp in ramps]
        ramps = [replace(ramp, use_interval=ramp.use_interval & use) for ramp, use in zip(ramps, used, strict=True)]
        warnings += _warnings(rejection.intervals, table, exposure, all(use.all() for use in used))
    if not any(ramp.use_read.any() for ramp in ramps):
        raise Fatal(
            " ".join((f"Telemetry rejects all {exposure.number} reads.", *warnings)),
            remedy="Look at the table, and at --minimum and --maximum.",
        )
    return replace(exposure, ramps=tuple(ramps), warnings=(*exposure.warnings, *warnings))


def _warnings(path: Path, table: Telemetry, exposure: ExposureReads, all_used: bool) -> list[str]:
    """What to say of a table whose times are all before or all after the exposure: it was hardly meant."""
    if not table.times_s.size:
        return [f"{path.name} has no value: nothing was left out."]
    first, last = float(table.times_s[0]), float(table.times_s[-1])
    ends = [float(ramp.times_s[-1] + ramp.reset_s) for ramp in exposure.ramps if ramp.times_s.size]
    start, stop = 0.0, max(ends, default=0.0)
    if first <= stop and last >= start:
        return []
    what = "nothing is known of it" if first > stop else f"the last value, {table.values[-1]:g}, is taken for all of it"
    outcome = "nothing" if all_used else "all of it"
    return [
        f"{path.name} covers {_span(first, last, exposure.reset)}, the exposure {_span(start, stop, exposure.reset)}: "
        f"{what}, and {outcome} was left out."
    ]


def _span(start_s: float, stop_s: float, reset: datetime | None) -> str:
    """Two times for people: dates if the reset is known and the calendar has them, else seconds since the reset."""
    with contextlib.suppress(OverflowError):
        if reset is not None:
            dates = (reset + timedelta(seconds=seconds) for seconds in (start_s, stop_s))
            return " to ".join(f"{date:%Y-%m-%dT%H:%M:%S}" for date in dates)
    return f"{start_s:g} to {stop_s:g} s after the reset"
