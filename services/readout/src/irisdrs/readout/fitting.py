"""Fit a ramp of which all reads are at hand, with every estimator, jump test and rejection; and add such ramps.

The service folds reads as they come (`backend`). This is the exact counterpart for the last read, when the ring of the
ramp's reads is full, and for astronomers who sample their own ramps anew.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration
from irisdrs.readout.ramp_reference import RampReference
from irisdrs.readout.sampling import linear_modes, ramp_fit
from irisdrs.readout.sampling.differences import Detector, Ramp
from irisdrs.readout.sampling.growth import grow_rows
from irisdrs.readout.sampling.intervals import intervals_of
from irisdrs.readout.sampling.jumps import JumpLimits
from irisdrs.readout.sampling.ramp_fit import Method, Planes, fit_rows
from irisdrs.readout.sampling.reference_correction import DEFAULT_CORRECTION, ReferenceCorrection


class Estimator(StrEnum):
    """How the reads of a ramp become a rate."""

    LIKELIHOOD = "likelihood"
    LEAST_SQUARES = "least-squares"
    FIXSEN = "fixsen"
    FOWLER = "fowler"
    CDS = "cds"


class JumpTest(StrEnum):
    """How cosmic rays within a ramp are found."""

    NONE = "none"
    LIKELIHOOD = "likelihood"
    TWO_POINT = "two-point"


_MODES = {
    Estimator.LIKELIHOOD: linear_modes.LIKELIHOOD,
    Estimator.LEAST_SQUARES: linear_modes.LEAST_SQUARES,
    Estimator.FIXSEN: linear_modes.FIXSEN,
    Estimator.FOWLER: linear_modes.FOWLER,
    Estimator.CDS: linear_modes.CDS,
}
_TESTS = {
    JumpTest.NONE: ramp_fit.NO_TEST,
    JumpTest.LIKELIHOOD: ramp_fit.STEP_TEST,
    JumpTest.TWO_POINT: ramp_fit.OUTLIER_TEST,
}


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How to fit a ramp.

    Attributes
    ----------
    estimator : Estimator
    fowler_reads : int
        FOWLER: reads in each of the two groups, at most half of the used ones.
    jump_test : JumpTest
    jump_chi2 : float
        LIKELIHOOD: fall of chi^2 that makes a jump; 4.5 standard deviations (Brandt 2024, PASP 136, 045005).
    jump_sigma, jump_sigma_three, jump_sigma_two : float
        TWO_POINT: standard deviations with four or more, three and two differences (JWST step `jump`).
    jump_single_pass : int
        TWO_POINT: from so many differences on, all are tested against one median (stcal).
    slope_sigma : float
        A chi^2 as unlikely as so many standard deviations of a normal deviate makes a slope UNRELIABLE_SLOPE.
    grow_saturation : bool
        Whether the eight neighbours of a saturated pixel are saturated too; takes a copy of the reads.
    """

    estimator: Estimator = Estimator.LIKELIHOOD
    fowler_reads: int = 4
    jump_test: JumpTest = JumpTest.LIKELIHOOD
    jump_chi2: float = 20.25
    jump_sigma: float = 4.0
    jump_sigma_three: float = 5.0
    jump_sigma_two: float = 6.0
    jump_single_pass: int = 10
    slope_sigma: float = 5.0
    grow_saturation: bool = False

    def method(self, used: int) -> Method:
        """The settings in the form that the kernel takes, for so many used reads.

        Raises
        ------
        ValueError
            If two Fowler groups do not fit into the used reads.
        """
        if self.estimator is Estimator.FOWLER and not 2 <= 2 * self.fowler_reads <= max(used, 2):
            raise ValueError(f"two groups of {self.fowler_reads} reads in {used} reads")
        limits = JumpLimits(
            np.float32(self.jump_chi2),
            np.float32(self.jump_sigma),
            np.float32(self.jump_sigma_three),
            np.float32(self.jump_sigma_two),
            self.jump_single_pass,
        )
        return Method(
            _MODES[self.estimator],
            self.fowler_reads,
            _TESTS[self.jump_test],
            limits,
            chi2_limits(used, self.slope_sigma),
        )


def chi2_limits(used: int, sigma: float) -> NDArray[np.float32]:
    """Chi^2 of a fit to 0, 1, .. differences that is as unlikely as a normal deviate above `sigma`.

    Source: the cube root of chi^2 is nearly normal (Wilson & Hilferty 1931, PNAS 17, 684).
    """
    freedom = np.maximum(np.arange(max(used, 1)) - 1.0, 1.0)
    spread = 2.0 / (9.0 * freedom)
    limits = freedom * (1.0 - spread + sigma * np.sqrt(spread)) ** 3
    limits[:2] = np.inf
    return np.asarray(limits, np.float32)


Rows = Callable[[int, Callable[[int, int], object]], None]


@dataclass(frozen=True, slots=True)
class RampFit:
    """Rates of one ramp; planes are (rows, columns), 0 where there is no rate.

    Attributes
    ----------
    rate : float32
        DN/s.
    poisson : float32
        Variance by photons for each DN/s of rate, DN/s.
    var_rnoise : float32
        Variance by read noise, (DN/s)^2.
    chi2 : float32
        Of the likelihood fit, with `differences` - 1 degrees of freedom; 0 for other estimators.
    time_s : float32
        Exposure time in the used differences.
    differences : uint16
        Used differences.
    dq : uint32
        Flags of the ramp, without those of the references.
    """

    rate: NDArray[np.float32]
    poisson: NDArray[np.float32]
    var_rnoise: NDArray[np.float32]
    chi2: NDArray[np.float32]
    time_s: NDArray[np.float32]
    differences: NDArray[np.uint16]
    dq: NDArray[np.uint32]

    @property
    def var_poisson(self) -> NDArray[np.float32]:
        """Variance by photons at the pixel's own rate, (DN/s)^2; a negative rate has none."""
        return np.asarray(np.maximum(self.rate, np.float32(0)) * self.poisson)


def fit_ramp(
    share_rows: Rows,
    reads: NDArray[np.uint16],
    calibration: Calibration,
    times_s: NDArray[np.float64],
    settings: FitSettings,
    use_read: NDArray[np.bool_] | None = None,
    use_difference: NDArray[np.bool_] | None = None,
    column_offset: NDArray[np.float32] | None = None,
    row_offset: NDArray[np.float32] | None = None,
    correction: ReferenceCorrection = DEFAULT_CORRECTION,
) -> RampFit:
    """Fit the rate of every pixel to the reads of a ramp.

    Parameters
    ----------
    share_rows : callable (rows, work)
        Calls work(start, stop) for bands of rows.
    reads : uint16 (reads, rows, columns)
        Raw counts, DN; copied unless they are contiguous and writable, as the kernel is compiled for.
    calibration : Calibration
    times_s : float64 (reads,)
        Ends of the reads, s.
    settings : FitSettings
    use_read : bool (reads,), optional
        False for reads to leave out; costs no photons.
    use_difference : bool (reads - 1,), optional
        False for intervals to leave out with their photons.
    column_offset : float32 (reads, columns), optional
        What the reference pixels take off the columns of each read, DN [default: measured in the used reads].
    row_offset : float32 (reads, rows) or (reads, rows, stripes), optional
        The same for rows, or stripes of them; only beside `column_offset` [default: 0].
    correction : ReferenceCorrection
        How offsets are measured that are not given.

    Raises
    ------
    ValueError
        If times of used reads do not increase, Fowler groups do not fit, arrays are of different shapes, or reads
        do not fit into uint16.
    """
    ramp = prepared_ramp(reads, calibration, times_s, use_read, use_difference, column_offset, row_offset, correction)
    if settings.grow_saturation:
        ramp = ramp._replace(reads=_grown(share_rows, ramp.reads, ramp.used, calibration.threshold))
    rows, columns = calibration.gain.shape
    detector = Detector(
        calibration.threshold, tuple(calibration.terms), calibration.gain, calibration.read_noise, calibration.dq
    )
    method = settings.method(len(ramp.used))
    rate, poisson, rnoise, chi2, time = (np.zeros((rows, columns), np.float32) for _ in range(5))
    differences, dq = np.zeros((rows, columns), np.uint16), np.zeros((rows, columns), np.uint32)
    planes = Planes(rate, poisson, rnoise, chi2, time, differences, dq)
    share_rows(rows, lambda start, stop: fit_rows(ramp, detector, method, planes, start, stop))
    return RampFit(rate, poisson, rnoise, chi2, time, differences, dq)


def prepared_ramp(
    reads: NDArray[np.uint16],
    calibration: Calibration,
    times_s: NDArray[np.float64],
    use_read: NDArray[np.bool_] | None = None,
    use_difference: NDArray[np.bool_] | None = None,
    column_offset: NDArray[np.float32] | None = None,
    row_offset: NDArray[np.float32] | None = None,
    correction: ReferenceCorrection = DEFAULT_CORRECTION,
) -> Ramp:
    """What kernels need of the reads of a ramp; parameters and errors as those of `fit_ramp`."""
    number, rows, columns = reads.shape
    if len(times_s) != number or calibration.gain.shape != (rows, columns):
        raise ValueError(f"reads {reads.shape}, {len(times_s)} times, references {calibration.gain.shape}")
    if not np.can_cast(reads.dtype, np.uint16, "safe"):
        raise ValueError(f"reads are {reads.dtype}, not uint16")
    intervals = intervals_of(times_s, use_read, use_difference)
    if column_offset is None:
        column_offset = np.zeros((number, columns), np.float32)
        row_offset = np.zeros((number, rows, calibration.stripes), np.float32)
        reference = RampReference(calibration, correction)
        for k in intervals.reads:
            vectors = reference.vectors(reads[k])
            column_offset[k], row_offset[k] = vectors.column_offset, vectors.row_offset.reshape(rows, -1)
    row_offset = np.zeros((number, rows), np.float32) if row_offset is None else row_offset
    row_offset = row_offset if row_offset.ndim == 3 else row_offset[..., None]
    wanted = (number, columns), (number, rows)
    if (column_offset.shape, row_offset.shape[:2]) != wanted or columns % row_offset.shape[2]:
        raise ValueError(f"reads {reads.shape}, offsets {column_offset.shape} and {row_offset.shape}")
    reads = np.require(reads, np.uint16, ["C", "W"])
    used_offset = column_offset[intervals.reads]
    return Ramp(
        reads,
        np.require(column_offset, np.float32, ["C", "W"]),
        np.diff(used_offset, axis=0, prepend=used_offset[:1]).astype(np.float32),
        np.require(row_offset, np.float32, ["C", "W"]),
        intervals.reads,
        intervals.length_s,
        intervals.usable,
    )


def _grown(
    share_rows: Rows, reads: NDArray[np.uint16], used: NDArray[np.int64], threshold: NDArray[np.uint16]
) -> NDArray[np.uint16]:
    """A copy of the used reads in which the neighbours of saturated pixels are saturated; others are left empty."""
    grown = np.empty_like(reads)
    for k in used:
        share_rows(threshold.shape[0], partial(grow_rows, reads[k], threshold, grown[k]))
    return grown
