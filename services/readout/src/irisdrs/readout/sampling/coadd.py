"""The ramps of an exposure added up, weighted by the time that each pixel was good in each of them."""

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.slope import Slopes


class Coadd:
    """Running sums over the ramps of an exposure.

    The weights do not depend on the data: weights from a ramp's own variance favour ramps that came out low.
    """

    def __init__(self) -> None:
        self._sums: Slopes | None = None

    def add(self, ramp: Slopes) -> None:
        """Add a ramp."""
        weight = ramp.good_time_s
        weighted = Slopes(ramp.rate * weight, ramp.var_poisson * weight**2, ramp.var_rnoise * weight**2, weight.copy())
        if self._sums is None:
            self._sums = weighted
            return
        for total, part in zip(_planes(self._sums), _planes(weighted), strict=True):
            total += part

    def result(self) -> Slopes:
        """Mean rate, its variances and the total good time.

        Raises
        ------
        ValueError
            If no ramp was added.
        """
        if self._sums is None:
            raise ValueError("no ramp was added")
        time = self._sums.good_time_s
        inverse = np.divide(1.0, time, out=np.zeros_like(time), where=time > 0)
        return Slopes(
            self._sums.rate * inverse, self._sums.var_poisson * inverse**2, self._sums.var_rnoise * inverse**2, time
        )


def _planes(slopes: Slopes) -> tuple[NDArray[np.float32], ...]:
    return slopes.rate, slopes.var_poisson, slopes.var_rnoise, slopes.good_time_s
