"""Kernels of the reference pixels from darks: least squares at every frequency, from sums over many reads.

With v the spectra of the two side signals and y that of a stripe of columns, [gamma zeta]^T = <v v^H>^-1 <v y*>, means
over the reads of darks. Only these sums are kept. What all reads of a ramp share, the pattern of the pixels and of the
reference pixels, is no noise: the means over a ramp are taken off its sums. Spectra are those of series that fade to
either end, because noise does not end where it began.

That kernels end after some rows limits how fast gamma and zeta change with frequency, and with it their noise: that of
`MIN_READS` reads of a whole detector adds less than a percent to the variance which the kernels leave.

`xp` is NumPy, or another library with its functions, on whose arrays to work.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.reference_kernels import HALF_WIDTH, ReferenceKernels

#: Fewest reads of darks, without the first ones of their ramps.
MIN_READS = 10

#: A pixel of a dark is left out beyond so many standard deviations: cosmic rays, hot and unstable pixels.
CLIP_SIGMA = 5.0

#: Standard deviations of a normal deviate for each median of its absolute value.
_SIGMA_PER_MEDIAN = 1.4826

#: Least clipping limit, DN: counts of noiseless detectors are whole numbers.
_LEAST_LIMIT_DN = 1.0

#: Part of the largest power that is added at every frequency: signals without power have no kernels.
_RIDGE = 1e-9
#: And at least so much, DN^2, whose square is a number still.
_LEAST_RIDGE = 1e-100


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
    by_channel = change.reshape(rows, columns // channel_columns, channel_columns)
    centre = xp.median(by_channel, axis=(0, 2))[None, :, None]
    spread = xp.median(xp.abs(by_channel - centre), axis=(0, 2))[None, :, None]
    limit = xp.maximum(CLIP_SIGMA * _SIGMA_PER_MEDIAN * spread, np.float32(_LEAST_LIMIT_DN))
    good = usable & (xp.abs(by_channel - centre) <= limit).reshape(rows, columns)
    by_stripe = (rows, columns * samples // channel_columns, channel_columns // samples)
    total = xp.sum(xp.where(good, change, np.float32(0)).reshape(by_stripe), axis=2, dtype=np.float64)
    return xp.transpose(total / xp.maximum(xp.sum(good.reshape(by_stripe), axis=2), 1))  # type: ignore[no-any-return]


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
            xp.zeros((2, 2, frequencies), dtype=np.complex128),
            xp.zeros((2, stripes, frequencies), dtype=np.complex128),
            rows,
        )

    def add(self, sides: NDArray[np.float64], stripes: NDArray[np.float64], *, xp: Any = np) -> None:
        """Add a read of the current ramp.

        Parameters
        ----------
        sides : float64 (2, rows)
            From `side_signals`, less those of the first read of the ramp, DN.
        stripes : float64 (stripes, rows)
            From `stripe_signals`, DN.
        xp : module
        """
        v, y = _spectra(sides, xp), _spectra(stripes, xp)
        self.sides = self.sides + xp.conj(v)[:, None] * v
        self.stripes = self.stripes + xp.conj(v)[:, None] * y
        self._of_ramp = [v, y] if not self._of_ramp else [self._of_ramp[0] + v, self._of_ramp[1] + y]
        self._in_ramp += 1

    def end_ramp(self, *, xp: Any = np) -> None:
        """Take off what all reads of the ramp share, its first one included, whose change is 0."""
        if self._in_ramp:
            v, y = self._of_ramp
            reads = self._in_ramp + 1
            self.sides = self.sides - xp.conj(v)[:, None] * v / reads
            self.stripes = self.stripes - xp.conj(v)[:, None] * y / reads
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
        power = xp.real(self.sides[0, 0] + self.sides[1, 1])
        ridge = max(_RIDGE * float(xp.max(power)), _LEAST_RIDGE)
        left, right = xp.real(self.sides[0, 0]) + ridge, xp.real(self.sides[1, 1]) + ridge
        both = self.sides[0, 1]
        of_left, of_right = self.stripes
        determinant = left * right - xp.abs(both) ** 2
        gamma = (right * of_left - both * of_right) / determinant
        zeta = (left * of_right - xp.conj(both) * of_left) / determinant
        series = xp.fft.irfft(xp.stack([gamma, zeta]), n=self.rows, axis=-1)
        taps = xp.concatenate([series[..., self.rows - half_width :], series[..., : half_width + 1]], axis=-1)
        fading = xp.cos(xp.arange(-half_width, half_width + 1) * (np.pi / (2 * (half_width + 1)))) ** 2
        return ReferenceKernels((taps * fading).astype(np.float32), stripe_columns)


def _spectra(series: NDArray[np.float64], xp: Any) -> NDArray[np.complex128]:
    """Of series (n, rows) without their means, which fade to either end."""
    rows = series.shape[1]
    fading = xp.sin((xp.arange(rows) + 0.5) * (np.pi / rows))
    found: NDArray[np.complex128] = xp.fft.rfft((series - xp.mean(series, axis=1)[:, None]) * fading, axis=-1)
    return found
