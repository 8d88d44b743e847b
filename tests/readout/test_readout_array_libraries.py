"""What the reference pixels take off is code of the array API standard: every library has NumPy's answer."""

from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.conftest import OTHER_LIBRARIES, on_host

from irisdrs.readout.sampling.reference_correction import ReferenceCorrection, SideColumns, reference_vectors
from irisdrs.readout.sampling.side_columns import mean_variance, row_power, wiener_gain

ROWS, COLUMNS, WIDTH, BORDER = 21, 24, 8, 3
GAIN = np.linspace(1, 0.1, ROWS + 1)
CORRECTIONS = [
    ReferenceCorrection(),
    ReferenceCorrection(interpolated=True),
    ReferenceCorrection(side_columns=SideColumns.MEDIAN, median_rows=5, alpha=0.7),
    ReferenceCorrection(interpolated=True, side_columns=SideColumns.WIENER, gain=GAIN),
]


def read(rng: np.random.Generator) -> NDArray[np.uint16]:
    """Noise, offsets of channels, a row signal, and pixels to be clipped."""
    counts = rng.normal(3000, 9, (ROWS, COLUMNS)) + rng.normal(0, 30, (ROWS, 1)) + np.arange(COLUMNS) // WIDTH * 200
    counts[rng.random(counts.shape) < 0.05] = 60000
    return counts.astype(np.uint16)


def same(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(on_host(found), expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("xp", OTHER_LIBRARIES, indirect=True)
@pytest.mark.parametrize("correction", CORRECTIONS, ids=["mean", "drift", "median", "wiener"])
@pytest.mark.parametrize("bad", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("first_column", [0, 5])
def test_vectors_are_the_same_in_every_library(
    xp: ModuleType, correction: ReferenceCorrection, bad: float, first_column: int
) -> None:
    rng = np.random.default_rng(1)
    usable, sides = rng.random((2, BORDER, COLUMNS)) >= bad, rng.random((2, ROWS, BORDER)) >= bad
    counts = read(rng)
    expected = reference_vectors(counts, usable, sides, WIDTH, correction, first_column)
    theirs: list[Any] = [xp.asarray(one) for one in (counts, usable, sides)]
    found = reference_vectors(theirs[0], theirs[1], theirs[2], WIDTH, correction, first_column, xp=xp)
    for name in ("column_offset", "row_offset", "missing_columns", "missing_rows"):
        same(getattr(found, name), getattr(expected, name))
        assert on_host(getattr(found, name)).dtype == getattr(expected, name).dtype


@pytest.mark.parametrize("xp", OTHER_LIBRARIES, indirect=True)
def test_the_power_of_darks_is_the_same_in_every_library(xp: ModuleType) -> None:
    rng = np.random.default_rng(2)
    signals, usable = rng.normal(0, 5, (6, ROWS)).astype(np.float32), rng.random((2, ROWS, BORDER)) < 0.7
    noise = mean_variance(usable, 3.0)
    assert mean_variance(xp.asarray(usable), 3.0, xp=xp) == pytest.approx(noise)
    power = row_power(signals, noise)
    same(row_power(xp.asarray(signals), noise, xp=xp), power)
    same(wiener_gain(xp.asarray(power), noise, xp=xp), wiener_gain(power, noise))
