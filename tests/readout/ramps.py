"""Ramps with a known truth, and what dense linear algebra makes of them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration, calibrate_for

DT = 0.72
#: Variance of the converter's rounding, DN^2.
ROUNDING = 1 / 12


def detector(
    shape: tuple[int, int] = (1, 4),
    gain: float | NDArray[np.floating] = 2.0,
    noise: float | NDArray[np.floating] = 5.0,
    border: int = 0,
    **planes: NDArray[np.generic],
) -> Calibration:
    """A detector without faults, unless a plane says otherwise; by default it has no reference pixels."""
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1] = 1
    perfect = {
        "mask": np.zeros(shape, np.uint32),
        "coefficients": coefficients,
        "coefficients_dq": np.zeros(shape, np.uint32),
        "saturation": np.full(shape, 60000, np.float32),
        "saturation_dq": np.zeros(shape, np.uint32),
        "gain": np.full(shape, gain, np.float32),
        "read_noise": np.full(shape, noise, np.float32),
    }
    return calibrate_for(**(perfect | planes), border=border)  # type: ignore[arg-type]


def cadence(reads: int) -> NDArray[np.float64]:
    """Uniform times, s."""
    return np.asarray(np.arange(1, reads + 1) * DT, np.float64)


def noisy_ramp(
    rng: np.random.Generator,
    times: NDArray[np.float64],
    shape: tuple[int, int],
    rate: float,
    gain: float = 2.0,
    noise: float = 5.0,
    pedestal: float = 2000.0,
) -> NDArray[np.uint16]:
    """Poisson electrons of a rate (DN/s) read with noise (DN)."""
    signal = np.zeros(shape)
    ramp = np.empty((len(times), *shape), np.uint16)
    for k, interval in enumerate(np.diff(times, prepend=0.0)):
        signal += rng.poisson(rate * gain * interval, shape)
        ramp[k] = np.rint(pedestal + signal / gain + rng.normal(0, noise, shape))
    return ramp


@dataclass(frozen=True)
class Dense:
    """A fit to some differences of one pixel by `np.linalg.solve` with the whole covariance, float64."""

    rate: float
    poisson: float
    rnoise: float
    chi2: float


def dense_fit(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    good: NDArray[np.bool_],
    rate: float,
    gain: float,
) -> Dense:
    """Generalised least squares at a rate that the covariance takes.

    Parameters
    ----------
    values, times, noise : (used reads,)
        Linear reads (DN), their times (s), their variance by read noise (DN^2).
    good : (used reads - 1,)
        Differences to use.
    """
    reads = len(values)
    step = np.eye(reads)[1:] - np.eye(reads)[:-1]  # differences of reads
    photons = np.diag(rate / gain * np.diff(times))[good][:, good]
    covariance = photons + (step @ np.diag(noise) @ step.T)[good][:, good]
    lengths, differences = np.diff(times)[good], np.diff(values)[good]
    weights = np.linalg.solve(covariance, lengths)
    weights /= weights @ lengths
    estimate = float(weights @ differences)
    left = differences - estimate * lengths
    return Dense(
        estimate,
        float(np.sum(weights**2 * lengths) / gain),
        float(np.sum((weights @ step[good]) ** 2 * noise)),
        float(left @ np.linalg.solve(covariance, left)),
    )


def first_guess(values: NDArray[np.float64], times: NDArray[np.float64], good: NDArray[np.bool_]) -> float:
    """Mean rate of the good differences but the steepest."""
    differences, lengths = np.diff(values)[good], np.diff(times)[good]
    if len(differences) > 1:
        kept = np.arange(len(differences)) != np.argmax(differences / lengths)
        differences, lengths = differences[kept], lengths[kept]
    return max(float(differences.sum() / lengths.sum()), 0.0)


def dense_likelihood(
    values: NDArray[np.float64],
    times: NDArray[np.float64],
    noise: NDArray[np.float64],
    good: NDArray[np.bool_],
    gain: float,
) -> tuple[Dense, float]:
    """The whole fit: first guess, one iteration; and the rate that the last covariance takes."""
    guess = first_guess(values, times, good)
    improved = max(dense_fit(values, times, noise, good, guess, gain).rate, 0.0)
    return dense_fit(values, times, noise, good, improved, gain), improved
