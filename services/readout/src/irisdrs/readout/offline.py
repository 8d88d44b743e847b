"""Sample an exposure anew when all its reads are at hand: every mode, estimator, jump test and rejection.

Everything but SINGLE and the optimum of four sums is the exact fit of `fitting`, with all reads of a ramp in memory;
those two are folded, read by read. The command `iris readout fit` and the stpipe steps both call `sample`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.coadding import RampWeights, coadd, frame_of
from irisdrs.readout.estimation import EXACT_READS
from irisdrs.readout.exposure_reads import ExposureReads, RampReads
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest, RampFit
from irisdrs.readout.ramp_reference import RampReference
from irisdrs.readout.sampling.options import FoldOptions, ReferenceAlgorithm, Weighting
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.quality import Quality

#: Ramps whose fits can be added.
MAX_RAMPS = 255

#: Default limits of the jump tests, standard deviations: Brandt 2024 (PASP 136, 045005), and the JWST step `jump`.
JUMP_SIGMA = {JumpTest.LIKELIHOOD: 4.5, JumpTest.TWO_POINT: 4.0}

#: Largest limit of a jump test, standard deviations: no ray exceeds it, and 32-bit floats hold its square.
MAX_JUMP_SIGMA = 1e6

#: Ways to add ramps of which each must have been fitted.
_OF_FITS = (RampWeights.VARIANCE, RampWeights.SUM)

#: What to do when too few reads are left for a slope.
_MORE_READS = "A slope needs two reads of a ramp: give or keep more of them, or take --mode SINGLE."


class UtrEstimator(StrEnum):
    """How the reads of a ramp become a rate in mode UTR: by an exact fit (an `Estimator` of that name), or folded."""

    LIKELIHOOD = "likelihood"
    LEAST_SQUARES = "least-squares"
    FIXSEN = "fixsen"
    OPTIMAL = "optimal"


@dataclass(frozen=True, slots=True)
class Choices:
    """How to sample an exposure; what is None is chosen by `settle`.

    Attributes
    ----------
    mode : SamplingMode
    estimator : UtrEstimator, optional
        For UTR.
    group_reads : int, optional
        For MCDS: reads of each of the two groups.
    jumps : JumpTest, optional
    jump_sigma : float, optional
        Limit of the jump test, standard deviations.
    weights : RampWeights, optional
        How ramps are added.
    grow_saturation : bool
        Whether the eight neighbours of a saturated pixel are saturated too.
    reference_algorithm : ReferenceAlgorithm
    """

    mode: SamplingMode
    estimator: UtrEstimator | None = None
    group_reads: int | None = None
    jumps: JumpTest | None = None
    jump_sigma: float | None = None
    weights: RampWeights | None = None
    grow_saturation: bool = False
    reference_algorithm: ReferenceAlgorithm = ReferenceAlgorithm.MEAN

    @property
    def streamed(self) -> bool:
        """Whether reads are folded one by one."""
        return self.mode is SamplingMode.SINGLE or self.estimator is UtrEstimator.OPTIMAL

    @property
    def name(self) -> str:
        """The estimator's name, for headers and people."""
        return str(self.estimator or self.mode.lower())


def default_estimator(reads: int) -> UtrEstimator:
    """Estimator of UTR for a ramp of so many reads: as many as memory holds are fitted, longer ramps are folded."""
    return UtrEstimator.LIKELIHOOD if reads <= EXACT_READS else UtrEstimator.OPTIMAL


def settle(choices: Choices, exposure: ExposureReads) -> Choices:
    """Choose what is left open; what only the exact fit can do makes it the default for ramps of any length.

    Raises
    ------
    Fatal
        If choices do not go together.
    """
    utr = choices.mode is SamplingMode.UTR
    reads = max(len(ramp.times_s) for ramp in exposure.ramps)
    exact = exposure.rejected_intervals > 0 or choices.jumps not in (None, JumpTest.NONE) or choices.weights in _OF_FITS
    default = UtrEstimator.LIKELIHOOD if exact else default_estimator(reads)
    estimator = choices.estimator or (default if utr else None)
    own = exposure.group_reads if choices.mode is SamplingMode.MCDS else None
    chosen = replace(choices, estimator=estimator, group_reads=choices.group_reads or own)
    jumps = choices.jumps or (JumpTest.LIKELIHOOD if estimator is UtrEstimator.LIKELIHOOD else JumpTest.NONE)
    _check(replace(chosen, jumps=jumps), reads)
    return replace(
        chosen,
        jumps=jumps,
        jump_sigma=choices.jump_sigma or JUMP_SIGMA.get(jumps),
        weights=choices.weights or (RampWeights.TIME if chosen.streamed else RampWeights.VARIANCE),
    )


def _check(choices: Choices, reads: int) -> None:
    """Refuse choices that do not go together, for ramps of so many reads."""
    mcds, jumps, sigma = choices.mode is SamplingMode.MCDS, choices.jumps is not JumpTest.NONE, choices.jump_sigma
    exact = "" if choices.mode is SamplingMode.SINGLE else ", or take --estimator likelihood"
    _refuse(
        choices.estimator is not None and choices.mode is not SamplingMode.UTR,
        f"{choices.estimator} is an estimator of UTR, not of {choices.mode}.",
        "Leave out --estimator, or take --mode UTR.",
    )
    _refuse(
        choices.group_reads is not None and not mcds,
        "Groups of reads are for MCDS alone.",
        "Leave out --group-reads, or take --mode MCDS.",
    )
    _refuse(
        choices.group_reads is None and mcds,
        "MCDS needs the number of reads in a group.",
        f"Give --group-reads {max(reads // 2, 1)}, or fewer.",
    )
    _refuse(
        choices.reference_algorithm is ReferenceAlgorithm.SIRS and choices.mode is SamplingMode.SINGLE,
        "Kernels of reference pixels need two reads of a ramp.",
        "Leave out --refpix and --reference-algorithm, or take --mode CDS.",
    )
    _refuse(jumps and choices.streamed, f"There is no jump test with {choices.name}.", f"Leave out --jumps{exact}.")
    _refuse(
        sigma is not None and not jumps,
        "There is a limit, but no jump test.",
        "Leave out --jump-threshold, or name a test: --jumps two-point.",
    )
    _refuse(
        sigma is not None and not 0 < sigma <= MAX_JUMP_SIGMA,
        f"{sigma} sigma is no limit of a jump test.",
        f"Give --jump-threshold between 0 and {MAX_JUMP_SIGMA:g}.",
    )
    _refuse(
        choices.weights in _OF_FITS and choices.streamed,
        f"Ramps are added by time with {choices.name}, and averaged.",
        f"Leave out --coadd{exact}.",
    )


def sample(
    processor: Processor,
    exposure: ExposureReads,
    calibration: Calibration,
    choices: Choices,
    on_read: Callable[[], object] = lambda: None,
) -> RateFrame:
    """Make the frame of an exposure.

    Parameters
    ----------
    processor : Processor
    exposure : ExposureReads
    calibration : Calibration
        Of the shape of the reads.
    choices : Choices
        From `settle`.
    on_read : callable
        Called after each read that was taken up.

    Returns
    -------
    RateFrame
        Flagged DROPOUT if reads are missing that the exposure should have; a `SummedFrame` if ramps are summed.

    Raises
    ------
    Fatal
        If too few reads are left, or more ramps than can be added.
    """
    flags = Quality.GOOD if exposure.number == exposure.expected else Quality.DROPOUT
    if choices.streamed:
        return _folded(processor, exposure, calibration, choices, flags, on_read)
    ramps = [ramp for ramp in exposure.ramps if ramp.intervals.usable.any()]
    if not ramps:
        raise Fatal(
            f"No interval between reads is left: {exposure.used} of {exposure.number} reads are used, and "
            f"{exposure.rejected_intervals} intervals are rejected.",
            remedy=_MORE_READS if exposure.rejected_intervals == 0 else "Loosen --minimum or --maximum.",
        )
    if len(ramps) > MAX_RAMPS:
        raise Fatal(f"{len(ramps)} ramps cannot be added at once.", remedy=f"Give at most {MAX_RAMPS} of them.")
    settings = fit_settings(choices)
    for ramp in ramps:
        _check_groups(ramp, choices)
    fits = [_fitted(processor, ramp, calibration, settings, on_read) for ramp in ramps]
    weights = choices.weights or RampWeights.VARIANCE
    if len(fits) == 1 and weights is not RampWeights.SUM:
        return frame_of(fits[0], calibration, flags)
    return coadd(fits, calibration, weights, flags)[0]


def fit_settings(choices: Choices) -> FitSettings:
    """Choices in the form that the exact fit takes.

    With three and two differences the two-point test has limits of one and two standard deviations more.
    """
    jumps = choices.jumps or JumpTest.NONE
    sigma = choices.jump_sigma or JUMP_SIGMA.get(jumps, 0.0)
    by_mode = {SamplingMode.CDS: Estimator.CDS, SamplingMode.MCDS: Estimator.FOWLER}
    return FitSettings(
        estimator=by_mode.get(choices.mode) or Estimator(choices.estimator or UtrEstimator.LIKELIHOOD),
        fowler_reads=choices.group_reads or 1,
        jump_test=jumps,
        jump_chi2=sigma**2,
        jump_sigma=sigma,
        jump_sigma_three=sigma + 1,
        jump_sigma_two=sigma + 2,
        grow_saturation=choices.grow_saturation,
    )


def _refuse(wrong: bool, reason: str, remedy: str) -> None:
    if wrong:
        raise Fatal(reason, remedy=remedy)


def _check_groups(ramp: RampReads, choices: Choices) -> None:
    used, group = int(ramp.use_read.sum()), choices.group_reads or 0
    if choices.mode is SamplingMode.MCDS and not 1 <= group <= used // 2:
        raise Fatal(
            f"Two groups of {group} reads do not fit into the {used} reads of a ramp.",
            remedy=f"Give --group-reads from 1 to {used // 2}." if used > 1 else _MORE_READS,
        )


def _fitted(
    processor: Processor,
    ramp: RampReads,
    calibration: Calibration,
    settings: FitSettings,
    on_read: Callable[[], object],
) -> RampFit:
    """Fit one ramp; reads that are left out are not even decoded."""
    shape, number = calibration.gain.shape, len(ramp.times_s)
    counts = ramp.reads if isinstance(ramp.reads, np.ndarray) else np.empty((number, *shape), np.uint16)
    column_offset = np.zeros((number, shape[1]), np.float32)
    row_offset = np.zeros((number, shape[0], calibration.stripes), np.float32)
    reference = RampReference(calibration)
    for k in ramp.intervals.reads:
        read = ramp.reads[k]
        vectors = reference.vectors(read)
        column_offset[k], row_offset[k] = vectors.column_offset, vectors.row_offset.reshape(shape[0], -1)
        if counts is not ramp.reads:
            counts[k] = read
        on_read()
    return processor.fit(
        counts,
        calibration,
        ramp.times_s,
        settings,
        use_read=ramp.use_read,
        use_difference=ramp.use_interval,
        column_offset=column_offset,
        row_offset=row_offset,
    )


def _folded(
    processor: Processor,
    exposure: ExposureReads,
    calibration: Calibration,
    choices: Choices,
    flags: Quality,
    on_read: Callable[[], object],
) -> RateFrame:
    """Fold reads one by one; of a ramp in mode SINGLE the last used one."""
    _refuse(
        exposure.rejected_intervals > 0,
        f"{choices.name} cannot leave out intervals between reads, only reads.",
        f"Take {'--mode UTR' if choices.mode is SamplingMode.SINGLE else '--estimator likelihood'}, or --reject-reads.",
    )
    used = [_used(ramp, choices.mode) for ramp in exposure.ramps]
    longest = max(exposure.ramps, key=lambda ramp: len(ramp.times_s)).times_s
    least = 1 if choices.mode is SamplingMode.SINGLE else 2
    if max(map(len, used)) < least:
        raise Fatal(
            f"Too few reads are left: {exposure.used} of {exposure.number}.",
            remedy=_MORE_READS,
        )
    weighting = Weighting.OPTIMAL if choices.estimator is UtrEstimator.OPTIMAL else Weighting.LEAST_SQUARES
    options = FoldOptions(weighting, tuple(map(float, longest)), grow_saturation=choices.grow_saturation)
    full_time_s = float(longest[-1] - longest[0]) or 1.0
    state = processor.open(calibration, choices.mode, full_time_s, options)
    for ramp, chosen in zip(exposure.ramps, used, strict=True):
        processor.end_ramp(state)
        for k in chosen:
            processor.fold(state, np.require(ramp.reads[k], np.uint16, ["C", "W"]), float(ramp.times_s[k]))
            on_read()
    return processor.close(state, flags)


def _used(ramp: RampReads, mode: SamplingMode) -> Sequence[int]:
    found: NDArray[np.int64] = np.flatnonzero(ramp.use_read)
    return [int(k) for k in (found[-1:] if mode is SamplingMode.SINGLE else found)]
