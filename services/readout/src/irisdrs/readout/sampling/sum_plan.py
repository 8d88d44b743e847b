"""Weighted sums that are kept of a ramp: their weights, planned before it begins, and how they become a rate.

These arrays are of reads and sums, not of pixels: they are apart from the planes of a ramp, whatever their shape.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling import combination, fixsen, optimal
from irisdrs.readout.sampling.options import Weighting

#: Planned reads up to which tables are found before the ramp: 12 MB. Far more may be announced than ever come.
_PREPARED_READS = 2000


@dataclass(frozen=True, slots=True)
class SumPlan:
    """The sums of a planned ramp.

    Attributes
    ----------
    times : float64 (reads,)
        Of all planned reads since the reset, s, increasing; at least two.
    weighting : Weighting
        FIXSEN or OPTIMAL.
    weights : float64 (sums, reads)
    whole : Combinations, optional
        Of a ramp whose reads have all come as planned. After the last one somebody waits for the frame. None of ramps
        that are too long to find it before.
    """

    times: NDArray[np.float64]
    weighting: Weighting
    weights: NDArray[np.float64]
    whole: combination.Combinations | None

    @classmethod
    def of(cls, times: NDArray[np.float64], weighting: Weighting) -> "SumPlan":
        """The plan for reads at these times."""
        weights = (optimal if weighting is Weighting.OPTIMAL else fixsen).sum_weights(times)
        short = len(times) <= _PREPARED_READS
        return cls(times, weighting, weights, _combinations(weighting, weights, times, whole=True) if short else None)

    @property
    def by_ratio(self) -> bool:
        """Whether combinations are chosen by the ratio of signal to noise."""
        return self.weighting is Weighting.FIXSEN

    def weights_at(self, time_s: float) -> NDArray[np.float32]:
        """Weights (sums,) of a read at this time."""
        return self.weights[:, self._places([time_s])[0]].astype(np.float32)

    def combinations(self, times_s: list[float]) -> combination.Combinations:
        """How the sums of reads at these times become a rate."""
        if self.whole is not None and times_s == self.times.tolist():
            return self.whole
        places = self._places(times_s)
        whole = places[[0, -1]].tolist() == [0, len(self.times) - 1]
        return _combinations(self.weighting, self.weights[:, places], np.array(times_s), whole=whole)

    def _places(self, times_s: list[float]) -> NDArray[np.int64]:
        """Of every read at these times, which planned one is nearest in time: it has its weights."""
        return np.asarray(np.abs(np.array(times_s)[:, None] - self.times).argmin(axis=1))


def _combinations(
    weighting: Weighting, weights: NDArray[np.float64], times: NDArray[np.float64], *, whole: bool
) -> combination.Combinations:
    """How sums with these weights (sums, reads) become a rate; `whole` as in `combination.for_fixsen`."""
    rounded = weights.astype(np.float32).astype(np.float64)  # as they are when reads are folded
    if weighting is Weighting.FIXSEN:
        return combination.for_fixsen(rounded, times, whole)
    return combination.for_optimum(rounded, times)
