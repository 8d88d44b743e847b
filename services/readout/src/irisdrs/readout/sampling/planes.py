"""Planes of full frames, so laid out in memory that a kernel can stream through many of them at once.

Arrays of full frames that are allocated each on its own all begin at the same place of a memory page. The same pixel of
all of them then wants the same few lines of the processor's cache, and a load waits for a store to another plane, for
the processor first compares the places in the page only. Planes that one kernel reads and writes together have a place
each instead.
"""

import math
from enum import IntEnum
from typing import TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Bytes of a memory page.
PAGE = 4096
#: Bytes between places: three cache lines. There are 21 places in a page; reads, which come from elsewhere, begin where
#: pages do.
APART = 192

T = TypeVar("T", bound=np.generic)


class Place(IntEnum):
    """Places of the planes that are streamed together, or of the first of them."""

    THRESHOLD = 0
    TERMS = 1
    GAIN = 6
    READ_NOISE = 7
    RAMP = 8
    SUMS = 16


def planes(shape: tuple[int, int], count: int, place: int, dtype: DTypeLike = np.float32) -> NDArray[T]:
    """Planes of zeros, in places one after another.

    Parameters
    ----------
    shape : (rows, columns)
    count : int
        Planes.
    place : int
        Of the first.
    dtype : dtype

    Returns
    -------
    (count, rows, columns)
        Each plane is contiguous, all together are not.
    """
    size = shape[0] * shape[1] * np.dtype(dtype).itemsize
    stride = -(-size // PAGE) * PAGE + APART
    memory = np.zeros(PAGE + count * stride, np.uint8)
    begin = ((place + 1) * APART - memory.ctypes.data) % PAGE
    rows = memory[begin : begin + count * stride].reshape(count, stride)[:, :size]
    return rows.view(dtype).reshape(count, *shape)


def placed(values: NDArray[T], place: int) -> NDArray[T]:
    """A copy of a plane (rows, columns) in this place, or of several (count, rows, columns) from this one on."""
    rows, columns = values.shape[-2:]
    copy: NDArray[T] = planes((rows, columns), math.prod(values.shape[:-2]), place, values.dtype)
    copy = copy.reshape(values.shape)
    copy[...] = values
    return copy
