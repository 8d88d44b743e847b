"""The state of the ramp that is being folded: planes, and how a read goes into them and they into an exposure's sums.

There is one class for each per-pixel kernel of `sampling.fold`; `begin_ramp` chooses. Kernels take bands of rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling import cds, segments, single, utr
from irisdrs.readout.sampling.close import (
    FramePlanes,
    Known,
    close_combination_rows,
    close_linear_rows,
    close_segment_rows,
)
from irisdrs.readout.sampling.coadd import (
    LinearFold,
    Plane,
    SegmentFold,
    SumFold,
    SumPlanes,
    add_combination_rows,
    add_rows,
    add_segment_rows,
)
from irisdrs.readout.sampling.fold import first_rows, fold_rows, fold_segment_rows, fold_sum_rows
from irisdrs.readout.sampling.linearity import Terms
from irisdrs.readout.sampling.mcds import Fowler
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.planes import Place, planes
from irisdrs.readout.sampling.sum_plan import SumPlan
from irisdrs.readout.sampling.variance import poisson_factor, read_noise_factor
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

#: Runs work(start, stop) for all rows, in bands.
Rows = Callable[[int, Callable[[int, int], object]], None]

Offsets = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(slots=True)
class Sums:
    """Sums over the ramps of an exposure; added up as `sampling.coadd` says."""

    signal: Plane
    weight: Plane
    poisson: Plane
    rnoise: Plane
    seen: NDArray[np.uint8]

    @classmethod
    def alloc(cls, shape: tuple[int, int]) -> "Sums":
        """Sums of no ramp."""
        signal, weight, poisson, rnoise = planes(shape, 4, Place.SUMS)
        (seen,) = planes(shape, 1, Place.SUMS + 4, np.uint8)
        return cls(signal, weight, poisson, rnoise, seen)

    def planes(self) -> SumPlanes:
        """All of them, in the order that kernels take."""
        return self.signal, self.weight, self.poisson, self.rnoise, self.seen

    def rows(self, start: int, stop: int) -> "Sums":
        """Those of some rows: not a copy."""
        return Sums(*(plane[start:stop] for plane in self.planes()))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Adder:
    """Adds rows of a ramp to the sums of its exposure, or closes them at once if it is the only ramp.

    Attributes
    ----------
    adding, closing : callable
        Kernels of `sampling.coadd` and of `sampling.close`.
    ramp : LinearFold, SegmentFold or SumFold
        As both take it.
    """

    adding: Callable[..., None]
    closing: Callable[..., None]
    ramp: LinearFold | SegmentFold | SumFold

    def add(self, sums: Sums, start: int, stop: int) -> None:
        """Add the rows `start` to `stop` to sums of these rows alone."""
        self.adding(self.ramp, sums.planes(), start, stop)

    def close(self, known: Known, flags: Quality, frame: FramePlanes, start: int, stop: int) -> None:
        """Close these rows: every bit is what their sums would give. The frame may have the planes of the ramp."""
        self.closing(self.ramp, known, np.uint32(flags), frame, start, stop)


class Ramp(Protocol):
    """A ramp that is being folded: a dataclass of planes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    flags: NDArray[np.uint8]
    times_s: list[float]

    def fold(self, rows: Rows, read: NDArray[np.uint16], calibration: Calibration, offsets: Offsets) -> None:
        """Fold the read whose time was appended to `times_s`; offsets are those of columns and of rows, DN."""
        ...

    def adder(self, calibration: Calibration, full_time_s: float, terms: Terms) -> Adder:
        """What adds the ramp to the sums of its exposure; it stays as it is. `terms` are those of `LinearFold`."""
        ...


class LinearMode(Protocol):
    """A sampling mode that is one sum over the reads; times and weights are float64 (reads,)."""

    def weights(self, times: NDArray[np.float64], /) -> NDArray[np.float64]:
        """Weights of the reads, 1/s."""
        ...

    def scale(self, times: NDArray[np.float64], /) -> float:
        """Factor from what is accumulated to the rate, 1/s."""
        ...

    def fold_factors(self, times: NDArray[np.float64], /) -> tuple[float, float]:
        """Gain of the running mean, and lever of the co-moment, for the latest read."""
        ...

    def needed(self, times: NDArray[np.float64], /) -> int:
        """Number, from 1, of the read that must be good for the latest to be used; 0 if it needs no other."""
        ...


def every(state: P, shape: tuple[int, ...], step: int, *, copy: bool = False) -> P:
    """Every so many rows and columns of all planes of a dataclass that are of this shape.

    With step 1 they are the planes themselves, unless they shall be copied.
    """
    if step == 1 and not copy:
        return state
    taken = {
        spec.name: np.array(found[..., ::step, ::step], order="C")
        for spec in fields(state)
        if isinstance(found := getattr(state, spec.name), np.ndarray) and found.shape[-2:] == shape
    }
    return replace(state, **taken)


def begin_ramp(shape: tuple[int, int], mode: SamplingMode, options: FoldOptions) -> Ramp:
    """A ramp without a read, with planes of (rows, columns).

    Raises
    ------
    Fatal
        If two groups of reads do not fit into the planned ramp.
    """
    planned = np.array(options.planned_times_s)
    if mode is SamplingMode.UTR and options.jump_sigma > 0:
        return SegmentedRamp.alloc(shape, options.jump_sigma)
    if mode is SamplingMode.UTR and options.weighting is not Weighting.LEAST_SQUARES:
        return SummedRamp.alloc(shape, SumPlan.of(planned, options.weighting))
    return LinearRamp.alloc(
        shape, mode, Fowler.planned(planned, options.group_reads) if mode is SamplingMode.MCDS else utr
    )


@dataclass(slots=True)
class LinearRamp:
    """Planes of `fold_rows`: 15 bytes a pixel."""

    mode: SamplingMode
    factors: LinearMode
    first: Plane
    mean: Plane
    comoment: Plane
    number: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    times_s: list[float] = field(default_factory=list)

    @classmethod
    def alloc(cls, shape: tuple[int, int], mode: SamplingMode, factors: LinearMode) -> "LinearRamp":
        """Planes of no read; `factors` are those of MCDS and UTR."""
        chosen: LinearMode = {SamplingMode.SINGLE: single, SamplingMode.CDS: cds}.get(mode, factors)
        first, mean, comoment = planes(shape, 3, Place.RAMP)
        return cls(mode, chosen, first, mean, comoment, *_numbers_and_flags(shape, Place.RAMP + 3))

    def fold(self, rows: Rows, read: NDArray[np.uint16], calibration: Calibration, offsets: Offsets) -> None:
        """Fold a read."""
        if len(self.times_s) == 1:
            _take_first(rows, read, calibration, offsets, self.first)
        terms = tuple(calibration.terms)
        times = np.array(self.times_s)
        gain, lever = self.factors.fold_factors(times)
        rows(
            read.shape[0],
            lambda start, stop: fold_rows(
                read,
                calibration.threshold,
                terms,
                *offsets,
                np.float32(gain),
                np.float32(lever),
                np.uint16(len(times)),
                np.uint16(self.factors.needed(times)),
                self.first,
                self.mean,
                self.comoment,
                self.number,
                self.flags,
                start,
                stop,
            ),
        )

    def adder(self, calibration: Calibration, full_time_s: float, terms: Terms) -> Adder:
        """What adds the ramp to the sums of its exposure."""
        slope, table = self.slope, self.table(full_time_s)
        return Adder(add_rows, close_linear_rows, LinearFold(slope, self.first, self.number, self.flags, table, terms))

    @property
    def slope(self) -> Plane:
        """What the mode accumulates."""
        return {SamplingMode.SINGLE: self.first, SamplingMode.CDS: self.mean}.get(self.mode, self.comoment)

    def table(self, full_time_s: float) -> NDArray[np.float32]:
        """Factors by number of good reads for `LinearFold`; float64 throughout, rounded once."""
        times = np.array(self.times_s)
        table = np.zeros((5, len(times) + 1))
        if self.mode is SamplingMode.SINGLE:
            ratio, level = single.scale(times), 0.0
            table[:, 1:] = np.array([[1.0, ratio, single.poisson_factor(times), ratio**2, level]]).T
            return table.astype(np.float32)
        for n in range(2, len(times) + 1):
            used = times[:n]
            weights = self.factors.weights(used)
            if not weights.any():
                continue
            ramp_weight = (used[-1] - used[0]) / full_time_s
            table[:, n] = (
                ramp_weight,
                ramp_weight * self.factors.scale(used),
                ramp_weight**2 * poisson_factor(weights, used),
                ramp_weight**2 * read_noise_factor(weights),
                self.factors.scale(used) * (used[-1] - used[0]) / 2,
            )
        return table.astype(np.float32)


@dataclass(slots=True)
class SegmentedRamp:
    """Planes of `fold_segment_rows`: 27 bytes a pixel."""

    jump_sigma: float
    first: Plane
    last: Plane
    mean: Plane
    comoment: Plane
    closed_moment: Plane
    closed_shot: Plane
    begin: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    times_s: list[float] = field(default_factory=list)

    @classmethod
    def alloc(cls, shape: tuple[int, int], jump_sigma: float) -> "SegmentedRamp":
        """Planes of no read."""
        first, last, mean, comoment, moment, shot = planes(shape, 6, Place.RAMP)
        begin, flags = _numbers_and_flags(shape, Place.RAMP + 6)
        return cls(jump_sigma, first, last, mean, comoment, moment, shot, begin, flags)

    def fold(self, rows: Rows, read: NDArray[np.uint16], calibration: Calibration, offsets: Offsets) -> None:
        """Fold a read."""
        if len(self.times_s) == 1:
            _take_first(rows, read, calibration, offsets, self.first)
        times, terms = np.array(self.times_s), tuple(calibration.terms)
        tables, least = segments.factors(times), segments.trusted_moment(times)
        interval, even = times[-1] - times[-2] if len(times) > 1 else 0.0, segments.is_even(times)
        rows(
            read.shape[0],
            lambda start, stop: fold_segment_rows(
                read,
                calibration.threshold,
                terms,
                *offsets,
                calibration.gain,
                calibration.read_noise,
                np.float32(self.jump_sigma),
                np.float32(least),
                np.float32(interval),
                even,
                tables,
                self.first,
                self.last,
                self.mean,
                self.comoment,
                self.closed_moment,
                self.closed_shot,
                self.begin,
                self.flags,
                start,
                stop,
            ),
        )

    def adder(self, calibration: Calibration, full_time_s: float, terms: Terms) -> Adder:
        """What adds the ramp to the sums of its exposure."""
        moments = np.stack(segments.moments(np.array(self.times_s))).astype(np.float32)
        return Adder(
            add_segment_rows,
            close_segment_rows,
            SegmentFold(
                self.first,
                self.mean,
                self.comoment,
                self.closed_moment,
                self.closed_shot,
                self.begin,
                self.flags,
                moments,
                np.float32(full_time_s),
                terms,
            ),
        )


@dataclass(slots=True)
class SummedRamp:
    """Planes of `fold_sum_rows`: 7 bytes a pixel and 4 for each sum."""

    plan: SumPlan
    first: Plane
    sums: NDArray[np.float32]
    number: NDArray[np.uint16]
    flags: NDArray[np.uint8]
    times_s: list[float] = field(default_factory=list)

    @classmethod
    def alloc(cls, shape: tuple[int, int], plan: SumPlan) -> "SummedRamp":
        """Planes of no read."""
        (first,) = planes(shape, 1, Place.RAMP)
        sums = np.zeros((len(plan.weights), *shape), np.float32)  # one after another: they need no places
        return cls(plan, first, sums, *_numbers_and_flags(shape, Place.RAMP + 1))

    def fold(self, rows: Rows, read: NDArray[np.uint16], calibration: Calibration, offsets: Offsets) -> None:
        """Fold a read."""
        if len(self.times_s) == 1:
            _take_first(rows, read, calibration, offsets, self.first)
        weights, terms = self.plan.weights_at(self.times_s[-1]), tuple(calibration.terms)
        rows(
            read.shape[0],
            lambda start, stop: fold_sum_rows(
                read,
                calibration.threshold,
                terms,
                *offsets,
                weights,
                self.first,
                self.sums,
                self.number,
                self.flags,
                start,
                stop,
            ),
        )

    def adder(self, calibration: Calibration, full_time_s: float, terms: Terms) -> Adder:
        """What adds the ramp to the sums of its exposure."""
        times, found = np.array(self.times_s), self.plan.combinations(self.times_s)
        return Adder(
            add_combination_rows,
            close_combination_rows,
            SumFold(
                self.first,
                self.sums,
                self.number,
                self.flags,
                found.guess,
                found.table,
                (times - times[0]).astype(np.float32),
                np.float32(full_time_s),
                self.plan.by_ratio,
                calibration.gain,
                calibration.read_noise,
                terms,
            ),
        )


def _numbers_and_flags(shape: tuple[int, int], place: int) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    (numbers,), (flags,) = planes(shape, 1, place, np.uint16), planes(shape, 1, place + 1, np.uint8)
    return numbers, flags


def _take_first(rows: Rows, read: NDArray[np.uint16], calibration: Calibration, offsets: Offsets, first: Plane) -> None:
    terms = tuple(calibration.terms)
    rows(read.shape[0], lambda start, stop: first_rows(read, terms, *offsets, first, start, stop))
