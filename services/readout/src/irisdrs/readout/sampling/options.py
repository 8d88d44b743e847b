"""What can be chosen about a fold."""

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from irisdrs.readout.sampling.reference_correction import DEFAULT_CORRECTION, ReferenceCorrection
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode


class Weighting(StrEnum):
    """How reads count up the ramp, in a stream.

    LEAST_SQUARES needs to know nothing before the ramp begins. FIXSEN and OPTIMAL keep sums whose weights are made for
    the planned times of a ramp.
    """

    LEAST_SQUARES = "least-squares"
    FIXSEN = "fixsen"
    OPTIMAL = "optimal"


class ReferenceAlgorithm(StrEnum):
    """How reference pixels are used.

    MEAN takes off the offset of every output channel, for odd and even columns apart. SIRS takes off its correlated
    noise, too, by the kernels of a `refpix` reference.
    """

    MEAN = "mean"
    SIRS = "sirs"


@dataclass(frozen=True, slots=True)
class FoldOptions:
    """Choices of a fold; as they are, nothing beyond the mode is done.

    Attributes
    ----------
    weighting : Weighting
        For UTR.
    planned_times_s : tuple of float
        Times of all reads of a whole ramp since the reset, s: needed by MCDS, FIXSEN and OPTIMAL.
    group_reads : int
        MCDS: reads of each of the two groups.
    jump_sigma : float
        Limit of the two-point jump test, standard deviations; 0 is no test. For UTR by least squares.
    grow_saturation : bool
        Whether the eight neighbours of a saturated pixel are saturated too.
    reference : ReferenceCorrection
        What the reference pixels take off each read.
    linearity_noise : bool
        Whether the read-noise variance grows with the slope of the linearity polynomial half-way up the ramp.
    """

    weighting: Weighting = Weighting.LEAST_SQUARES
    planned_times_s: tuple[float, ...] = ()
    group_reads: int = 1
    jump_sigma: float = 0.0
    grow_saturation: bool = False
    reference: ReferenceCorrection = DEFAULT_CORRECTION
    linearity_noise: bool = False

    def check(self, mode: SamplingMode) -> None:
        """Check that the choices go together.

        Raises
        ------
        Fatal
            If they do not.
        """
        summed = mode is SamplingMode.UTR and self.weighting is not Weighting.LEAST_SQUARES
        times = self.planned_times_s
        if (summed or mode is SamplingMode.MCDS) and len(times) < 2:
            raise Fatal(
                f"{self.weighting if summed else mode} needs the planned times of at least two reads.",
                remedy="Give planned_times_s, or use least squares.",
            )
        if not all(later > earlier for earlier, later in pairwise(times)):
            raise Fatal(f"The planned times do not increase: {times}.", remedy="Give them in the order of the reads.")
        if not self.jump_sigma >= 0 or (self.jump_sigma > 0 and (summed or mode is not SamplingMode.UTR)):
            raise Fatal(
                f"There is no jump test at {self.jump_sigma} sigma for {mode} with {self.weighting} weights.",
                remedy="Use UTR with least squares, or fit the ramp when all its reads are there.",
            )
