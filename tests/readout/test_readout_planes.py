"""Planes that a kernel streams through together do not contend for the same lines of the processor's cache."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.ramps import detector

from irisdrs.readout.accumulation import Sums, begin_ramp
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.readout.sampling.planes import PAGE, planes
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.window import Window

#: Bytes of a line of the cache.
LINE = 64


def streamed(calibration: Calibration, shape: tuple[int, int], mode: Mode, options: FoldOptions) -> Iterator[int]:
    """Where the planes of a fold and of its sums begin in their memory pages."""
    yield 0  # a read is an array of somebody else's, and such arrays of full frames begin with a page
    yield from map(begin, (calibration.threshold, *calibration.terms, calibration.gain, calibration.read_noise))
    for state in (begin_ramp(shape, mode, options), Sums.alloc(shape)):
        found = (getattr(state, spec.name) for spec in fields(state))
        yield from (begin(plane) for plane in found if isinstance(plane, np.ndarray) and plane.shape == shape)


def begin(plane: NDArray[np.generic]) -> int:
    assert plane.flags.c_contiguous
    return plane.ctypes.data % PAGE


@pytest.mark.parametrize(
    ("mode", "options", "number"),
    [
        (Mode.UTR, FoldOptions(), 19),
        (Mode.UTR, FoldOptions(jump_sigma=5.0), 22),
        (Mode.MCDS, FoldOptions(planned_times_s=(1.0, 2.0, 3.0, 4.0), group_reads=2), 19),
    ],
    ids=["plain", "jumps", "MCDS"],
)
@pytest.mark.parametrize("shape", [(64, 1024), (41, 107)])
@pytest.mark.parametrize("window", [False, True])
def test_planes_begin_at_places_of_their_own_in_a_page(
    mode: Mode, options: FoldOptions, number: int, shape: tuple[int, int], window: bool
) -> None:
    calibration = detector((shape[0] + 2, shape[1] + 3)).cut(Window.at((1, 2), shape)) if window else detector(shape)
    places = sorted(streamed(calibration, shape, mode, options))
    assert len(places) == number
    assert min(after - before for before, after in pairwise([*places, PAGE])) >= LINE


def test_planes_are_zeros_that_overlap_nowhere() -> None:
    found: NDArray[np.uint16] = planes((3, 5), 4, 7, np.uint16)
    assert found.shape == (4, 3, 5)
    assert not found.any()
    for i, plane in enumerate(found):
        plane += np.uint16(i + 1)
    np.testing.assert_array_equal(found, np.broadcast_to(np.arange(1, 5)[:, None, None], (4, 3, 5)))
