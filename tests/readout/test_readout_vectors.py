"""Kernels compile to instructions that take several pixels at a time: a choice that becomes a branch would end that.

What is counted are the multiplications that LLVM has made of each kernel; as many as the source has for a pixel must be
packed. What is left over of a row is taken pixel by pixel, with as many that are not.
"""

import re
from typing import Any

import numpy as np
import pytest
from numba import njit, typeof

from irisdrs.readout.backend import Processor
from irisdrs.readout.sampling import close, coadd, differences, fold, jumps, likelihood
from irisdrs.readout.warming import warm_up

READS, COLUMNS = 8, 64


def packed_multiplications(kernel: Any, signature: tuple[Any, ...]) -> int:
    """Packed multiplications of float32; compiled anew, for what comes from numba's cache cannot be looked at."""
    compiled = njit(nogil=True, error_model="numpy")(kernel.py_func)
    compiled.compile(signature)
    return len(re.findall(r"= fmul <\d+ x float>", compiled.inspect_llvm(signature)))


@pytest.fixture(scope="module")
def warm() -> None:
    """Kernels know the types of real reads."""
    processor = Processor(1)
    warm_up(processor)
    processor.shutdown()


@pytest.mark.parametrize(
    ("kernel", "multiplications"),
    [
        (fold.first_rows, 5),
        (fold.fold_rows, 5 + 2),
        (fold.fold_segment_rows, 5 + 4 + 10 + 2),  # linearity, factors of the segment, jump test, mean and co-moment
        (fold.fold_sum_rows, 5 + 1),
        (coadd.add_segment_rows, 8),
        (coadd.add_combination_rows, 8),
        (close.close_rows, 8),
        (close.close_segment_rows, 8 + 8),
        (close.close_combination_rows, 8 + 8),
    ],
)
def test_kernels_that_stream_through_planes_are_vectorised(warm: None, kernel: Any, multiplications: int) -> None:
    (signature,) = kernel.signatures
    assert packed_multiplications(kernel, signature) >= multiplications


TILE = differences.Tile._make((*np.zeros((5, READS, COLUMNS), np.float32), np.arange(1, READS)))
FIT = likelihood.Fit(*np.zeros((9, COLUMNS), np.float32))
INTERVAL, COUNTS = np.zeros(READS, np.float32), np.zeros((READS, 1, COLUMNS), np.uint16)
PLANE, FLAGS = np.zeros((1, COLUMNS), np.float32), np.zeros((1, COLUMNS), np.uint32)
OFFSET, ROW_OFFSET = np.zeros((READS, COLUMNS), np.float32), np.zeros((READS, 1, 1), np.float32)
RAMP = differences.Ramp(COUNTS, OFFSET, OFFSET, ROW_OFFSET, np.arange(READS), INTERVAL, np.ones(READS, np.bool_))
DETECTOR = differences.Detector(COUNTS[0], (PLANE, PLANE, PLANE, PLANE, PLANE), PLANE, PLANE, FLAGS)
LINES, MARKS = np.zeros((5, COLUMNS), np.float32), np.zeros(COLUMNS, np.uint8)


@pytest.mark.parametrize(
    ("kernel", "arguments", "multiplications"),
    [
        (differences.linear_differences, (RAMP, DETECTOR, 0, 0, COLUMNS, TILE, LINES, *LINES[:2]), 11),
        (likelihood.guess_rates, (TILE, INTERVAL, FIT, COLUMNS), 5),
        (likelihood.factorise, (TILE, INTERVAL, FIT, COLUMNS), 12),
        (likelihood.spread, (TILE, INTERVAL, FIT, COLUMNS, LINES[0]), 12),
        (likelihood.spread_of_weights, (TILE, INTERVAL, FIT, COLUMNS), 9),
        (jumps.may_have_step, (TILE, FIT, np.float32(1), COLUMNS, *LINES[:4], MARKS), 13),
    ],
    ids=lambda found: getattr(found, "__name__", ""),
)
def test_kernels_of_the_exact_fit_are_vectorised(kernel: Any, arguments: tuple[Any, ...], multiplications: int) -> None:
    assert packed_multiplications(kernel, tuple(map(typeof, arguments))) >= multiplications
