"""Exposures of few pixels with everything in them that can be wrong with a pixel, for comparing devices bit for bit.

Imports NumPy and what is under test, and nothing else: it runs on a machine that has no more.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import Backend, ExposureState, RateFrame
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest, RampFit
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.readout.sampling.reference_kernels import ReferenceKernels
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality

P = TypeVar("P", RateFrame, RampFit)

READS = 10
RAMPS = 2
#: Neither square nor a multiple of anything.
SHAPE = (13, 18)
_BORDER = 4

EVEN = tuple((0.72 * np.arange(1, READS + 1)).tolist())
UNEVEN = tuple((0.72 * np.arange(1, READS + 1) ** 1.1).tolist())


@dataclass(frozen=True)
class Case:
    """How an exposure is folded."""

    name: str
    mode: Mode
    times_s: tuple[float, ...]
    options: FoldOptions


def cases() -> list[Case]:
    """All sampling modes and choices of a stream."""
    jumps, noise = FoldOptions(jump_sigma=5.0), FoldOptions(linearity_noise=True)
    return [
        Case("single", Mode.SINGLE, EVEN[:1], FoldOptions()),
        Case("cds", Mode.CDS, (EVEN[0], EVEN[-1]), FoldOptions()),
        Case("mcds", Mode.MCDS, EVEN, FoldOptions(planned_times_s=EVEN, group_reads=4)),
        Case("least-squares", Mode.UTR, EVEN, FoldOptions()),
        Case("least-squares-uneven", Mode.UTR, UNEVEN, noise),
        Case("saturation-grows", Mode.UTR, EVEN, FoldOptions(grow_saturation=True)),
        Case("jumps", Mode.UTR, EVEN, jumps),
        Case("jumps-uneven", Mode.UTR, UNEVEN, FoldOptions(jump_sigma=4.0, linearity_noise=True)),
        Case("fixsen", Mode.UTR, EVEN, FoldOptions(Weighting.FIXSEN, EVEN, linearity_noise=True)),
        Case("fixsen-cut-short", Mode.UTR, EVEN[:7], FoldOptions(Weighting.FIXSEN, EVEN)),
        Case("optimal", Mode.UTR, EVEN, FoldOptions(Weighting.OPTIMAL, EVEN)),
        Case("optimal-uneven", Mode.UTR, UNEVEN, FoldOptions(Weighting.OPTIMAL, UNEVEN, linearity_noise=True)),
    ]


def fits() -> dict[str, FitSettings]:
    """Ways to fit the reads of a whole ramp."""
    return {
        "likelihood": FitSettings(),
        "likelihood-all": FitSettings(jump_test=JumpTest.NONE, grow_saturation=True),
        "likelihood-two-point": FitSettings(jump_test=JumpTest.TWO_POINT),
        "least-squares": FitSettings(Estimator.LEAST_SQUARES),
        "fixsen": FitSettings(Estimator.FIXSEN, jump_test=JumpTest.TWO_POINT),
        "fowler": FitSettings(Estimator.FOWLER, fowler_reads=3),
        "cds": FitSettings(Estimator.CDS, jump_test=JumpTest.NONE),
    }


def calibration_of(shape: tuple[int, int], seed: int = 1) -> Calibration:
    """A detector whose pixels differ in everything, some of them badly."""
    rng = np.random.default_rng(seed)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = rng.normal(1, 0.01, shape)
    coefficients[2] = rng.normal(1e-7, 1e-8, shape)
    coefficients[3] = rng.normal(1e-12, 1e-13, shape)
    coefficients[5] = rng.normal(0, 1e-24, shape)
    saturation = rng.uniform(20_000, 60_000, shape).astype(np.float32)
    gain, noise = rng.uniform(1, 4, shape).astype(np.float32), rng.uniform(3, 15, shape).astype(np.float32)
    mask = np.where(rng.random(shape) < 0.05, np.uint32(Quality.HOT), np.uint32(0))
    bad = _pixels(shape, rng, _BORDER)
    coefficients[3][next(bad)] = np.nan
    coefficients[1][next(bad)] = 0
    coefficients[2][next(bad)] = 3e38  # overflows
    coefficients[1][next(bad)] = -1  # falls where it should rise
    saturation[next(bad)] = 0
    saturation[next(bad)] = np.nan
    saturation[next(bad)] = 1e9
    gain[next(bad)] = np.nan
    gain[next(bad)] = 1e-30
    noise[next(bad)] = np.nan
    noise[next(bad)] = 0
    return calibrate_for(
        mask=mask,
        coefficients=coefficients,
        coefficients_dq=np.zeros(shape, np.uint32),
        saturation=saturation,
        saturation_dq=np.zeros(shape, np.uint32),
        gain=gain,
        read_noise=noise,
        border=_BORDER,
    )


def with_kernels(calibration: Calibration, stripes: int = 3, seed: int = 2) -> Calibration:
    """The same with kernels of reference pixels for so many stripes of columns."""
    taps = np.random.default_rng(seed).normal(0, 0.1, (2, stripes, 5)).astype(np.float32)
    return calibration.with_kernels(ReferenceKernels(taps, calibration.gain.shape[1] // stripes))


def ramp_of(shape: tuple[int, int], times_s: tuple[float, ...], seed: int) -> NDArray[np.uint16]:
    """Reads (reads, rows, columns) of faint and bright pixels, some hit, some with counts that no pixel should have."""
    rng = np.random.default_rng(seed)
    rate = rng.choice([0.0, 3.0, 60.0, 900.0, 9000.0], shape)
    counts = 3000.0 + rng.normal(0, 300, shape) + rate * np.array(times_s)[:, None, None]
    counts += rng.normal(0, 9, counts.shape)
    hit = rng.integers(0, 3 * len(times_s), shape)
    after = np.arange(len(times_s))[:, None, None] >= hit
    counts += np.where(after, rng.uniform(50, 8000, shape), 0)
    ramp: NDArray[np.uint16] = np.clip(np.rint(counts), 0, 65535).astype(np.uint16)
    bad = _pixels(shape, rng)
    for k in {0, len(times_s) // 2, len(times_s) - 1}:
        ramp[k][next(bad)] = 0
        ramp[k][next(bad)] = 65535
    ramp[(slice(None), *next(bad))] = 0
    ramp[(slice(None), *next(bad))] = 65535
    ramp[(slice(None), *next(bad))] = 3000  # equal reads
    return ramp


def fold_ramps(
    backend: Backend, calibration: Calibration, case: Case, ramps: int = RAMPS, seed: int = 7
) -> ExposureState:
    """An exposure whose last ramp has not ended."""
    state = backend.open(calibration, case.mode, float(case.times_s[-1] - case.times_s[0]) or 1.0, case.options)
    for number in range(ramps):
        if number:
            backend.end_ramp(state)
        shape = (calibration.gain.shape[0], calibration.gain.shape[1])
        for read, time_s in zip(ramp_of(shape, case.times_s, seed + number), case.times_s, strict=True):
            backend.fold(state, read, time_s)
    return state


def differences(found: P, expected: P) -> list[str]:
    """In what two frames, or two fits, differ, bit for bit."""
    said = []
    for spec in fields(expected):
        one, other = np.asarray(getattr(found, spec.name)), np.asarray(getattr(expected, spec.name))
        if one.dtype != other.dtype or one.tobytes() != other.tobytes():
            where = np.argwhere(np.atleast_1d(one != other))
            said.append(f"{spec.name}: {len(where)} pixels, the first {where[:1].tolist()}")
    return said


def digest(frame: RateFrame | RampFit) -> str:
    """SHA-256 of all that is in a frame, or a fit."""
    found = hashlib.sha256()
    for spec in fields(frame):
        found.update(np.ascontiguousarray(getattr(frame, spec.name)).tobytes())
    return found.hexdigest()


def _pixels(shape: tuple[int, int], rng: np.random.Generator, border: int = 0) -> Iterator[tuple[int, int]]:
    """Pixels inside a border, none twice."""
    inside = np.zeros(shape, np.bool_)
    inside[border : shape[0] - border, border : shape[1] - border] = True
    for y, x in rng.permutation(np.argwhere(inside)):
        yield int(y), int(x)
