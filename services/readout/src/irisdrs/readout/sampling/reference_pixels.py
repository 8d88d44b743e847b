"""Offsets of the output channels from the reference pixels above and below the science pixels.

Source: the top-and-bottom correction of the JWST pipeline (step `refpix`, `odd_even_columns`), with the iterated
clipping of `scipy.stats.sigmaclip`. Sums of counts are exact integers, so the result depends on no summation order.
"""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_T = TypeVar("_T", bound=np.generic)

#: Clipping limit, standard deviations (JWST step `refpix`).
CLIP_SIGMA = 3.0
#: Columns alternate between two slightly different offsets in each output channel.
PARITIES = 2


def reference_offsets(
    read: NDArray[np.uint16], usable: NDArray[np.bool_], channel_columns: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Offset of every column: that of its output channel, for odd and even columns apart.

    Per channel, parity and edge the k-sigma-clipped mean of the usable reference pixels; the offset is the mean of
    the two edges, or the one that exists.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    usable : bool (2, border, columns)
        Which reference pixels of the first and of the last `border` rows may be used.
    channel_columns : int
        Columns of an output channel, even.

    Returns
    -------
    offset : float32 (columns,)
        To be subtracted, DN; 0 where there is none.
    missing : bool (columns,)
        Columns without a usable reference pixel, which stay uncorrected.
    """
    border, columns = usable.shape[1:]
    if border == 0:
        return np.zeros(columns, np.float32), np.ones(columns, np.bool_)
    channels = -(-columns // channel_columns)
    counts = _by_output(np.stack([read[:border], read[-border:]]), channels, channel_columns).astype(np.int64)
    good = _by_output(usable, channels, channel_columns)
    mean, some = _clipped_mean(counts, good)  # (2 edges, channels, parities)
    edges = some.sum(axis=0)
    output_offset = np.where(some, mean, 0.0).sum(axis=0) / np.maximum(edges, 1)
    return (
        _by_column(output_offset, channel_columns, columns).astype(np.float32),
        _by_column(edges == 0, channel_columns, columns),
    )


def _by_output(rows: NDArray[_T], channels: int, width: int) -> NDArray[_T]:
    """(2, border, columns) as (2, channels, parities, samples); a narrower last channel is filled up with zeros."""
    edges, border, columns = rows.shape
    filled = np.zeros((edges, border, channels * width), rows.dtype)
    filled[:, :, :columns] = rows
    split = filled.reshape(edges, border, channels, width // PARITIES, PARITIES)
    return split.transpose(0, 2, 4, 1, 3).reshape(edges, channels, PARITIES, -1)


def _by_column(values: NDArray[_T], width: int, columns: int) -> NDArray[_T]:
    """(channels, parities) as (columns,)."""
    return np.tile(values[:, None, :], (1, width // PARITIES, 1)).reshape(-1)[:columns]


def _clipped_mean(counts: NDArray[np.int64], good: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean over the last axis, clipped until nothing more goes; and where there was anything."""
    while True:
        number = good.sum(axis=-1)
        divisor = np.maximum(number, 1)
        mean = np.where(good, counts, 0).sum(axis=-1) / divisor
        square = np.where(good, counts * counts, 0).sum(axis=-1) / divisor
        # A spread below the rounding error of two 32-bit squares is none: equal counts must not clip each other.
        limit = np.maximum(CLIP_SIGMA * np.sqrt(np.maximum(square - mean * mean, 0.0)), 1e-3)
        kept = good & (np.abs(counts - mean[..., None]) <= limit[..., None])
        if np.array_equal(kept, good):
            return mean, number > 0
        good = kept
