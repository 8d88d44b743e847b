"""Offsets of the output channels from the reference pixels above and below the science pixels.

Source: the top-and-bottom correction of the JWST pipeline (step `refpix`, `odd_even_columns`), with the iterated
clipping of `scipy.stats.sigmaclip` at 3 standard deviations that it uses. Differences: a channel that has reference
pixels on one edge only is corrected with those (JWST gives the whole frame up); all channels are clipped at once;
sums of counts and of their squares are integers below 2**53, so the result depends on no summation order.

`xp` is NumPy, or another library of the Python array API standard (2024.12), on whose arrays to work.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Clipping limit, standard deviations (JWST step `refpix`).
CLIP_SIGMA = 3.0
#: Columns alternate between two slightly different offsets in each output channel.
PARITIES = 2

#: Least clipping limit, DN: a spread below the rounding error of two 32-bit squares is none, and equal counts must not
#: clip each other.
_LEAST_LIMIT_DN = 1e-3


def reference_offsets(
    read: NDArray[np.uint16],
    usable: NDArray[np.bool_],
    channel_columns: int,
    first_column: int = 0,
    *,
    xp: Any = np,
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
    first_column : int
        Of the read, on the detector: where channels and odd columns begin.

    Returns
    -------
    offset : float32 (columns,)
        To be subtracted, DN; 0 where there is none.
    missing : bool (columns,)
        Columns without a usable reference pixel, which stay uncorrected.
    """
    mean, some = edge_means(read, usable, channel_columns, first_column, xp=xp)
    return mean_of_edges(mean, some, channel_columns, first_column, read.shape[1], xp=xp)


def edge_means(
    read: NDArray[np.uint16],
    usable: NDArray[np.bool_],
    channel_columns: int,
    first_column: int = 0,
    *,
    xp: Any = np,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Clipped means of the reference pixels, for every edge, channel and parity apart.

    Parameters as those of `reference_offsets`.

    Returns
    -------
    mean : float64 (2 edges, channels, parities)
        DN; 0 where there is none.
    some : bool (2 edges, channels, parities)
        Where there is one.
    """
    border, rows = usable.shape[1], read.shape[0]
    edges = xp.stack([read[:border, :], read[rows - border :, :]])
    counts = _by_output(edges, channel_columns, first_column, xp)
    return _clipped_mean(counts, _by_output(usable, channel_columns, first_column, xp), xp)


def mean_of_edges(
    mean: NDArray[np.float64],
    some: NDArray[np.bool_],
    channel_columns: int,
    first_column: int,
    columns: int,
    drift: float = 0.0,
    *,
    xp: Any = np,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Offset of every column from the means of `edge_means`; results as those of `reference_offsets`.

    Where one edge alone has a mean, half the drift leads from it to the middle.
    """
    there = xp.astype(some, xp.float64)
    edges = xp.sum(there, axis=0)
    offset = xp.sum(mean, axis=0) / xp.maximum(edges, 1.0)
    offset = offset + (there[0, ...] - there[1, ...]) * (drift / 2)
    place = xp.arange(first_column, first_column + columns)
    output = (place // channel_columns - first_column // channel_columns) * PARITIES + place % PARITIES
    of_column = xp.take(xp.reshape(offset, (-1,)), output)
    return xp.astype(of_column, xp.float32), xp.take(xp.reshape(edges == 0, (-1,)), output)


def drift_between_edges(mean: NDArray[np.float64], some: NDArray[np.bool_], *, xp: Any = np) -> float:
    """What the offsets drift from the first edge to the last, DN: the mean of all channels that have both.

    A drift for each channel would need a plane for each read, and be noisier: 1 DN of 9 DN read noise, instead of
    0.1 DN.

    Parameters
    ----------
    mean, some : (2 edges, channels, parities)
        From `edge_means`.
    """
    both = some[0, ...] & some[1, ...]
    total = xp.sum(xp.where(both, mean[1, ...] - mean[0, ...], 0.0))
    return float(total) / max(int(xp.count_nonzero(both)), 1)


def drift_of_rows(drift: float, border: int, rows: int, *, xp: Any = np) -> NDArray[np.float32]:
    """What the offsets drift while the rows are read: a straight line through the two edges, 0 half-way.

    With the mean of both edges it makes the linear interpolation R(y) = R_b + (R_t - R_b) (y - y_b) / (y_t - y_b).

    Parameters
    ----------
    drift : float
        From `drift_between_edges`, DN.
    border, rows : int
        Rows of reference pixels on each edge, and of the read.

    Returns
    -------
    float32 (rows,)
        To be subtracted from every pixel of its row, DN.
    """
    distance = max(rows - border, 1)
    line = drift * ((xp.arange(rows, dtype=xp.float64) - (rows - 1) / 2) / distance)
    return xp.astype(line, xp.float32)  # type: ignore[no-any-return]


def _by_output(rows: NDArray[Any], width: int, first_column: int, xp: Any) -> NDArray[np.float64]:
    """(2, border, columns) as (2, channels, parities, samples); channels that are cut are filled up with zeros."""
    edges, border, columns = rows.shape
    skipped = first_column % width
    channels = -(-(skipped + columns) // width)
    filled = xp.zeros((edges, border, channels * width))
    filled[:, :, skipped : skipped + columns] = xp.astype(rows, xp.float64)
    by_parity = xp.reshape(filled, (edges, border, channels, width // PARITIES, PARITIES))
    split = xp.permute_dims(by_parity, (0, 2, 4, 1, 3))
    return xp.reshape(split, (edges, channels, PARITIES, border * width // PARITIES))  # type: ignore[no-any-return]


def _clipped_mean(
    counts: NDArray[np.float64], good: NDArray[np.float64], xp: Any
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Mean over the last axis, clipped until nothing more goes; and where there was anything. `good` is 0 or 1."""
    outputs, samples = counts.shape[:-1], counts.shape[-1]
    total = math.prod(outputs)
    counts, good = xp.reshape(counts, (total, samples)), xp.reshape(good, (total, samples))
    number = xp.sum(good, axis=-1)
    some, left = number > 0, xp.arange(total)
    done, centres = [], []  # outputs, and their means
    while left.shape[0]:  # the outputs that lost something in the last round; most of them lose nothing
        divisor = xp.maximum(number, 1.0)
        chosen = counts * good
        centre = xp.sum(chosen, axis=-1) / divisor
        square = xp.sum(chosen * counts, axis=-1) / divisor
        spread = xp.sqrt(xp.maximum(square - centre * centre, 0.0))
        limit = xp.maximum(CLIP_SIGMA * spread, _LEAST_LIMIT_DN)
        good = xp.where(xp.abs(counts - centre[:, None]) <= limit[:, None], good, 0.0)
        kept = xp.sum(good, axis=-1)
        (stays,), (lost,) = xp.nonzero(kept >= number), xp.nonzero(kept < number)
        done.append(xp.take(left, stays))
        centres.append(xp.take(centre, stays))
        counts, good = xp.take(counts, lost, axis=0), xp.take(good, lost, axis=0)
        number, left = xp.take(kept, lost), xp.take(left, lost)
    mean = xp.take(xp.concat(centres), xp.argsort(xp.concat(done)))
    return xp.reshape(mean, outputs), xp.reshape(some, outputs)
