"""What the end of a ramp, and of an exposure, does to one pixel: functions of scalars, as those of `pixel`.

The loops of `coadd` and `close` call them for the processor, the kernels of `cuda` for graphics processors; what they
mean is said there.
"""

import math

import numpy as np

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.fixsen import RATIOS
from irisdrs.readout.sampling.linearity import linearity_slope
from irisdrs.readout.sampling.optimal import ENTRIES, entries

_FIXSEN_RATIOS = np.array(RATIOS, np.float32)
#: r from which on each entry is the nearest of the table, in log r; the first one has what is below. They are compared
#: with: libraries do not agree on the last bit of a logarithm.
R_LIMITS = (entries()[1:] / math.sqrt(entries()[2] / entries()[1])).astype(np.float32)
_HALF_OF_ENTRIES = ENTRIES // 2

#: Bits of a float32 to one unit of its logarithm to base 2, and of 1.
_BITS_OF_OCTAVE, _BITS_OF_ONE = 2**23, 127 * 2**23
#: Entries for each bit, and bits of the r whose entry is 1; by the latter's logarithm.
_ENTRIES_OF_BIT = np.float32(1 / (_BITS_OF_OCTAVE * math.log2(entries()[2] / entries()[1])))
_FIRST_BITS = np.int32(_BITS_OF_ONE + _BITS_OF_OCTAVE * math.log2(R_LIMITS[0]))
#: Entries that rounding may be off, and more.
_MARGIN = np.float32(0.01)

#: Weight, weighted signal, Poisson and read-noise variance that a ramp adds to the sums of its exposure.
Share = tuple[np.float32, np.float32, np.float32, np.float32]

_slope = kernel(linearity_slope)


@kernel
def slope_at_level(
    level: np.float32, a1: np.float32, a2: np.float32, a3: np.float32, a4: np.float32, a5: np.float32
) -> np.float32:
    """dy/dx of the linearity polynomial where y is `level`, DN; 1 where it is not positive.

    The count x is found by two steps of Newton's method from x = y, which suffice for corrections of some percent.
    """
    x = level
    for _ in range(2):
        y = x * (a1 + x * (a2 + x * (a3 + x * (a4 + x * a5))))
        x -= (y - level) / _slope(x, a1, a2, a3, a4, a5)
    slope = _slope(x, a1, a2, a3, a4, a5)
    return slope if slope > np.float32(0) else np.float32(1)


@kernel
def noise_growth(
    first: np.float32,
    slope: np.float32,
    half: np.float32,
    a1: np.float32,
    a2: np.float32,
    a3: np.float32,
    a4: np.float32,
    a5: np.float32,
) -> np.float32:
    """By which factor the read-noise variance grows at the level `first` + `slope` * `half`, DN, half-way up a ramp."""
    steep = slope_at_level(first + slope * half, a1, a2, a3, a4, a5)
    return steep * steep


@kernel
def segment_share(
    comoment: np.float32, moment: np.float32, shot: np.float32, growth: np.float32, full_time_s: np.float32
) -> Share:
    """What a ramp of segments adds.

    Parameters
    ----------
    comoment, moment, shot : float32
        C, T and P of all segments.
    growth : float32
        Of `noise_growth`, or 1.
    full_time_s : float32
        Of a whole ramp, s.
    """
    usable = moment > np.float32(0)
    moment = moment if usable else np.float32(1)
    shot = shot if usable else np.float32(1)
    w = moment / shot * (moment / full_time_s)
    w = w if usable else np.float32(0)
    return w, w * (comoment / moment), w * w * (shot / moment / moment), w * w * (growth / moment)


@kernel
def combination_share(
    rate: np.float32,
    duration: np.float32,
    full_time_s: np.float32,
    poisson: np.float32,
    rnoise: np.float32,
    growth: np.float32,
) -> Share:
    """What a ramp of weighted sums adds: its rate, and the factors of the combination that was chosen for it."""
    w = duration / full_time_s
    return w, w * rate, w * w * poisson, w * w * rnoise * growth


@kernel
def combination_entry(
    by_ratio: bool,
    rate: np.float32,
    duration: np.float32,
    number: int,
    gain: np.float32,
    read_noise: np.float32,
) -> int:
    """Which combination suits a pixel with this rate (DN/s) over `number` reads: an entry of `coadd.SumFold`."""
    if by_ratio:
        return entry_of_ratio(rate * duration * gain, read_noise * gain)
    cadence = duration / np.float32(number - 1)
    return entry_of_r(rate * cadence, gain * read_noise * read_noise)


@kernel
def entry_of_r(photons: np.float32, noise: np.float32) -> int:
    """Nearest entry of log r, r = f dt / (g sr^2), within the table."""
    if not photons > np.float32(0):
        return 0
    r, entry, step = photons / noise, 0, _HALF_OF_ENTRIES
    while step > 0:
        entry += step if r >= R_LIMITS[entry + step - 1] else 0
        step //= 2
    return entry


@kernel
def entry_before(bits: np.int32) -> np.int32:
    """The entry of an r whose float32 has these bits, or the one before it; at most the last but one.

    Bits are a logarithm that is straight between powers of two: 0 to 0.66 of an entry too small. The entry itself is
    this one, or the next if r has reached its limit.
    """
    place = np.float32(bits - _FIRST_BITS) * _ENTRIES_OF_BIT - _MARGIN
    return np.int32(min(max(place + np.float32(1), np.float32(0)), np.float32(ENTRIES - 2)))


@kernel
def entry_of_ratio(electrons: np.float32, noise_electrons: np.float32) -> int:
    """Class of the signal-to-noise ratio S / sqrt(sr^2 + S) of a ramp, in electrons."""
    if not electrons > np.float32(0):
        return 0
    ratio = electrons / math.sqrt(noise_electrons * noise_electrons + electrons)
    entry = 0
    for i in range(len(_FIXSEN_RATIOS)):
        entry += 1 if ratio >= _FIXSEN_RATIOS[i] else 0
    return entry


@kernel
def close_pixel(
    gain: np.float32,
    read_noise: np.float32,
    signal: np.float32,
    weight: np.float32,
    poisson: np.float32,
    rnoise: np.float32,
) -> tuple[np.float32, np.float32, np.float32, np.float32, np.bool_]:
    """Rate, its error, both variances, and whether they can be used; all 0 where they cannot."""
    # Coefficients that overflow leave no number.
    usable = (weight > np.float32(0)) & math.isfinite(signal) & math.isfinite(rnoise)
    inverse = np.float32(1) / weight if usable else np.float32(0)
    rate = signal * inverse if usable else np.float32(0)
    # The Poisson variance needs a rate that is not negative; the data keep theirs.
    shot = max(rate, np.float32(0)) / gain * (poisson * inverse * inverse)
    spread = rnoise * inverse * inverse if usable else np.float32(0)
    noise = read_noise * read_noise * spread
    return rate, np.float32(math.sqrt(shot + noise)), shot, noise, usable
