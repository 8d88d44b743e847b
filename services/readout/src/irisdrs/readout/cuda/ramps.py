"""A ramp whose planes are on a device: how a read goes into them, and they into the sums of an exposure.

The classes are those of `accumulation`, with planes of the device instead of arrays: times, factors and tables are made
by the same code, on the host, and kernels get them as the processor's loops do.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from irisdrs.readout.accumulation import LinearRamp, Ramp, SegmentedRamp, SummedRamp, Sums
from irisdrs.readout.cuda import kernels, sum_kernels
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import DeviceArray
from irisdrs.readout.cuda.references import References
from irisdrs.readout.sampling import segments

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

P = TypeVar("P", bound="DataclassInstance")

Allocate = Callable[[tuple[int, ...], DTypeLike], Any]


class Run(Protocol):
    """How kernels are run on an exposure's pixels, one after another."""

    def __call__(self, kernel: Kernel, *arguments: Any) -> None:
        """Have a kernel run."""
        ...

    def send(self, name: str, values: NDArray[Any]) -> DeviceArray:
        """Small values for the next kernel, under a name: the first axis of what it gets may be longer."""
        ...


def planes_of(state: P, shape: tuple[int, int]) -> dict[str, Any]:
    """Planes of a dataclass by their names, of this shape or several of it; on a device or not."""
    found = {spec.name: getattr(state, spec.name) for spec in fields(state)}
    return {name: value for name, value in found.items() if tuple(getattr(value, "shape", ()))[-2:] == shape}


def with_planes(state: P, shape: tuple[int, int], allocate: Allocate, to: tuple[int, int] | None = None) -> P:
    """The same with fresh planes, of any content; of another shape `to`, if one is given."""
    fresh = {
        name: allocate((*plane.shape[:-2], *(to or shape)), plane.dtype)
        for name, plane in planes_of(state, shape).items()
    }
    return replace(state, **fresh)


def fold(
    run: Run, ramp: Ramp, read: DeviceArray, offsets: tuple[DeviceArray, DeviceArray], references: References
) -> None:
    """Fold the read whose time was appended to the ramp's; the first one begins its planes anew."""
    fresh = len(ramp.times_s) == 1
    times = np.array(ramp.times_s)
    begun = read, references.threshold, references.terms, *offsets
    if isinstance(ramp, LinearRamp):
        gain, lever = ramp.factors.fold_factors(times)
        factors = np.float32(gain), np.float32(lever), np.uint16(len(times)), np.uint16(ramp.factors.needed(times))
        planes = ramp.first, ramp.mean, ramp.comoment, ramp.number, ramp.flags
        run(kernels.fold_linear, *begun, *factors, fresh, *planes)
    elif isinstance(ramp, SegmentedRamp):
        _fold_segments(run, ramp, times, begun, references)
    elif isinstance(ramp, SummedRamp):
        weights = run.send("weights", ramp.plan.weights_at(ramp.times_s[-1]))
        run(kernels.fold_sums, *begun, weights, fresh, ramp.first, ramp.sums, ramp.number, ramp.flags)
    else:
        raise TypeError(f"no kernel folds into {type(ramp).__name__}")


def _fold_segments(
    run: Run, ramp: SegmentedRamp, times: NDArray[np.float64], begun: tuple[Any, ...], references: References
) -> None:
    interval = np.float32(times[-1] - times[-2] if len(times) > 1 else 0.0)
    run(
        kernels.fold_segments,
        *begun,
        references.gain,
        references.read_noise,
        (interval, np.float32(segments.trusted_moment(times)), np.float32(ramp.jump_sigma)),
        segments.is_even(times),
        interval / np.float32(2),
        interval * interval / np.float32(12),
        len(times) - 1,
        run.send("tables", np.ascontiguousarray(segments.factors(times).T)),
        len(times) == 1,
        ramp.first,
        ramp.last,
        ramp.mean,
        ramp.comoment,
        ramp.closed_moment,
        ramp.closed_shot,
        ramp.begin,
        ramp.flags,
    )


def add(
    run: Run, ramp: Ramp, sums: Sums, references: References, full_time_s: float, *, scaled: bool, fresh: bool
) -> None:
    """Add a ramp to the sums of its exposure; parameters as those of the kernels."""
    times = np.array(ramp.times_s)
    grown = references.terms, scaled, fresh, *sums.planes()
    if isinstance(ramp, LinearRamp):
        table = run.send("table", np.ascontiguousarray(ramp.table(full_time_s).T))
        run(sum_kernels.add_linear, ramp.slope, ramp.first, ramp.number, ramp.flags, table, *grown)
    elif isinstance(ramp, SegmentedRamp):
        planes = ramp.first, ramp.mean, ramp.comoment, ramp.closed_moment, ramp.closed_shot, ramp.begin, ramp.flags
        moments = run.send("moments", np.stack(segments.moments(times), axis=1).astype(np.float32))
        run(sum_kernels.add_segments, *planes, moments, np.float32(full_time_s), *grown)
    elif isinstance(ramp, SummedRamp):
        found = ramp.plan.combinations(ramp.times_s)
        tables = run.send("guess", found.guess), run.send("table", found.table)
        duration = run.send("times", (times - times[0]).astype(np.float32))
        folded = ramp.first, ramp.sums, ramp.number, ramp.flags
        noise = references.gain, references.read_noise
        run(
            sum_kernels.add_combination,
            *folded,
            *tables,
            duration,
            np.float32(full_time_s),
            ramp.plan.by_ratio,
            *noise,
            *grown,
        )
    else:
        raise TypeError(f"no kernel adds {type(ramp).__name__}")
