"""Windows of a detector: subarrays that are read alone, and guide windows that are read besides the full frame."""

import re
from dataclasses import dataclass

_SECTION = re.compile(r"\[([0-9]+):([0-9]+),([0-9]+):([0-9]+)\]")


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rectangle of pixels; rows and columns count from 0, ends are not part of it.

    Raises
    ------
    ValueError
        If it has no pixel.
    """

    row0: int
    row1: int
    col0: int
    col1: int

    def __post_init__(self) -> None:
        if not (0 <= self.row0 < self.row1 and 0 <= self.col0 < self.col1):
            raise ValueError(
                f"rows {self.row0} to {self.row1}, columns {self.col0} to {self.col1} are no window of a detector"
            )

    @classmethod
    def at(cls, origin: tuple[int, int], shape: tuple[int, int]) -> "Window":
        """The window of so many rows and columns from a first pixel on."""
        return cls(origin[0], origin[0] + shape[0], origin[1], origin[1] + shape[1])

    @classmethod
    def parse(cls, section: str) -> "Window":
        """Read an image section, ``[x1:x2,y1:y2]``: columns first, from 1, ends included (IRAF, NOAO keywords).

        Raises
        ------
        ValueError
            If it is none.
        """
        found = _SECTION.fullmatch(section.replace(" ", ""))
        if found is None:
            raise ValueError(f"{section!r} is no image section [x1:x2,y1:y2]")
        x1, x2, y1, y2 = (int(number) for number in found.groups())
        return cls(y1 - 1, y2, x1 - 1, x2)

    @property
    def section(self) -> str:
        """As an image section."""
        return f"[{self.col0 + 1}:{self.col1},{self.row0 + 1}:{self.row1}]"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.row1 - self.row0, self.col1 - self.col0

    @property
    def slices(self) -> tuple[slice, slice]:
        """The index of its pixels in an array of the detector."""
        return slice(self.row0, self.row1), slice(self.col0, self.col1)

    def slices_in(self, other: "Window") -> tuple[slice, slice]:
        """The index of its pixels in an array of another window, which may have only some of them, or none."""
        return (
            slice(max(self.row0 - other.row0, 0), max(self.row1 - other.row0, 0)),
            slice(max(self.col0 - other.col0, 0), max(self.col1 - other.col0, 0)),
        )

    def within(self, shape: tuple[int, int]) -> bool:
        """Whether a detector of so many rows and columns has all of it."""
        return self.row1 <= shape[0] and self.col1 <= shape[1]

    def channels(self, channel_columns: int) -> range:
        """Output channels, from 0, that read its columns."""
        return range(self.col0 // channel_columns, (self.col1 - 1) // channel_columns + 1)

    def border(self, shape: tuple[int, int], border: int) -> tuple[int, int, int, int]:
        """How much of a detector's reference pixels it has.

        Parameters
        ----------
        shape : (rows, columns)
            Of the detector.
        border : int
            Rows and columns of reference pixels on each edge of it.

        Returns
        -------
        bottom, top, left, right : int
            Rows or columns of reference pixels of each edge; 0 where the window does not reach it.
        """
        rows, columns = shape
        return (
            max(min(self.row1, border) - self.row0, 0),
            max(self.row1 - max(self.row0, rows - border), 0),
            max(min(self.col1, border) - self.col0, 0),
            max(self.col1 - max(self.col0, columns - border), 0),
        )
