"""What arrives at the catalogue: a verified object and what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TypeAlias

from irisdrs.archive.footprint import Circle
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.store.port import ObjectRef

#: One HDU: its name, where its data begin, its cards; as `irisdrs.shared.data.fits.headers` gives it.
Hdu: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Description:
    """What an object's own headers say.

    Attributes
    ----------
    hdus : tuple of dict
        Header cards and byte offsets of every HDU, as JSON.
    mode, filter : str, optional
        Observing mode and filter.
    circle : Circle, optional
        Where it lies on the sky.
    sampling_mode : str, optional
        How reads become its frame.
    """

    hdus: tuple[Hdu, ...] = ()
    mode: str | None = None
    filter: str | None = None
    circle: Circle | None = None
    sampling_mode: str | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """Something that a product was made of."""

    role: str
    product_id: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Arrival:
    """A verified object, with what its event and its headers say.

    `version` is the job hash of a product and the SHA-256 of a read; `inputs_hash`, `crds_context` and
    `software_version` are None for a read, which is taken and not made.
    `announced_at` (UTC) and `spent` (`irisdrs.shared.events.spent`) are of the telling that it arrived with.
    """

    object: ObjectRef
    product_id: str
    version: str
    level: int
    kind: str
    exposure: ExposureId
    night: date
    photons_end: datetime
    reads_used: int
    reads_expected: int
    description: Description
    inputs_hash: str | None = None
    crds_context: str | None = None
    software_version: str | None = None
    quality: Mapping[str, float] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()
    announced_at: datetime | None = None
    spent: str = ""
