"""Kernels that predict the correlated noise of every output channel from the reference pixels left and right of it.

The noise that the electronics add, 1/f and stronger, is shared by the channels, each with a strength and a delay of its
own. The filter with the least mean square error takes it off: with L and R the signals of the side columns,

    correction_c = irfft(gamma_c rfft(L) + zeta_c rfft(R)),

gamma and zeta trained on darks (`kernel_training`). Sources: SIRS (nasa/SIRS; JWST step `refpix`, algorithm `sirs`),
with one correction for each row of a channel, and IRRC (romancal), with one for every tick of the clock.

Both are this module. Side columns are read once in a row, so a filter over all ticks (its series padded with the
overhead of each row, the side columns zero-filled in between) is, for the pixels at one tick of their rows, a filter
over rows: `samples` of them divide the row of a channel, 1 is SIRS, as many as the channel has columns IRRC. Overheads
and the direction in which a channel is read are in the kernels themselves, which are those of columns, not of times.

Filters are kept as `taps` over a few rows on either side: small, the same for frames of any height, and smooth in
frequency. `xp` is NumPy, or another library of the Python array API standard (2024.12), on whose arrays to work.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows that a kernel reaches to either side: the residual of 1/f noise of 4 DN at 10 DN of read noise falls by 0.4 %
#: from 32 to 64, and no further.
HALF_WIDTH = 64

#: A reference pixel is left out beyond so many standard deviations from the median of its row: rays, and pixels that
#: jump. What all pixels of the row do is a signal, however strong.
OUTLIER_SIGMA = 5.0

#: Fewest pixels of a row on one side of which one can be told to be wrong.
_FEWEST_JUDGES = 3

#: Standard deviations of a normal deviate for each median of its absolute value.
SIGMA_PER_MEDIAN = 1.4826

#: Least clipping limit, DN: counts of noiseless detectors are whole numbers.
LEAST_LIMIT_DN = 1.0


@dataclass(frozen=True, slots=True)
class ReferenceKernels:
    """Kernels of a detector's channels.

    Attributes
    ----------
    taps : float32 (2, stripes, 2 * half_width + 1)
        Of the signals left and right, by stripes of columns from the first column on; the last axis is that of a
        convolution, from `half_width` rows later to as many earlier.
    stripe_columns : int
        Columns of a stripe: those of a channel, or a part of them.
    """

    taps: NDArray[np.float32]
    stripe_columns: int

    @property
    def half_width(self) -> int:
        """Rows that the kernels reach to either side."""
        return int(self.taps.shape[2] // 2)

    def filter_for(self, rows: int, *, xp: Any = np) -> "KernelFilter":
        """The kernels in the form that is applied to reads of so many rows."""
        taps, reach = xp.asarray(self.taps, dtype=xp.float64), self.half_width
        between = xp.zeros((*taps.shape[:2], rows - 1))
        turned = xp.concat([taps[..., reach:], between, taps[..., :reach]], axis=-1)
        return KernelFilter(xp.fft.rfft(turned, axis=-1), rows, reach)


@dataclass(frozen=True, slots=True)
class KernelFilter:
    """Kernels for reads of one height.

    Attributes
    ----------
    response : complex128 (2, stripes, frequencies)
        gamma and zeta of every stripe, for series of the rows with `reach` more on either side.
    rows, reach : int
    """

    response: NDArray[np.complex128]
    rows: int
    reach: int

    def correction(self, signals: NDArray[np.float64], *, xp: Any = np) -> NDArray[np.float32]:
        """What the kernels take off the rows of every stripe.

        Parameters
        ----------
        signals : float64 (2, rows)
            From `side_signals`, DN. Beyond the first and last row they are continued as they end.
        xp : module

        Returns
        -------
        float32 (rows, stripes)
            DN.
        """
        before, after = (xp.broadcast_to(end, (2, self.reach)) for end in (signals[:, :1], signals[:, -1:]))
        longer = xp.concat([before, signals, after], axis=1)
        of_sides = xp.fft.rfft(longer, axis=-1)
        both = self.response[0, ...] * of_sides[0, :] + self.response[1, ...] * of_sides[1, :]
        series = xp.fft.irfft(both, n=longer.shape[1], axis=-1)[:, self.reach : self.reach + self.rows]
        return xp.astype(series.T, xp.float32)  # type: ignore[no-any-return]


def side_signals(sides: NDArray[np.float32], *, xp: Any = np) -> NDArray[np.float64]:
    """The signals of the side columns: means of the usable pixels of each row that agree with it.

    Rows without one are interpolated between those next to them; a side without any takes the signal of the other.

    Parameters
    ----------
    sides : float32 (2, rows, border)
        From `side_columns.side_counts`, less those of the first read of the ramp, so that the pattern of the reference
        pixels stays out, DN; NaN where a pixel may not be used.
    xp : module

    Returns
    -------
    float64 (2, rows)
        DN; 0 if no pixel of either side may be used.
    """
    left, right = (_signal_of(sides[side, ...], xp) for side in (0, 1))
    found = [one for one in (left, right) if one is not None]
    if not found:
        return xp.zeros((2, sides.shape[1]))  # type: ignore[no-any-return]
    return xp.stack([found[0], found[-1]])  # type: ignore[no-any-return]


def _signal_of(side: NDArray[np.float32], xp: Any) -> NDArray[np.float64] | None:
    good = _agreeing(side, xp)
    number = xp.count_nonzero(good, axis=1)
    (known,) = xp.nonzero(number)
    if known.shape[0] == 0:
        return None
    total = xp.sum(xp.where(good, side, 0.0), axis=1, dtype=xp.float64)
    mean: NDArray[np.float64] = total / xp.astype(xp.maximum(number, 1), xp.float64)
    return mean if known.shape[0] == side.shape[0] else _bridged(mean, known, xp)


def _agreeing(side: NDArray[np.float32], xp: Any) -> NDArray[np.bool_]:
    """Usable pixels (rows, border) that are within the noise of the median of their row."""
    good = xp.isfinite(side)
    number = xp.count_nonzero(good, axis=1, keepdims=True)
    ordered = xp.sort(xp.where(good, side, xp.inf), axis=1)
    lower = xp.take_along_axis(ordered, xp.maximum(number - 1, 0) // 2, axis=1)
    upper = xp.take_along_axis(ordered, xp.minimum(number // 2, side.shape[1] - 1), axis=1)
    centre = xp.where(number > 0, (lower + upper) / 2, 0.0)
    judged = good & (number >= _FEWEST_JUDGES)
    distance = xp.where(judged, xp.abs(side - centre), xp.inf)
    some = int(xp.count_nonzero(judged))
    typical = xp.sort(xp.reshape(distance, (-1,)))[some // 2] if some else 0.0
    limit = max(OUTLIER_SIGMA * SIGMA_PER_MEDIAN * float(typical), LEAST_LIMIT_DN)
    return good & ~(judged & (distance > limit))  # type: ignore[no-any-return]


def _bridged(values: NDArray[np.float64], known: NDArray[np.int64], xp: Any) -> NDArray[np.float64]:
    """The values, with straight lines between those that are known; before the first and after the last as these."""
    row = xp.arange(values.shape[0])
    after = xp.searchsorted(known, row, side="right")
    first = xp.take(known, xp.maximum(after - 1, 0))
    last = xp.take(known, xp.minimum(after, known.shape[0] - 1))
    start = xp.take(values, first)
    slope = (xp.take(values, last) - start) / xp.astype(xp.maximum(last - first, 1), xp.float64)
    return start + slope * xp.astype(row - first, xp.float64)  # type: ignore[no-any-return]
