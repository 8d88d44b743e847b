"""Offsets of the output channels, measured in the reference pixels at the top and the bottom of a read."""

import numpy as np
from numpy.typing import NDArray

#: Reference pixels whose deviation exceeds so many standard deviations are left out (JWST `refpix`: 3).
CLIP_SIGMA = 3.0
#: Rounds of clipping: more never changed a mean of 128 Gaussian samples by 0.01 standard deviations.
CLIP_ROUNDS = 3


def column_offsets(
    pixels: NDArray[np.uint16], good: NDArray[np.bool_], border: int, channel_columns: int
) -> NDArray[np.float32]:
    """Offset of each column: of its output channel, and of the odd or even columns of it.

    The mean, clipped at `CLIP_SIGMA`, of the channel's reference pixels of one parity, at the bottom and at the top
    apart; then the mean of both, or the one that exists.

    Parameters
    ----------
    pixels : (ny, nx)
        Raw counts, DN.
    good : (2 * border, nx)
        Which reference pixels may be used: the bottom rows, then the top rows.
    border : int
        Rows of reference pixels at each edge.
    channel_columns : int
        Columns of one output channel, even; divides nx.

    Returns
    -------
    (nx,) float32
        DN; NaN for columns without a usable reference pixel.

    Notes
    -----
    Definition: JWST calibration pipeline, `refpix`, NIR full frame, top and bottom by odd and even columns.
    """
    rows = np.concatenate([pixels[:border], pixels[-border:]]).astype(np.float64)
    rows[~good] = np.nan
    channels = pixels.shape[1] // channel_columns
    # axes: edge, row, channel, column pair, parity
    samples = rows.reshape(2, border, channels, channel_columns // 2, 2)
    by_edge = samples.transpose(0, 2, 4, 1, 3).reshape(2, channels, 2, -1)
    means = _clipped_mean(by_edge)
    counts = np.isfinite(means).sum(axis=0)
    total = np.nansum(means, axis=0)
    offsets = np.divide(total, counts, out=np.full(counts.shape, np.nan), where=counts > 0)
    per_column = np.broadcast_to(offsets[:, np.newaxis, :], (channels, channel_columns // 2, 2))
    return per_column.reshape(-1).astype(np.float32)


def _clipped_mean(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over the last axis without NaN and outliers; NaN where nothing is left."""
    used = np.isfinite(samples)
    values = np.where(used, samples, 0.0)
    mean = np.full(samples.shape[:-1], np.nan)
    for _ in range(CLIP_ROUNDS + 1):
        count = used.sum(axis=-1)
        sums = np.where(used, values, 0.0).sum(axis=-1)
        mean = np.divide(sums, count, out=np.full(count.shape, np.nan), where=count > 0)
        deviation = np.where(used, values - mean[..., np.newaxis], 0.0)
        variance = np.divide((deviation**2).sum(axis=-1), count, out=np.zeros(count.shape), where=count > 0)
        used &= np.abs(deviation) <= CLIP_SIGMA * np.sqrt(variance)[..., np.newaxis]
    return mean
