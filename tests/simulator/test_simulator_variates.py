"""The generator: distributions, and independence of threads."""

import numba
import numpy as np
import pytest
from numba import njit, prange
from numpy.typing import NDArray
from scipy import stats

from irisdrs.simulator.variates import (
    ASYMPTOTIC_MEAN,
    asymptotic_poisson,
    bits,
    normal_plane,
    poisson,
    stream_key,
    uniform_plane,
)


@njit()
def _poisson_sample(mean: float, key: np.uint64, size: int) -> NDArray[np.float64]:
    counts = np.empty(size)
    for i in range(size):
        counts[i] = poisson(mean, bits(key, i))
    return counts


@njit()
def _quantiles(mean: float, deviates: NDArray[np.float64]) -> NDArray[np.float64]:
    counts = np.empty(deviates.size)
    for i in prange(deviates.size):
        counts[i] = asymptotic_poisson(mean, deviates[i])
    return counts


@pytest.mark.parametrize("mean", [0.02, 0.7, 5.0, 11.9, 12.1, 33.0, 400.0, 20_000.0])
def test_poisson_counts_have_a_variance_equal_to_their_mean_and_the_right_distribution(mean: float) -> None:
    size = 400_000
    counts = _poisson_sample(mean, stream_key("poisson", mean), size)
    assert abs(counts.mean() - mean) < 4.5 * np.sqrt(mean / size)
    assert abs(counts.var() / mean - 1.0) < 4.5 * np.sqrt((2.0 + 1.0 / mean) / size)

    edges = np.unique(stats.poisson.ppf(np.linspace(0.01, 0.99, 40), mean))
    probability = np.diff(np.concatenate([[0.0], stats.poisson.cdf(edges, mean), [1.0]]))
    observed = np.bincount(np.searchsorted(edges, counts), minlength=probability.size)
    assert stats.chisquare(observed, probability * size).pvalue > 1e-4


@pytest.mark.parametrize("mean", [ASYMPTOTIC_MEAN, 20.0, 100.0])
def test_the_asymptotic_inverse_is_the_poisson_distribution_to_a_ten_thousandth(mean: float) -> None:
    deviates = np.linspace(-8.0, 8.0, 2_000_001)
    weights = np.diff(stats.norm.cdf(deviates))
    counts = _quantiles(mean, 0.5 * (deviates[1:] + deviates[:-1])).astype(int)
    implied = np.bincount(counts, weights)
    exact = stats.poisson.pmf(np.arange(implied.size), mean)
    assert 0.5 * np.abs(implied - exact).sum() < 1e-4


def test_a_mean_of_zero_or_less_gives_no_electrons() -> None:
    assert poisson(0.0, np.uint64(12345)) == 0.0
    assert poisson(-1.0, np.uint64(12345)) == 0.0


def test_normal_and_uniform_variates_follow_their_distributions_into_the_tails() -> None:
    normal = normal_plane(stream_key("normal"), (1000, 1000)).ravel()
    assert stats.kstest(normal, "norm").pvalue > 1e-4
    beyond = np.sum(np.abs(normal) > 3.7)  # the Ziggurat's tail begins at 3.654
    expected = 2.0 * stats.norm.sf(3.7) * normal.size
    assert abs(beyond - expected) < 4.5 * np.sqrt(expected)
    assert stats.kstest(uniform_plane(stream_key("uniform"), (1000, 1000)).ravel(), "uniform").pvalue > 1e-4


def test_streams_and_neighbours_are_uncorrelated() -> None:
    first, second = (normal_plane(stream_key(name), (512, 512)) for name in ("a", "b"))
    limit = 4.5 / np.sqrt(first.size)
    assert abs(np.mean(first * second)) < limit
    assert abs(np.mean(first[:, 1:] * first[:, :-1])) < limit
    assert abs(np.mean(first[1:] * first[:-1])) < limit


def test_variates_do_not_depend_on_the_number_of_threads() -> None:
    before = numba.get_num_threads()
    planes = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        planes.append(normal_plane(stream_key("threads"), (256, 128)))
    numba.set_num_threads(before)
    assert np.array_equal(planes[0], planes[1])
    assert stream_key(1, "a") == stream_key(1, "a") != stream_key(1, "b")
