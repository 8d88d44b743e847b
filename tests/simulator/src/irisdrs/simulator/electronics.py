"""What happens in a pixel and behind it, as kernels over a detector: photons, full well, linearity, noise, ADC."""

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

from irisdrs.simulator.variates import bits, normal, poisson

#: Largest number of a 16-bit analogue-to-digital converter, DN.
ADC_MAXIMUM = 65535.0

_NEWTON_STEPS = 12  # it converges in two or three: the response bends by a few per cent
_NEWTON_TOLERANCE_DN = 1e-3  # a thousandth of the quantisation step


@njit(parallel=True, nogil=True, cache=True)
def collect(
    electrons: NDArray[np.float32],
    rate: NDArray[np.float32],
    full_well: NDArray[np.float32],
    seconds: float,
    key: np.uint64,
) -> None:
    """Add the electrons of one interval to what every pixel holds already, up to its full well.

    Parameters
    ----------
    electrons : (ny, nx), e-; changed in place
    rate : (ny, nx), expected electrons per second, light and dark
    full_well : (ny, nx), e-
    seconds : length of the interval
    key : stream of this read
    """
    rows, columns = electrons.shape
    for row in prange(rows):
        for column in range(columns):
            arrived = poisson(rate[row, column] * seconds, bits(key, row * columns + column))
            electrons[row, column] = min(electrons[row, column] + arrived, full_well[row, column])


@njit(cache=True, inline="always")
def measured_dn(true_dn: float, strength: float, bend: NDArray[np.float64]) -> float:
    """Solve y = sum a_i x**i for x by Newton's method, with a_i = delta_i1 + strength * bend_i in float32."""
    if true_dn <= 0.0:
        return 0.0
    a1 = np.float64(np.float32(1.0 + strength * bend[1]))
    a2 = np.float64(np.float32(strength * bend[2]))
    a3 = np.float64(np.float32(strength * bend[3]))
    a4 = np.float64(np.float32(strength * bend[4]))
    a5 = np.float64(np.float32(strength * bend[5]))
    x = true_dn / a1
    for _ in range(_NEWTON_STEPS):
        excess = ((((a5 * x + a4) * x + a3) * x + a2) * x + a1) * x - true_dn
        slope = (((5.0 * a5 * x + 4.0 * a4) * x + 3.0 * a3) * x + 2.0 * a2) * x + a1
        step = excess / slope
        x -= step
        if abs(step) < _NEWTON_TOLERANCE_DN:
            break
    return x


@njit(parallel=True, nogil=True, cache=True)
def fill_measured_dn(
    true_dn: NDArray[np.float32],
    strength: NDArray[np.float32],
    bend: NDArray[np.float64],
    measured: NDArray[np.float32],
) -> None:
    """`measured_dn` of a whole detector, (ny, nx) each."""
    rows, columns = true_dn.shape
    for row in prange(rows):
        for column in range(columns):
            measured[row, column] = measured_dn(true_dn[row, column], strength[row, column], bend)


@njit(parallel=True, nogil=True, cache=True)
def digitise(
    electrons: NDArray[np.float32],
    strength: NDArray[np.float32],
    read_noise: NDArray[np.float32],
    bend: NDArray[np.float64],
    gain: NDArray[np.float64],
    offset: NDArray[np.float64],
    key: np.uint64,
    counts: NDArray[np.uint16],
) -> None:
    """Read the pixels without disturbing them.

    Parameters
    ----------
    electrons : (ny, nx), e- in each pixel
    strength : (ny, nx), how strongly each pixel's response bends, about 1; 0 is linear
    read_noise : (ny, nx), standard deviation of one read, DN
    bend : (6,), the coefficients of the mean pixel less those of a linear one
    gain : (nx,), e-/DN of each column's output channel
    offset : (1 or ny, nx), pedestal of this read in each column, or with correlated noise in each pixel, DN
    key : stream of this read
    counts : (ny, nx), DN; overwritten
    """
    rows, columns = electrons.shape
    for row in prange(rows):
        for column in range(columns):
            signal = measured_dn(electrons[row, column] / gain[column], strength[row, column], bend)
            noise = read_noise[row, column] * normal(bits(key, row * columns + column))
            level = np.floor(signal + offset[row % offset.shape[0], column] + noise + 0.5)
            counts[row, column] = np.uint16(min(max(level, 0.0), ADC_MAXIMUM))
