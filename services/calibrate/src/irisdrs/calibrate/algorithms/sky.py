"""Background: one level for the whole frame, and its subtraction."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irisdrs.calibrate.algorithms.arrays import Flags, Image
from irisdrs.shared.quality import Quality

#: Standard deviation of a normal distribution in units of its median absolute deviation, 1 / Phi^-1(3/4).
SIGMA_PER_MAD = 1.482602218505602

#: Pixels whose distribution decides where to clip. 2**18 of them know the median to 0.0025 sigma, far inside the
#: clipping distance, and cost a hundredth of a full frame.
SAMPLE_PIXELS = 2**18

#: Distance from the median, in sigma, beyond which a pixel belongs to a source.
CLIP_SIGMA = 3.0

#: Clipping converges in three or four rounds on a field with stars; the limit only guarantees an end.
MAX_ROUNDS = 10

#: Flags of pixels that say nothing about the sky.
NOT_SKY = (
    Quality.DO_NOT_USE
    | Quality.SATURATED
    | Quality.NON_SCIENCE
    | Quality.REFERENCE_PIXEL
    | Quality.DEAD
    | Quality.HOT
    | Quality.UNRELIABLE_FLAT
)


class Sky(NamedTuple):
    """The background of a frame.

    Attributes
    ----------
    level : float
        Median of the sky pixels, in the frame's unit.
    noise : float
        Robust standard deviation of a sky pixel, in the frame's unit.
    pixels : int
        Good pixels inside the clipping limits.
    """

    level: float
    noise: float
    pixels: int


def measure_sky(signal: Image, dq: Flags) -> Sky | None:
    """Median of the good science pixels that no source brightens.

    The limits are found by clipping an even subsample at `CLIP_SIGMA` robust standard deviations around its median;
    the level is the median of every good pixel inside them, so that it has the noise of the full frame
    (1.25 sigma / sqrt(pixels)).

    Parameters
    ----------
    signal : ndarray of float32, (ny, nx)
    dq : ndarray of uint32, (ny, nx)

    Returns
    -------
    Sky or None
        None when no pixel is good.

    Notes
    -----
    Bias: faint wings of sources stay inside the limits and raise the level. When they cover a fraction f of the
    pixels, it is less than 1.25 f sigma for small f (the median moves to the 50 (1 + f) th percentile of the sky's
    normal distribution): below 0.03 sigma when 2 percent of the pixels are touched. An extended source that fills the
    frame is subtracted with the sky: such observations need sky frames.
    """
    good = (dq & np.uint32(NOT_SKY)) == 0
    good &= np.isfinite(signal)
    values = signal[good]
    if values.size == 0:
        return None
    # An odd step never falls into step with the readout channels, whose width is a power of two.
    low, high, noise = _clip(values[:: (values.size // SAMPLE_PIXELS) | 1])
    values = values[(values >= low) & (values <= high)]
    return Sky(float(np.median(values, overwrite_input=True)), noise, int(values.size))


def subtract_sky(signal: Image, sky: Sky) -> Image:
    """Subtract the level. Its own variance (noise**2 / pixels) is negligible and not propagated."""
    return signal - np.float32(sky.level)


def _clip(sample: NDArray[np.float32]) -> tuple[float, float, float]:
    """Lower limit, upper limit and robust standard deviation of the sky part of a sample."""
    kept = np.sort(sample)
    low, high, noise = float(kept[0]), float(kept[-1]), 0.0
    for _ in range(MAX_ROUNDS):
        median = float(np.median(kept))
        noise = SIGMA_PER_MAD * float(np.median(np.abs(kept - np.float32(median))))
        if noise == 0.0:
            return median, median, 0.0
        low, high = median - CLIP_SIGMA * noise, median + CLIP_SIGMA * noise
        first, last = np.searchsorted(kept, (low, high), side="left")
        if first == 0 and last == kept.size:
            break
        kept = kept[first:last]
    return low, high, noise
