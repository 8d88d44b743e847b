"""The port to calibration references: which file for this header, and its verified bytes.

`crds_proxy` implements it in process; its HTTP client is the other implementation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Reference:
    """A calibration reference file: verified, local, read-only.

    Attributes
    ----------
    type : str
        Reference type, e.g. ``dark`` (the types of the observatory package).
    name : str
        File name in CRDS, e.g. ``tmt_iris_dark_0001.fits``.
    sha256 : str
        SHA-256 (hex) of the file.
    path : Path
        Absolute local path. Never write to it.
    """

    type: str
    name: str
    sha256: str
    path: Path


class References(Protocol):
    """Answers *which reference for this header* under a given, pinned context."""

    async def default_context(self) -> str:
        """Context in force for observations that start now, e.g. ``tmt_0001.pmap``."""
        ...

    async def best_references(
        self, header: Mapping[str, str], types: Sequence[str], context: str
    ) -> Mapping[str, Reference]:
        """Best reference of each type for a header.

        Parameters
        ----------
        header : mapping
            CRDS matching parameters: lower-case dotted names, ``meta.instrument.detector`` and so on, all as
            strings (what a data model's `get_crds_parameters` gives).
        types : sequence of str
            Reference types.
        context : str
            CRDS context (pmap).

        Raises
        ------
        MissingReference
            If the context has no match for a type, or its file is absent or damaged; names all of them.
        """
        ...
