"""What somebody asks for, as a typed filter, and what comes back."""

import base64
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from irisdrs.shared.identifiers import OBSERVATION_PATTERN, Detector, ExposureType

#: Most rows of one page: about 1 MB of JSON.
MAX_PAGE = 1000


def _in_utc(time: datetime) -> datetime:
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("the time is outside of the years 1 to 9999 in UTC") from error


UtcTime = Annotated[datetime, AfterValidator(_in_utc)]


class Cone(BaseModel):
    """A circle on the sky (ICRS, degrees)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ra_deg: float = Field(ge=0, le=360, allow_inf_nan=False, description="Right ascension of the centre, degrees")
    dec_deg: float = Field(ge=-90, le=90, allow_inf_nan=False, description="Declination of the centre, degrees")
    radius_deg: float = Field(ge=0, le=90, allow_inf_nan=False, description="Radius, degrees")

    @classmethod
    def parse(cls, text: str) -> "Cone":
        """Read ``RA,DEC,RADIUS`` in degrees.

        Raises
        ------
        ValueError
            If the text is no such cone.
        """
        parts = text.split(",")
        if len(parts) != 3:
            raise ValueError(f"{text!r} is no cone: RA,DEC,RADIUS in degrees, such as 83.82,-5.39,0.1")
        numbers = [float(part) for part in parts]
        return cls(ra_deg=numbers[0], dec_deg=numbers[1], radius_deg=numbers[2])


class ProductFilter(BaseModel):
    """All that is given must hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation: str | None = Field(default=None, pattern=OBSERVATION_PATTERN)
    exposure: int | None = Field(default=None, ge=0, le=9999)
    exposure_type: ExposureType | None = None
    detector: Detector | None = None
    level: int | None = Field(default=None, ge=0, le=3)
    kind: str | None = Field(default=None, pattern="^[a-z][a-z0-9]*$", max_length=16)
    since: UtcTime | None = None
    until: UtcTime | None = None
    cone: Cone | None = None
    all_versions: bool = False


class ProductRow(BaseModel):
    """One version of a product, as people and programs see it."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    product_id: str = Field(description="Product id; of a read: exposure, ramp and read")
    version: str = Field(description="Job hash; of a read its SHA-256")
    current: bool = Field(description="Whether this is the version to use")
    conflicted: bool = Field(description="Whether a read with two different contents is in it: do not use")
    level: int = Field(description="0 read, 1 raw frame, 2 reduced frame, 3 combined product")
    kind: str = Field(description="read, raw, image")
    observation: str
    exposure_type: str
    exposure: int
    detector: str
    night: str = Field(description="Night, as UT date")
    mode: str | None = Field(description="Observing mode")
    filter: str | None
    sampling_mode: str | None = Field(description="SINGLE, CDS, MCDS, UTR: how reads become its frame")
    photons_end: datetime = Field(description="When its last photon was collected (UTC)")
    reads_used: int
    reads_expected: int
    ra_deg: float | None = Field(description="Centre of the footprint, ICRS, degrees")
    dec_deg: float | None = Field(description="Centre of the footprint, ICRS, degrees")
    radius_deg: float | None = Field(description="Radius of the circle around the footprint, degrees")
    crds_context: str | None
    software_version: str | None
    quality: Mapping[str, float] = Field(description="Figures of quality")
    key: str = Field(description="Key in the store")
    sha256: str = Field(description="SHA-256 of the file, hex")
    size: int = Field(description="Size of the file, bytes")
    status: str = Field(description="verified, or damaged when the stored bytes were found changed")


class ProductPage(BaseModel):
    """Some rows, how many there are in all, and where to go on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    total: int = Field(description="Rows that the filter selects now")
    products: list[ProductRow] = Field(description="In the order of photons_end, product_id, version")
    next_cursor: str | None = Field(description="Give it as `cursor` to get the next page; null: this is the last")


class Cursor(BaseModel):
    """Place in the order of rows: what comes after it does not depend on what is added before it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    photons_end: UtcTime
    product_id: str
    version: str

    def encode(self) -> str:
        """Opaque text for a URL."""
        content = [self.photons_end.isoformat(), self.product_id, self.version]
        return base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """Read a cursor back.

        Raises
        ------
        ValueError
            If it is none that `encode` gave.
        """
        try:
            content = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            photons_end, product_id, version = content
            return cls(photons_end=photons_end, product_id=product_id, version=version)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{text!r} is no cursor of this archive") from error
