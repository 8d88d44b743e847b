"""The signal that all pixels of a row share (1/f noise), from the reference pixels left and right of it.

Two estimates of it, each one value for a row. The *running median* is that of the JWST pipeline (step `refpix`,
`side_smoothing_length`, `side_gain`). The *Wiener filter* is the linear estimate with the least mean square error
(Wiener 1949) when the power of the signal is known, for instance from darks: better than the median, and cheaper.

The filter works on the series and its mirror image, because a row signal does not end where it began: in this space
the power of a series of n rows has n + 1 values, at k / (2 n) cycles per row, in DN^2: the mean of |X_k|^2 / (2 n),
so that white noise of variance v has the power v everywhere.

`xp` is NumPy, or another library of the Python array API standard (2024.12), on whose arrays to work.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Rows of the running median (JWST step `refpix`, `side_smoothing_length`).
MEDIAN_ROWS = 11

#: The power from darks is averaged over frequencies within this factor, by which 1/f noise changes little.
_SMOOTHING = 1.25


def side_counts(
    read: NDArray[np.uint16],
    usable: NDArray[np.bool_],
    column_offset: NDArray[np.float32],
    *,
    xp: Any = np,
) -> NDArray[np.float32]:
    """Reference pixels of the sides without the offsets of their columns.

    Parameters
    ----------
    read : uint16 (rows, columns)
        Raw counts, DN.
    usable : bool (2, rows, border)
        Which reference pixels of the first and of the last `border` columns may be used.
    column_offset : float32 (columns,)
        From `reference_offsets`.
    xp : module

    Returns
    -------
    float32 (2, rows, border)
        DN; NaN where a pixel may not be used.
    """
    border, columns = usable.shape[2], read.shape[1]
    places = (slice(0, border), slice(columns - border, columns))
    counts = xp.stack([xp.astype(read[:, place], xp.float32) - column_offset[place] for place in places])
    return xp.where(usable, counts, xp.nan)  # type: ignore[no-any-return]


def running_median(sides: NDArray[np.float32], median_rows: int = MEDIAN_ROWS, *, xp: Any = np) -> NDArray[np.float32]:
    """Mean of the running medians of both sides.

    Parameters
    ----------
    sides : float32 (2, rows, border)
        From `side_counts`. The ends are continued by reflection, without doubling the first and last row.
    median_rows : int
        Rows of the median, odd.
    xp : module

    Returns
    -------
    float32 (rows,)
        DN; that of one side where the other has no pixel, NaN where neither has.

    Raises
    ------
    ValueError
        If `median_rows` is not odd.
    """
    if median_rows % 2 == 0:
        raise ValueError(f"a running median over {median_rows} rows has no middle row")
    rows, border = sides.shape[1:]
    if border == 0:
        return xp.full(rows, xp.nan, dtype=xp.float32)  # type: ignore[no-any-return]
    turn, reach = max(2 * (rows - 1), 1), median_rows // 2
    place = xp.arange(-reach, rows + reach) % turn
    padded = xp.take(sides, xp.minimum(place, turn - place) if rows > 1 else place, axis=1)
    flat = xp.reshape(xp.where(xp.isfinite(padded), padded, xp.inf), (2, -1))  # what is missing is last
    window = median_rows * border
    inside = xp.arange(rows)[:, None] * border + xp.arange(window)[None, :]
    boxes = xp.take(flat, xp.reshape(inside, (-1,)), axis=1)
    ordered = xp.sort(xp.reshape(boxes, (2, rows, window)), axis=-1)
    number = xp.count_nonzero(xp.isfinite(ordered), axis=-1, keepdims=True)
    lower = xp.take_along_axis(ordered, xp.maximum(number - 1, 0) // 2, axis=-1)
    upper = xp.take_along_axis(ordered, xp.minimum(number // 2, ordered.shape[-1] - 1), axis=-1)
    return _mean_of(xp.where(number > 0, (lower + upper) / 2, xp.nan)[..., 0], xp)


def row_means(sides: NDArray[np.float32], *, xp: Any = np) -> NDArray[np.float32]:
    """Mean of all usable pixels of both sides (2, rows, border), for every row; NaN where there is none."""
    return _mean_of(xp.reshape(xp.permute_dims(sides, (0, 2, 1)), (-1, sides.shape[1])), xp)


def wiener(signal: NDArray[np.float32], gain: NDArray[np.float64], *, xp: Any = np) -> NDArray[np.float32]:
    """Filter a row signal with the gains of `wiener_gain`; its mean stays.

    Parameters
    ----------
    signal : float32 (rows,)
        From `row_means`. Rows without a value take that of the nearest row that has one.
    gain : float64 (rows + 1,)
    xp : module

    Returns
    -------
    float32 (rows,)
        NaN if no row has a value.
    """
    rows = signal.shape[0]
    (known,) = xp.nonzero(xp.isfinite(signal))
    if known.shape[0] == 0:
        return signal
    if known.shape[0] < rows:
        signal = xp.take(signal, _nearest(known, rows, xp))
    mirrored = xp.astype(xp.concat([signal, xp.flip(signal)]), xp.float64)
    filtered = xp.fft.irfft(xp.fft.rfft(mirrored) * gain, n=2 * rows)[:rows]
    return xp.astype(filtered, xp.float32)  # type: ignore[no-any-return]


def wiener_gain(power: NDArray[np.float64], noise_variance: float, *, xp: Any = np) -> NDArray[np.float64]:
    """Gains P / (P + v) of the Wiener filter; 1 for the mean.

    Parameters
    ----------
    power : float64 (rows + 1,)
        P of the row signal, DN^2.
    noise_variance : float
        v of the series that is filtered, DN^2: from `mean_variance`.
    xp : module

    Returns
    -------
    float64 (rows + 1,)
    """
    total = power + noise_variance
    gain: NDArray[np.float64] = xp.where(total > 0, power / xp.where(total > 0, total, 1.0), 1.0)
    gain[0] = 1.0
    return gain


def mean_variance(usable: NDArray[np.bool_], read_noise: float, *, xp: Any = np) -> float:
    """Variance of `row_means` from the noise of single reads: read_noise^2 / 8 when all 8 pixels of a row are usable.

    Parameters
    ----------
    usable : bool (2, rows, border)
    read_noise : float
        Noise of one read of a reference pixel, DN.
    xp : module

    Returns
    -------
    float
        Mean over the rows that have a pixel, DN^2.
    """
    number = xp.sum(xp.astype(usable, xp.float64), axis=(0, 2))
    rows = max(int(xp.count_nonzero(number)), 1)
    return float(read_noise**2 * xp.sum(xp.where(number > 0, 1.0 / xp.maximum(number, 1.0), 0.0)) / rows)


def row_power(signals: NDArray[np.float32], noise_variance: float, *, xp: Any = np) -> NDArray[np.float64]:
    """Power of the row signal, estimated from dark reads.

    What all reads share, the pattern of the detector, is taken off first; then the power of the noise, and what is
    left is averaged over neighbouring frequencies.

    Parameters
    ----------
    signals : float32 (reads, rows)
        From `row_means`, at least two reads, every row with a value. Reads of a dark, or of anything else.
    noise_variance : float
        From `mean_variance`, DN^2.
    xp : module

    Returns
    -------
    float64 (rows + 1,)
        DN^2.

    Raises
    ------
    ValueError
        If there is only one read.
    """
    reads, rows = signals.shape
    if reads < 2:
        raise ValueError("one read does not tell the row signal from the pattern of the detector")
    varying = xp.astype(signals - xp.mean(signals, axis=0, keepdims=True), xp.float64)
    transform = xp.fft.rfft(xp.concat([varying, xp.flip(varying, axis=1)], axis=1), axis=1)
    seen = xp.sum(xp.abs(transform) ** 2, axis=0) / (2 * rows * (reads - 1))
    # The mean carries all offsets of reads, and the mirror image has nothing at the highest frequency.
    totals = xp.concat([xp.zeros(1), xp.cumulative_sum(seen[1:rows])])
    k = xp.clip(xp.arange(rows + 1, dtype=xp.float64), 1, max(rows - 1, 1))
    first = xp.maximum(xp.astype(xp.floor(k / _SMOOTHING), xp.int64), 1)
    last = xp.minimum(xp.astype(xp.ceil(k * _SMOOTHING), xp.int64), max(rows - 1, 1))
    total = xp.take(totals, xp.minimum(last, rows - 1)) - xp.take(totals, first - 1)
    smooth = total / xp.astype(last - first + 1, xp.float64)
    return xp.maximum(smooth - noise_variance, 0.0)  # type: ignore[no-any-return]


def _mean_of(values: NDArray[np.float32], xp: Any) -> NDArray[np.float32]:
    """Mean over the first axis of what is no NaN; NaN where there is nothing."""
    good = xp.isfinite(values)
    number = xp.sum(xp.astype(good, xp.float64), axis=0)
    total = xp.sum(xp.where(good, values, 0.0), axis=0, dtype=xp.float64)
    mean = xp.where(number > 0, total / xp.maximum(number, 1.0), xp.nan)
    return xp.astype(mean, xp.float32)  # type: ignore[no-any-return]


def _nearest(known: NDArray[np.int64], rows: int, xp: Any) -> NDArray[np.int64]:
    """Of every row the nearest one of the known rows."""
    row = xp.arange(rows)
    after = xp.minimum(xp.searchsorted(known, row), known.shape[0] - 1)
    before = xp.maximum(after - 1, 0)
    left, right = xp.take(known, before), xp.take(known, after)
    return xp.where(xp.abs(row - left) <= xp.abs(right - row), left, right)  # type: ignore[no-any-return]
