"""Ranges of bytes, as RFC 9110 section 14 has them; one range a request."""

import re

_RANGE = re.compile(r"bytes=(?P<first>[0-9]{0,18})-(?P<last>[0-9]{0,18})")


class UnsatisfiableRange(ValueError):
    """The range begins after the end."""


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First byte and end (exclusive) that a Range header asks for.

    Parameters
    ----------
    header : str, optional
        Value of the header.
    size : int
        Size of the file, bytes.

    Returns
    -------
    (int, int), or None for the whole file: no header, or one that RFC 9110 allows to ignore (several ranges, other
    units, nonsense).

    Raises
    ------
    UnsatisfiableRange
        If it asks for nothing that is there.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or (not found["first"] and not found["last"]):
        return None
    if not found["first"]:
        start, end = max(0, size - int(found["last"])), size
    else:
        start = int(found["first"])
        end = min(size, int(found["last"]) + 1) if found["last"] else size
        if found["last"] and int(found["last"]) < start:
            return None
    if start >= size or start >= end:
        raise UnsatisfiableRange(f"{header} asks for bytes beyond the end.")
    return start, end
