"""Kernels of the reference pixels from darks: least squares at every frequency, from sums over many reads.

With v the spectra of the two side signals and y that of a stripe of columns, [gamma zeta]^T = <v v^H>^-1 <v y*>, means
over the reads of darks. Only these sums are kept. What all reads of a ramp share, the pattern of the pixels and of the
reference pixels, is no noise: the means over a ramp are taken off its sums. Spectra are those of series that fade to
either end, because noise does not end where it began.

That kernels end after some rows limits how fast gamma and zeta change with frequency, and with it their noise: that of
`MIN_READS` reads of a whole detector adds less than a percent to the variance which the kernels leave.

`xp` is NumPy, or another library of the Python array API standard (2024.12), on whose arrays to work.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.reference_kernels import (
    HALF_WIDTH,
    LEAST_LIMIT_DN,
    SIGMA_PER_MEDIAN,
    ReferenceKernels,
)

#: Fewest reads of darks, without the first ones of their ramps.
MIN_READS = 10

#: A pixel of a dark is left out beyond so many standard deviations: cosmic rays, hot and unstable pixels.
CLIP_SIGMA = 5.0

#: Part of the largest power that is added at every frequency: signals without power have no kernels.
_RIDGE = 1e-9
#: And at least so much, DN^2: more than rounding errors of side columns that are stuck, less than any noise.
_LEAST_RIDGE = 1e-4


def stripe_signals(
    change: NDArray[np.float32], usable: NDArray[np.bool_], channel_columns: int, samples: int = 1, *, xp: Any = np
) -> NDArray[np.float64]:
    """Mean of the usable pixels of every row of every stripe of columns.

    Parameters
    ----------
    change : float32 (rows, columns)
        A read of a dark less the first one of its ramp and the offsets of its columns, DN.
    usable : bool (rows, columns)
        Pixels that are not known to be bad, without the side columns themselves.
    channel_columns : int
        Columns of an output channel; the read has a whole number of channels.
    samples : int
        Stripes of a channel.
    xp : module

    Returns
    -------
    float64 (stripes, rows)
        DN; 0 where there is no pixel.
    """
    rows, columns = change.shape
    by_channel = xp.reshape(change, (rows, columns // channel_columns, channel_columns))
    centre = _median_of_channels(by_channel, xp)
    distance = xp.abs(by_channel - centre)
    limit = xp.maximum(CLIP_SIGMA * SIGMA_PER_MEDIAN * _median_of_channels(distance, xp), LEAST_LIMIT_DN)
    good = usable & xp.reshape(distance <= limit, (rows, columns))
    by_stripe = (rows, columns * samples // channel_columns, channel_columns // samples)
    total = xp.sum(xp.reshape(xp.where(good, change, 0.0), by_stripe), axis=2, dtype=xp.float64)
    number = xp.count_nonzero(xp.reshape(good, by_stripe), axis=2)
    return (total / xp.astype(xp.maximum(number, 1), xp.float64)).T  # type: ignore[no-any-return]


def _median_of_channels(by_channel: NDArray[np.float32], xp: Any) -> NDArray[np.float32]:
    """Medians of (rows, channels, columns of each), as (1, channels, 1)."""
    rows, channels, columns = by_channel.shape
    ordered = xp.sort(xp.reshape(xp.permute_dims(by_channel, (1, 0, 2)), (channels, rows * columns)), axis=-1)
    middle = rows * columns // 2
    median = (ordered[:, (rows * columns - 1) // 2] + ordered[:, middle]) / 2
    return median[None, :, None]  # type: ignore[no-any-return]


@dataclass(slots=True)
class CrossSpectra:
    """Sums over the reads of darks, of so many rows and stripes.

    Attributes
    ----------
    sides : complex128 (2, 2, frequencies)
        Sum of v* v^T.
    stripes : complex128 (2, stripes, frequencies)
        Sum of v* y.
    reads : int
        Reads that count, without one for each ramp.
    """

    sides: NDArray[np.complex128]
    stripes: NDArray[np.complex128]
    rows: int
    reads: int = 0
    _of_ramp: list[NDArray[np.complex128]] = field(default_factory=list)
    _in_ramp: int = 0

    @classmethod
    def of_nothing(cls, rows: int, stripes: int, *, xp: Any = np) -> "CrossSpectra":
        """Sums over no read."""
        frequencies = rows // 2 + 1
        return cls(
            xp.zeros((2, 2, frequencies), dtype=xp.complex128),
            xp.zeros((2, stripes, frequencies), dtype=xp.complex128),
            rows,
        )

    def add(self, sides: NDArray[np.float64], stripes: NDArray[np.float64], *, xp: Any = np) -> None:
        """Add a read of the current ramp.

        Parameters
        ----------
        sides : float64 (2, rows)
            From `side_signals`, DN.
        stripes : float64 (stripes, rows)
            From `stripe_signals`, DN.
        xp : module
        """
        v, y = _spectra(sides, xp), _spectra(stripes, xp)
        self.sides = self.sides + _products(v, v, xp)
        self.stripes = self.stripes + _products(v, y, xp)
        self._of_ramp = [v, y] if not self._of_ramp else [self._of_ramp[0] + v, self._of_ramp[1] + y]
        self._in_ramp += 1

    def end_ramp(self, *, xp: Any = np) -> None:
        """Take off what all reads of the ramp share, its first one included, whose change is 0."""
        if self._in_ramp:
            v, y = self._of_ramp
            reads = self._in_ramp + 1
            self.sides = self.sides - _products(v, v, xp) / reads
            self.stripes = self.stripes - _products(v, y, xp) / reads
            self.reads += self._in_ramp
        self._of_ramp, self._in_ramp = [], 0

    def kernels(self, stripe_columns: int, half_width: int = HALF_WIDTH, *, xp: Any = np) -> ReferenceKernels:
        """The kernels with the least mean square error in the ramps that have ended.

        Parameters
        ----------
        stripe_columns : int
        half_width : int
            Rows that they reach to either side, where they fade to nothing.
        xp : module

        Raises
        ------
        ValueError
            If a kernel would be longer than the series.
        """
        if 2 * half_width + 1 > self.rows:
            raise ValueError(f"a kernel of {half_width} rows on either side in {self.rows} rows")
        left, right = xp.real(self.sides[0, 0, :]), xp.real(self.sides[1, 1, :])
        ridge = max(_RIDGE * float(xp.max(left + right)), _LEAST_RIDGE)
        left, right, both = left + ridge, right + ridge, self.sides[0, 1, :]
        of_left, of_right = self.stripes[0, ...], self.stripes[1, ...]
        determinant = left * right - xp.abs(both) ** 2
        gamma = (right * of_left - both * of_right) / determinant
        zeta = (left * of_right - xp.conj(both) * of_left) / determinant
        series = xp.fft.irfft(xp.stack([gamma, zeta]), n=self.rows, axis=-1)
        taps = xp.concat([series[..., self.rows - half_width :], series[..., : half_width + 1]], axis=-1)
        rows = xp.arange(-half_width, half_width + 1, dtype=xp.float64)
        fading = xp.cos(rows * (xp.pi / (2 * (half_width + 1)))) ** 2
        return ReferenceKernels(xp.astype(taps * fading, xp.float32), stripe_columns)


def _products(v: NDArray[np.complex128], y: NDArray[np.complex128], xp: Any) -> NDArray[np.complex128]:
    """v* y^T at every frequency, of spectra (n, frequencies)."""
    return xp.conj(v)[:, None, :] * y[None, ...]  # type: ignore[no-any-return]


def _spectra(series: NDArray[np.float64], xp: Any) -> NDArray[np.complex128]:
    """Of series (n, rows) without their means, which fade to either end."""
    rows = series.shape[1]
    fading = xp.sin((xp.arange(rows, dtype=xp.float64) + 0.5) * (xp.pi / rows))
    varying = series - xp.mean(series, axis=1, keepdims=True)
    return xp.fft.rfft(varying * fading, axis=-1)  # type: ignore[no-any-return]
