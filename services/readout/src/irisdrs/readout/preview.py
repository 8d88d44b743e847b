"""A small picture of an exposure while it is read out: what an observer sees before the frame is there."""

import io
import time
from collections.abc import Callable

import numpy as np
from astropy.visualization import ZScaleInterval
from numpy.typing import NDArray
from PIL import Image

from irisdrs.shared.quality import Quality

#: Longest side of a picture, pixels: what a page shows of one of four detectors.
LONGEST_SIDE = 512

#: Shortest time from one picture of a detector to the next, seconds.
INTERVAL_S = 1.0

#: Rows and columns that make one of the picture: enough for the eye, and a quarter of the work at 4096 x 4096.
_SAMPLES = 4

#: Grey of a pixel of which nothing is known.
_UNKNOWN = 0

#: Of zlib: noise does not get smaller with more.
_COMPRESSION = 1

PNG = "image/png"


class Turn:
    """Says when a detector's next picture is due.

    Parameters
    ----------
    interval_s : float
        From one picture to the next, seconds.
    clock : callable
        Gives seconds that only grow.
    """

    def __init__(self, interval_s: float = INTERVAL_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = interval_s, clock
        self._last_s: float | None = None

    def take(self) -> bool:
        """Whether a picture is due; if so, the next one is due an interval later."""
        now_s = self._clock()
        if self._last_s is not None and now_s - self._last_s < self._interval_s:
            return False
        self._last_s = now_s
        return True


def step_for(shape: tuple[int, int], longest_side: int = LONGEST_SIDE) -> int:
    """Every so many rows and columns of a frame are enough for its picture."""
    return max(max(shape) // (longest_side * _SAMPLES), 1)


def picture(rate: NDArray[np.float32], dq: NDArray[np.uint32], longest_side: int = LONGEST_SIDE) -> bytes:
    """A frame as a small grey picture, its first row at the bottom.

    Pixels are averaged in square blocks, those that must not be used left out. The range of greys is IRAF's zscale (as
    in astropy's `ZScaleInterval`).

    Parameters
    ----------
    rate : float32 (rows, columns)
        DN/s.
    dq : uint32 (rows, columns)
        Pixels with DO_NOT_USE or a rate that is not finite are left out.
    longest_side : int
        Of the picture, pixels.

    Returns
    -------
    bytes
        PNG, 8 bits.
    """
    small = _block_means(rate, dq, -(-max(rate.shape) // longest_side))
    seen = np.isfinite(small)
    grey = np.full(small.shape, _UNKNOWN, np.uint8)
    if seen.any():
        low, high = ZScaleInterval().get_limits(small[seen])
        share = (small[seen] - low) / (high - low) if high > low else np.full(seen.sum(), 0.5)
        grey[seen] = 1 + np.rint(254.0 * np.clip(share, 0.0, 1.0)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grey[::-1]).save(out, "PNG", compress_level=_COMPRESSION)
    return out.getvalue()


def _block_means(rate: NDArray[np.float32], dq: NDArray[np.uint32], side: int) -> NDArray[np.float32]:
    """Means of the usable pixels of square blocks, NaN where there is none; a rest beyond the last block is cut.

    Where the frame is narrower than a block, so is the block.
    """
    usable = ((dq & np.uint32(Quality.DO_NOT_USE)) == 0) & np.isfinite(rate)
    total = _block_sums(np.where(usable, rate, np.float32(0)), side)
    count = _block_sums(usable, side)
    return np.divide(total, count, out=np.full(total.shape, np.nan, np.float32), where=count > 0)


def _block_sums(plane: NDArray[np.float32] | NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    height, width = (min(side, length) for length in plane.shape)
    rows, columns = plane.shape[0] // height, plane.shape[1] // width
    whole = plane[: rows * height, : columns * width]
    by_row = whole.reshape(rows, height, columns * width).sum(axis=1, dtype=np.float32)
    return np.asarray(by_row.reshape(rows, columns, width).sum(axis=2))
