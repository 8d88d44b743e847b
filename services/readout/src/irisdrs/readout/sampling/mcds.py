"""Multiple correlated double sampling (Fowler & Gatley 1990, ApJ 353, L33): mean of the last m reads minus mean of the
first m, by the time between the two means.

In a stream: the running mean of the first group stops with it, and the co-moment adds up the reads of the last group
above that mean: one signed sum. A ramp that is cut within the last group keeps the reads that came; one that is cut
before has no rate.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.errors import Fatal


@dataclass(frozen=True, slots=True)
class Fowler:
    """The two groups of reads of a planned ramp.

    Attributes
    ----------
    first_until_s, last_from_s : float
        Reads before and after these times, s, belong to the first and to the last group.
    """

    first_until_s: float
    last_from_s: float

    @classmethod
    def planned(cls, times: NDArray[np.float64], reads: int) -> "Fowler":
        """Groups of so many reads each.

        Parameters
        ----------
        times : float64 (planned reads,)
            Times of all reads of a whole ramp, s, increasing.
        reads : int
            m, at least 1 and at most half of the reads.

        Raises
        ------
        Fatal
            If the ramp has not twice so many reads.
        """
        if not 1 <= reads <= len(times) // 2:
            raise Fatal(
                f"Two groups of {reads} reads do not fit into a ramp of {len(times)}.",
                remedy=f"Take groups of 1 to {len(times) // 2} reads, or ramps of at least {2 * max(reads, 1)}.",
            )
        last = len(times) - reads
        return cls(float(times[reads - 1] + times[reads]) / 2, float(times[last - 1] + times[last]) / 2)

    def weights(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Weights w_k (1/s) of f = sum w_k s_k for reads at `times`; all 0 when a group is empty."""
        first, last = times < self.first_until_s, times > self.last_from_s
        if not (first.any() and last.any()):
            return np.zeros(len(times))
        found = last / last.sum() - first / first.sum()
        return np.asarray(found / (found @ times))

    def scale(self, times: NDArray[np.float64]) -> float:
        """Factor from the sum of the last group above the mean of the first (DN) to the rate (DN/s)."""
        return float(self.weights(times)[-1])

    def fold_factors(self, times: NDArray[np.float64]) -> tuple[float, float]:
        """Gain of the running mean, and lever of the co-moment, for the latest read."""
        if times[-1] < self.first_until_s:
            return 1.0 / len(times), 0.0
        return 0.0, float(times[-1] > self.last_from_s)

    def needed(self, times: NDArray[np.float64]) -> int:
        """Number, from 1, of the read that must be good for the latest to be used; 0 if it needs no other.

        In a group it is the read before, so that a group ends where a pixel reads 0; after the first group, its last.
        """
        first = int(np.sum(times < self.first_until_s))
        begins = times[-1] <= self.last_from_s or len(times) < 2 or times[-2] <= self.last_from_s
        return min(first, len(times) - 1) if begins else len(times) - 1
