"""Random variates that depend on (key, counter) alone, so that threads and their order change nothing.

Sources: the mixing function is SplitMix64 (Steele, Lea & Flood 2014, OOPSLA), used as a counter-based generator;
normal variates are the Ziggurat of Doornik (2005, "An improved ziggurat method"); Poisson variates of small mean are
found by inversion, those of a larger mean by the asymptotic inverse of the Poisson distribution (Giles 2016, ACM TOMS
42, 7, algorithm 955, equation for Q_N2), whose distribution differs from the exact one by less than 1e-4 in total
variation above `ASYMPTOTIC_MEAN` (checked by a test).
"""

# mypy: disable-error-code="no-any-return"
# NumPy's functions take no numbers of unknown type apart: inside a kernel every result is a scalar.

import hashlib

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

#: Poisson means from which on the asymptotic inverse is used.
ASYMPTOTIC_MEAN = 12.0

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)
_LAYER_BITS = np.uint64(0xFF)

_LAYERS = 256
_TAIL = 3.6541528853610088  # where the Ziggurat's tail begins, for 256 layers
_LAYER_AREA = 0.00492867323399


def _ziggurat_edges() -> NDArray[np.float64]:
    """Right edges of the layers, (257,): x[0] belongs to the base layer with its tail, x[256] = 0."""
    edges = np.zeros(_LAYERS + 1)
    edges[0] = _LAYER_AREA / np.exp(-0.5 * _TAIL**2)
    edges[1] = _TAIL
    for layer in range(2, _LAYERS):
        previous = edges[layer - 1]
        edges[layer] = np.sqrt(-2.0 * np.log(_LAYER_AREA / previous + np.exp(-0.5 * previous**2)))
    return edges


_EDGES = _ziggurat_edges()
_RATIOS = _EDGES[1:] / _EDGES[:-1]


def stream_key(*names: object) -> np.uint64:
    """Key of an independent stream: the first 64 bits of BLAKE2b over the names, e.g. seed, exposure, ramp, read."""
    text = "/".join(str(name) for name in names)
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def generator(*names: object) -> np.random.Generator:
    """NumPy's counter-based generator of a stream, for the few numbers that are not one per pixel."""
    return np.random.Generator(np.random.Philox(key=int(stream_key(*names))))


@njit(cache=True, inline="always")
def mix(state: np.uint64) -> np.uint64:
    """Finaliser of SplitMix64: a bijection of 64-bit words."""
    state = (state ^ (state >> _S30)) * _MIX_1
    state = (state ^ (state >> _S27)) * _MIX_2
    return state ^ (state >> _S31)


@njit(cache=True, inline="always")
def bits(key: np.uint64, counter: int) -> np.uint64:
    """64 random bits, the `counter`-th word of stream `key`."""
    return mix(key + np.uint64(counter) * _GOLDEN)


@njit(cache=True, inline="always")
def uniform(word: np.uint64) -> float:
    """A number in (0, 1), never an end, from 53 bits of the word."""
    return (np.float64(word >> _S11) + 0.5) * (1.0 / 9007199254740992.0)


@njit(cache=True)
def _normal_rarely(word: np.uint64, signed: float, layer: int) -> float:
    """The Ziggurat's wedges and tail (1.2 % of the draws)."""
    while True:
        word = mix(word + _GOLDEN)
        if layer == 0:
            while True:
                beyond = -np.log(uniform(word)) / _TAIL
                word = mix(word + _GOLDEN)
                if -2.0 * np.log(uniform(word)) > beyond * beyond:
                    return _TAIL + beyond if signed > 0.0 else -_TAIL - beyond
                word = mix(word + _GOLDEN)
        x = signed * _EDGES[layer]
        outer = np.exp(-0.5 * (_EDGES[layer] * _EDGES[layer] - x * x))
        inner = np.exp(-0.5 * (_EDGES[layer + 1] * _EDGES[layer + 1] - x * x))
        if inner + uniform(word) * (outer - inner) < 1.0:
            return x
        word = mix(word + _GOLDEN)
        layer = int(word & _LAYER_BITS)
        signed = 2.0 * uniform(word) - 1.0
        if abs(signed) < _RATIOS[layer]:
            return signed * _EDGES[layer]


@njit(cache=True, inline="always")
def normal(word: np.uint64) -> float:
    """Standard normal variate from one random word (further words are derived from it where it is rejected)."""
    layer = int(word & _LAYER_BITS)
    signed = 2.0 * uniform(word) - 1.0
    if abs(signed) < _RATIOS[layer]:
        return signed * _EDGES[layer]
    return _normal_rarely(word, signed, layer)


@njit(cache=True)
def asymptotic_poisson(mean: float, deviate: float) -> float:
    """Quantile of the Poisson distribution at the probability of a standard normal deviate, for means >= 12."""
    root = np.sqrt(mean)
    square = deviate * deviate
    quantile = mean + root * deviate + (2.0 + square) / 6.0
    quantile -= deviate * (2.0 + square) / (72.0 * root)
    quantile += (-16.0 + 7.0 * square + 3.0 * square * square) / (810.0 * mean)
    return max(np.floor(quantile), 0.0)


@njit(cache=True)
def poisson(mean: float, word: np.uint64) -> float:
    """Poisson variate (a whole number) of the given mean from one random word; 0 for a mean of 0 or less."""
    if mean >= ASYMPTOTIC_MEAN:
        return asymptotic_poisson(mean, normal(word))
    if mean <= 0.0:
        return 0.0
    remaining = uniform(word)
    probability = np.exp(-mean)
    count = 0.0
    while remaining > probability and count < 100.0:  # P(count >= 100 | mean 12) < 1e-50
        remaining -= probability
        count += 1.0
        probability *= mean / count
    return count


@njit(parallel=True, nogil=True, cache=True)
def _fill_normal(key: np.uint64, plane: NDArray[np.float32]) -> None:
    rows, columns = plane.shape
    for row in prange(rows):
        for column in range(columns):
            plane[row, column] = normal(bits(key, row * columns + column))


@njit(parallel=True, nogil=True, cache=True)
def _fill_uniform(key: np.uint64, plane: NDArray[np.float32]) -> None:
    rows, columns = plane.shape
    for row in prange(rows):
        for column in range(columns):
            plane[row, column] = uniform(bits(key, row * columns + column))


def normal_plane(key: np.uint64, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Standard normal variates, (ny, nx)."""
    plane = np.empty(shape, np.float32)
    _fill_normal(key, plane)
    return plane


def uniform_plane(key: np.uint64, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Uniform variates in [0, 1], (ny, nx)."""
    plane = np.empty(shape, np.float32)
    _fill_uniform(key, plane)
    return plane
