"""Fold one read into a ramp's running sums, pixel by pixel.

One pass over memory does everything that belongs to a read, in this order: saturation and A/D floor on the raw count,
reference-pixel offset, linearity, accumulation. Saturation latches: a pixel uses the reads before its first saturated
one, so the times of a pixel's reads are the first n times of the ramp, and everything that depends on times is a table
by n. The sums are those of v - s_0, which keeps float32 exact enough on any pedestal.
"""

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

#: Bits of the state's flags (uint8); `sampling.frame` turns them into DQ.
SATURATED, AD_FLOOR, NO_LINEARITY, NO_SATURATION_LEVEL, NO_OFFSET = 1, 2, 4, 8, 16

#: Largest raw count of the 16-bit ADC: always saturated.
ADC_MAX = 65535


@dataclass(frozen=True, slots=True)
class DetectorConstants:
    """What folding needs to know about a detector.

    Attributes
    ----------
    saturation : (ny, nx) float32
        Raw count from which on a pixel is saturated, DN; NaN where unknown.
    coefficients : (6, ny, nx) float32
        a_i of y = sum a_i x**i, x = DN after the reference-pixel correction.
    good_reference : (2 * border, nx) bool
        Usable reference pixels: the bottom rows, then the top rows.
    border, channel_columns : int
    """

    saturation: NDArray[np.float32]
    coefficients: NDArray[np.float32]
    good_reference: NDArray[np.bool_]
    border: int
    channel_columns: int


@dataclass(frozen=True, slots=True)
class RampState:
    """Running sums of one ramp, each (ny, nx).

    Attributes
    ----------
    first : float32
        s_0, the first good read, DN.
    last : float32
        Last good read less s_0, DN.
    mean : float32
        Mean of the good reads less s_0, DN.
    comoment : float32
        Sum of (t - mean t)(s - mean s), DN s.
    count : uint16
        Good reads.
    flags : uint8
    """

    first: NDArray[np.float32]
    last: NDArray[np.float32]
    mean: NDArray[np.float32]
    comoment: NDArray[np.float32]
    count: NDArray[np.uint16]
    flags: NDArray[np.uint8]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "RampState":
        """A ramp before its first read."""
        first, last, mean, comoment = (np.zeros(shape, np.float32) for _ in range(4))
        return cls(first, last, mean, comoment, np.zeros(shape, np.uint16), np.zeros(shape, np.uint8))


@numba.njit(parallel=True, nogil=True, cache=True, fastmath=False, error_model="numpy")
def fold(
    pixels: NDArray[np.uint16],
    time_s: float,
    mean_times_s: NDArray[np.float64],
    offsets: NDArray[np.float32],
    saturation: NDArray[np.float32],
    coefficients: NDArray[np.float32],
    first: NDArray[np.float32],
    last: NDArray[np.float32],
    mean: NDArray[np.float32],
    comoment: NDArray[np.float32],
    count: NDArray[np.uint16],
    flags: NDArray[np.uint8],
) -> None:
    """Fold a read into the state, in place.

    Parameters
    ----------
    pixels : (ny, nx)
        Raw counts, DN.
    time_s : float
        Time of the read since the reset, seconds.
    mean_times_s : (n + 1,)
        Mean time of the first n folded reads, by n (entry 0 is not used).
    offsets : (nx,)
        From `reference_pixels.column_offsets`, DN.
    saturation, coefficients
        See `DetectorConstants`.
    first, last, mean, comoment, count, flags
        See `RampState`.

    Notes
    -----
    Co-moment update of Bennett et al. (2009), "Numerically stable, single-pass, parallel statistics algorithms".
    Linearity: JWST `linearity`, a polynomial of the corrected count, by Horner's scheme.
    """
    rows, columns = pixels.shape
    for y in numba.prange(rows):
        for x in range(columns):
            raw = pixels[y, x]
            flag = flags[y, x]
            level = saturation[y, x]
            if raw >= level or raw == ADC_MAX:
                flag |= SATURATED
            if raw == 0:
                flag |= AD_FLOOR
            if np.isnan(level):
                flag |= NO_SATURATION_LEVEL
            value = np.float32(raw)
            if np.isnan(offsets[x]):
                flag |= NO_OFFSET
            else:
                value -= offsets[x]
            a1 = coefficients[1, y, x]
            total = coefficients[5, y, x]
            for power in range(4, -1, -1):
                total = total * value + coefficients[power, y, x]
            if np.isnan(total) or a1 == 0.0:
                flag |= NO_LINEARITY
            else:
                value = total
            flags[y, x] = flag
            if flag & (SATURATED | AD_FLOOR):
                continue
            n = count[y, x]
            if n == 0:
                first[y, x] = value
            value -= first[y, x]
            deviation = np.float32(value - mean[y, x])
            share = np.float32(1.0) / np.float32(n + 1)
            weight = np.float32((time_s - mean_times_s[n]) * n) * share if n > 0 else np.float32(0.0)
            comoment[y, x] += weight * deviation
            mean[y, x] += deviation * share
            last[y, x] = value
            count[y, x] = n + 1
