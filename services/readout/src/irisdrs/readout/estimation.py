"""How an exposure becomes a frame: what its sampling and the settings of the service say, and nothing else.

Memory that happens to be free, the machine or the time of day decide nothing here: the same job gives the same bytes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from irisdrs.readout.coadding import RampWeights
from irisdrs.readout.fitting import FitSettings, JumpTest
from irisdrs.readout.sampling.options import FoldOptions, Weighting
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Sampling

#: Reads of the longest ramp whose reads are kept and fitted together: for a detector of 4096 x 4096 they are 5 GB, and
#: the fit takes some 10 s on two cores. Beyond, four sums come within 1 % of the variance in the memory of a few reads.
EXACT_READS = 150


@dataclass(frozen=True, slots=True)
class Estimation:
    """How the reads of an exposure become rates.

    Attributes
    ----------
    mode : SamplingMode
    full_time_s : float
        From the first to the last read of a whole ramp.
    fold : FoldOptions
        Of the sums that are folded while reads come: the frame is made of them, or a preview only.
    fit : FitSettings, optional
        How a ramp is fitted when its reads are there; without it the frame is made of the sums.
    ramp_weights : RampWeights
        How fitted ramps are added.
    read_time_s : float
        Planned time from one read to the next.
    """

    mode: SamplingMode
    full_time_s: float
    fold: FoldOptions
    fit: FitSettings | None
    ramp_weights: RampWeights
    read_time_s: float

    @property
    def name(self) -> str:
        """Name of the estimator, as it stands in headers: LIKELIHOOD, OPTIMAL, CDS, ..."""
        if self.fit is not None:
            return self.fit.estimator.upper()
        return self.fold.weighting.upper() if self.mode is SamplingMode.UTR else self.mode.upper()

    @property
    def finds_jumps(self) -> bool:
        """Whether cosmic rays within ramps are looked for."""
        return self.fit is not None and self.fit.jump_test is not JumpTest.NONE

    @property
    def grows_saturation(self) -> bool:
        """Whether the neighbours of a saturated pixel are saturated too."""
        return self.fold.grow_saturation

    def parameters(self) -> Mapping[str, object]:
        """All of it that decides the bytes of a frame, for its job; what is off is not named, as it never was."""
        return self._of_estimator() | ({"grow_saturation": True} if self.grows_saturation else {})

    def _of_estimator(self) -> dict[str, object]:
        if self.fit is None:
            # Sums are combined, and ramps weighted, by the planned times.
            return {
                "estimator": self.name,
                "read_time_s": self.read_time_s,
                "group_reads": self.fold.group_reads,
            }
        return {
            "estimator": self.name,
            "jump_test": self.fit.jump_test,
            "jump_chi2": self.fit.jump_chi2,
            "slope_sigma": self.fit.slope_sigma,
            "ramp_weights": self.ramp_weights,
        }


def estimation_of(sampling: Sampling, exact_reads: int = EXACT_READS, *, grow_saturation: bool = False) -> Estimation:
    """How an exposure of this sampling becomes a frame.

    Ramps of UTR are fitted by the likelihood, without cosmic rays; longer ones than `exact_reads` by the streamed
    optimum. All other modes are sums in a stream.

    Parameters
    ----------
    sampling : Sampling
    exact_reads : int
        Reads of the longest ramp that is fitted when its reads are there.
    grow_saturation : bool
        Whether the eight neighbours of a saturated pixel are saturated too.
    """
    mode = sampling.mode
    exact = mode is SamplingMode.UTR and sampling.reads <= exact_reads
    summed = mode is SamplingMode.UTR and not exact
    fold = FoldOptions(
        weighting=Weighting.OPTIMAL if summed else Weighting.LEAST_SQUARES,
        planned_times_s=sampling.read_times_s,
        group_reads=sampling.group_reads,
        grow_saturation=grow_saturation,
    )
    return Estimation(
        mode=mode,
        full_time_s=max(sampling.reads - 1, 1) * sampling.read_time_s,
        fold=fold,
        fit=FitSettings(grow_saturation=grow_saturation) if exact else None,
        ramp_weights=RampWeights.VARIANCE,
        read_time_s=sampling.read_time_s,
    )
