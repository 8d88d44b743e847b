"""Which reads of a ramp are used, and which differences between them: the same for all pixels.

A read that is left out merges the two differences around it and costs no photons. A difference that is left out
costs the photons of its interval: that is the way to reject an interval, say of poor seeing.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Intervals:
    """The used reads of a ramp, and the differences that end at them; arrays are (used,).

    Attributes
    ----------
    reads : int64
        Positions of the used reads in the ramp.
    length_s : float32
        Time since the used read before, s; 0 for the first.
    usable : bool
        Whether the difference that ends at the read is used; False for the first, where none ends.
    """

    reads: NDArray[np.int64]
    length_s: NDArray[np.float32]
    usable: NDArray[np.bool_]


def intervals_of(
    times_s: NDArray[np.float64],
    use_read: NDArray[np.bool_] | None = None,
    use_difference: NDArray[np.bool_] | None = None,
) -> Intervals:
    """Differences between the used reads of a ramp.

    Parameters
    ----------
    times_s : float64 (reads,)
        Ends of the reads, s; increasing from one used read to the next.
    use_read : bool (reads,), optional
        False for reads to leave out.
    use_difference : bool (reads - 1,), optional
        False for intervals to leave out; a merged difference is left out when any of its intervals is.

    Raises
    ------
    ValueError
        If times of used reads are not finite or do not increase, or arrays do not fit.
    """
    times = np.asarray(times_s, np.float64)
    use_read = np.ones(len(times), np.bool_) if use_read is None else use_read
    use_difference = np.ones(max(len(times) - 1, 0), np.bool_) if use_difference is None else use_difference
    if use_read.shape != times.shape or use_difference.shape != (max(len(times) - 1, 0),):
        raise ValueError(f"{len(times)} reads with {len(use_read)} and {len(use_difference)} flags")
    reads = np.flatnonzero(use_read)
    used = times[reads]
    if not (np.isfinite(used).all() and (np.diff(used) > 0).all()):
        raise ValueError(f"times of reads must increase: {used.tolist()} s")
    length_s = np.zeros(len(reads), np.float32)
    length_s[1:] = np.diff(used)
    usable = np.zeros(len(reads), np.bool_)
    usable[1:] = [use_difference[start:stop].all() for start, stop in pairwise(reads)]
    return Intervals(reads, length_s, usable)
