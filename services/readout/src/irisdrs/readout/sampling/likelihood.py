"""The likelihood fit of a ramp: generalised least squares with the full covariance of its differences.

Source: Brandt 2024, PASP 136, 045004. The differences d_j of neighbouring reads have the mean f dt_j and a tridiagonal
covariance: the variance f dt_j / g + n_{j-1} + n_j, where n_j is the read-noise variance of read j, and the
covariance -n_j of d_j and d_{j+1}, which share that read. It is factorised as L D L^T on the way; with w_j = 1 / D_j,
0 for a difference that is left out (where the factorisation starts anew):

    carry_j    = n_{j-1} w_{j-1}
    D_j        = f dt_j / g + n_j + n_{j-1} (1 - carry_j)
    lever_j    = dt_j         + carry_j lever_{j-1}
    residual_j = d_j - f dt_j + carry_j residual_{j-1}

With the sums a, b, c of w residual^2, w residual lever, w lever^2 the rate is f + b / c, its variance 1 / c, and
chi^2 = a - b^2 / c. Residuals from a guess f of the rate instead of differences keep their precision in float32.

The backward substitution u_j = w_j (lever_j + n_j u_{j+1}) gives the weights C^-1 dt, so that
rate = sum u d / sum u dt; with residual_j - (b / c) lever_j instead of the lever it gives rho = C^-1 (d - rate dt),
and q_j = w_j (1 + n_j^2 w_j q_{j+1}) the diagonal of C^-1. A step of any height at difference j would lower chi^2 by
rho_j^2 / (q_j - u_j^2 / c) (Brandt 2024, PASP 136, 045005).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.compilation import kernel
from irisdrs.readout.sampling.differences import Tile

#: Less than any rate, DN/s.
_NOTHING = np.float32(-1e30)
#: Less than any interval, s.
_SHORT = np.float32(1e-30)


class Fit(NamedTuple):
    """A thread's scratch for the fits of a tile's columns: float32 (columns,).

    Attributes
    ----------
    rate
        Guess, then estimate, DN/s.
    inverse_gain
        DN per electron.
    a, b, c
        Sums over the differences, see above.
    poisson
        Variance by photons for each DN/s of rate, DN/s.
    rnoise
        Variance by read noise, (DN/s)^2.
    time
        Sum of the good differences' times, s.
    number
        Good differences.
    """

    rate: NDArray[np.float32]
    inverse_gain: NDArray[np.float32]
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    c: NDArray[np.float32]
    poisson: NDArray[np.float32]
    rnoise: NDArray[np.float32]
    time: NDArray[np.float32]
    number: NDArray[np.float32]


@kernel
def eliminate(
    residual: np.float32,
    interval: np.float32,
    photons: np.float32,
    noise_before: np.float32,
    noise: np.float32,
    good: np.bool_,
    residual_before: np.float32,
    lever_before: np.float32,
    weight_before: np.float32,
) -> tuple[np.float32, np.float32, np.float32]:
    """One step of the factorisation: residual, lever and weight of a difference."""
    carry = noise_before * weight_before
    pivot = photons * interval + noise + noise_before * (np.float32(1) - carry)
    weight = np.float32(1) / pivot if good else np.float32(0)
    return residual + carry * residual_before, interval + carry * lever_before, weight


@kernel
def substitute(right: np.float32, noise: np.float32, weight: np.float32, after: np.float32) -> np.float32:
    """One step of the backward substitution."""
    return weight * (right + noise * after)


@kernel
def invert_diagonal(noise: np.float32, weight: np.float32, after: np.float32) -> np.float32:
    """One step of the diagonal of the inverse covariance."""
    return weight * (np.float32(1) + noise * noise * weight * after)


@kernel
def guess_rates(tile: Tile, interval: NDArray[np.float32], fit: Fit, width: int) -> None:
    """Mean rate of the good differences but the steepest one, which may be a cosmic ray; not negative.

    Sets `rate`, `number` and `time`.
    """
    total, top, top_time = fit.a, fit.b, fit.c
    for x in range(width):
        total[x] = top_time[x] = fit.time[x] = fit.number[x] = np.float32(0)
        top[x] = _NOTHING
    for j in tile.lines:
        dt, inverse = interval[j], np.float32(1) / interval[j]
        difference = tile.difference[j]
        for x in range(width):
            is_good = difference[x] == difference[x]
            good = np.float32(is_good)
            steepness = difference[x] * inverse if is_good else _NOTHING
            # Arithmetic: a store that may or may not happen is slow.
            steeper = np.float32(steepness > top[x])
            top_time[x] += steeper * (dt - top_time[x])
            top[x] = max(top[x], steepness)
            total[x] += difference[x] if is_good else np.float32(0)
            fit.time[x] += good * dt
            fit.number[x] += good
    for x in range(width):
        several = np.float32(fit.number[x] > np.float32(1))
        time = fit.time[x] - several * top_time[x]
        step = total[x] - several * (top[x] * top_time[x])
        fit.rate[x] = max(step / max(time, _SHORT), np.float32(0))


@kernel
def factorise(tile: Tile, interval: NDArray[np.float32], fit: Fit, width: int) -> None:
    """Factorise the covariance for the guessed rates: fills the tile's last three planes and the sums a, b, c."""
    for x in range(width):
        fit.a[x] = fit.b[x] = fit.c[x] = np.float32(0)
        tile.residual[0, x] = tile.lever[0, x] = tile.weight[0, x] = np.float32(0)
    for j in tile.lines:
        dt = interval[j]
        difference = tile.difference[j]
        noise, noise_before = tile.noise[j], tile.noise[j - 1]
        residual, lever, weight = tile.residual[j], tile.lever[j], tile.weight[j]
        residual_before, lever_before, weight_before = tile.residual[j - 1], tile.lever[j - 1], tile.weight[j - 1]
        for x in range(width):
            is_good = difference[x] == difference[x]
            y, z, w = eliminate(
                difference[x] - fit.rate[x] * dt if is_good else np.float32(0),
                dt,
                fit.rate[x] * fit.inverse_gain[x],
                noise_before[x],
                noise[x],
                is_good,
                residual_before[x],
                lever_before[x],
                weight_before[x],
            )
            residual[x], lever[x], weight[x] = y, z, w
            fit.a[x] += w * y * y
            fit.b[x] += w * y * z
            fit.c[x] += w * z * z


@kernel
def improve_rates(fit: Fit, width: int) -> None:
    """The factorised fit's rate, not negative, as the next guess."""
    for x in range(width):
        if fit.c[x] > np.float32(0):
            fit.rate[x] = max(fit.rate[x] + fit.b[x] / fit.c[x], np.float32(0))


@kernel
def spread(tile: Tile, interval: NDArray[np.float32], fit: Fit, width: int, after: NDArray[np.float32]) -> None:
    """Variances of the factorised fit's rate, whose weights u are C^-1 dt: as `spread_of_weights`.

    Parameters
    ----------
    after : float32 (columns,)
        Scratch.
    """
    for x in range(width):
        fit.poisson[x] = fit.rnoise[x] = after[x] = np.float32(0)
    for j in tile.lines[::-1]:
        dt = interval[j]
        lever, noise, weight = tile.lever[j], tile.noise[j], tile.weight[j]
        for x in range(width):
            u = substitute(lever[x], noise[x], weight[x], after[x])
            step = after[x] - u
            fit.poisson[x] += dt * u * u
            fit.rnoise[x] += noise[x] * step * step
            after[x] = u
    noise = tile.noise[0]
    for x in range(width):
        fit.rnoise[x] += noise[x] * after[x] * after[x]
    _scale_variances(fit, width)


@kernel
def spread_of_weights(tile: Tile, interval: NDArray[np.float32], fit: Fit, width: int) -> None:
    """Variances of sum u d / c with the weights u in the tile's levers: exact for any weights and times.

    Sets `poisson` = sum u^2 dt / (g c^2) and `rnoise` = sum n_j (u_j - u_{j+1})^2 / c^2.
    """
    last = len(interval) - 1
    for x in range(width):
        fit.poisson[x] = np.float32(0)
        fit.rnoise[x] = tile.noise[last, x] * tile.lever[last, x] * tile.lever[last, x]
    for j in tile.lines:
        dt = interval[j]
        lever, before, noise_before = tile.lever[j], tile.lever[j - 1], tile.noise[j - 1]
        for x in range(width):
            fit.poisson[x] += dt * lever[x] * lever[x]
            step = lever[x] - before[x]
            fit.rnoise[x] += noise_before[x] * step * step
    _scale_variances(fit, width)


@kernel
def _scale_variances(fit: Fit, width: int) -> None:
    """From sums over weights to the variances of a rate; 0 without a good difference."""
    for x in range(width):
        inverse = np.float32(1) / fit.c[x] if fit.c[x] > np.float32(0) else np.float32(0)
        fit.poisson[x] *= inverse * inverse * fit.inverse_gain[x]
        fit.rnoise[x] *= inverse * inverse
