"""What a worker process is asked to do, and what it answers. Light: the service process imports nothing heavier."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from irisdrs.shared.crds.reference_types import REDUCTION_TYPES
from irisdrs.shared.references import Reference

#: Name of the recipe in hashes and keys.
RECIPE = "calibrate.image2"

#: Reference types that the recipe needs; every one of them must have a match.
REFERENCE_TYPES = REDUCTION_TYPES


@dataclass(frozen=True, slots=True)
class Reduction:
    """One raw science frame to be reduced: all that decides the product's bytes, and where files lie.

    Attributes
    ----------
    raw : Path
        Level 1 frame; absolute.
    raw_id : str
        Product id of the frame.
    product_id : str
        Id of the product to be made.
    references : tuple of Reference
        One of each of `REFERENCE_TYPES`, with absolute paths.
    context : str
        CRDS context under which they were chosen.
    inputs_hash, job_hash, software : str
        Of the job (`irisdrs.shared.identity.Job`).
    output : Path
        File to write; absolute. Neither this nor any other path gets into the product.
    """

    raw: Path
    raw_id: str
    product_id: str
    references: tuple[Reference, ...]
    context: str
    inputs_hash: str
    job_hash: str
    software: str
    output: Path


@dataclass(frozen=True, slots=True)
class Reduced:
    """A product that was written to `Reduction.output`.

    Attributes
    ----------
    sha256 : str
        SHA-256 (hex) of the file.
    size : int
        Bytes.
    quality : mapping of str to float
        ``sky_level`` and ``sky_noise`` (electron/s), ``bad_fraction``.
    step_versions : mapping of str to str
        Step to version of the software that did it; a skipped step is absent.
    """

    sha256: str
    size: int
    quality: Mapping[str, float] = field(default_factory=dict)
    step_versions: Mapping[str, str] = field(default_factory=dict)
