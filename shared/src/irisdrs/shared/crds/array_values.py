"""Whether the numbers in a reference file can be what its type says: a check that `crds certify` calls."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from crds import data_file
from numpy.typing import NDArray

from irisdrs.shared.crds.reference_types import Plane, ReferenceType, Values
from irisdrs.shared.quality import Quality


def wrong_values(path: str, kind: ReferenceType) -> Iterator[str]:
    """What is wrong with the numbers of a file, one sentence for each array; pixels flagged DO_NOT_USE may be anything.

    Arrays that are absent, or have not the form of their type, are passed over: the constraints of the type say so.
    """
    dq = _array(path, Plane("DQ", "uint32", 2))
    for plane in kind.planes:
        data = _array(path, plane)
        if data is not None and plane.values is not Values.ANY:
            usable = dq & Quality.DO_NOT_USE == 0 if dq is not None and dq.shape == data.shape[-2:] else np.True_
            yield from _wrong(plane, data, usable)


def _wrong(plane: Plane, data: NDArray[Any], usable: NDArray[np.bool_] | np.bool_) -> Iterator[str]:
    # One image after the other: a rectification matrix has a gigabyte.
    count, first = 0, ()
    for place in np.ndindex(data.shape[:-2]):
        bad = usable & ~_allowed(data[place], plane.values)
        if not count and bad.any():
            first = (*place, *map(int, np.argwhere(bad)[0]))
        count += int(np.count_nonzero(bad))
    if count:
        yield (
            f"{plane.name} must be {plane.values}: {count} of {data.size} numbers are not, the first is"
            f" {data[first]} at {list(first)} (counted from 0)"
        )


def _allowed(image: NDArray[Any], values: Values) -> NDArray[np.bool_]:
    allowed: NDArray[np.bool_] = np.isfinite(image)
    if values is Values.POSITIVE:
        allowed &= image > 0
    elif values is Values.NOT_NEGATIVE:
        allowed &= image >= 0
    return allowed


def _array(path: str, plane: Plane) -> NDArray[Any] | None:
    found = data_file.get_array_properties(path, plane.name, "D")
    if found == "UNDEFINED" or found.DATA is None or found.DATA.dtype.name != plane.dtype:
        return None
    array: NDArray[Any] = found.DATA
    return array if array.ndim == plane.dimensions else None
