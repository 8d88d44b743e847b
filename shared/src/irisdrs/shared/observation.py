"""What an observation is: the facts that the edge stores before it announces them.

`observations/{night}/{observation}.json` holds an `ObservationPlan`. Whoever missed a message reads the store.
"""

from datetime import UTC, date, datetime, time
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import (
    OBSERVATION_PATTERN,
    Detector,
    ExposureId,
    ExposureType,
    ObservingMode,
    SamplingMode,
    Subarray,
)

#: Reads of a ramp that are counted: counters of 16 bits are kept for every pixel. Schemas say 99999, what a key of the
#: store has room for, and a schema does not change within a version; nobody has ever taken so many.
MAX_READS = 65535


class SkyPolicy(StrEnum):
    """When a science frame waits for a sky frame."""

    NONE = "NONE"
    PREFERRED = "PREFERRED"
    REQUIRED = "REQUIRED"


class Facts(BaseModel):
    """Frozen facts: a plan that somebody writes has no field too many.

    What is read from the store or the bus may be of a newer minor version: readers validate it with ``extra="ignore"``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")


class Sampling(Facts):
    """How every exposure of an observation is read out."""

    mode: SamplingMode = Field(description="How the reads of a ramp become a frame")
    reads: int = Field(description="Reads in a ramp", ge=1, le=99999)
    ramps: int = Field(description="Ramps in an exposure", ge=1, le=9999)
    read_time_s: float = Field(description="Time from one read to the next, seconds", gt=0)
    shape: tuple[int, int] = Field(description="Rows and columns of a read, pixels")
    group_reads: int = Field(description="MCDS: reads in each of the two groups (Fowler's number)", default=1, ge=1)

    @model_validator(mode="after")
    def _suits_its_mode(self) -> "Sampling":
        if self.reads > MAX_READS:
            raise ValueError(f"a ramp of {self.reads} reads is too long: reads are counted up to {MAX_READS}")
        # CDS and UTR have no slope without a second read, but version 1 could say so: what was told stays readable.
        if self.mode is SamplingMode.SINGLE and self.reads != 1:
            raise ValueError(f"a ramp of SINGLE has 1 read, not {self.reads}")
        if self.mode is SamplingMode.MCDS and self.reads < 2 * self.group_reads:
            raise ValueError(
                f"two groups of {self.group_reads} reads do not fit into a ramp of {self.reads}: "
                f"MCDS needs at least {2 * self.group_reads}"
            )
        if self.mode is not SamplingMode.MCDS and self.group_reads != 1:
            raise ValueError(f"{self.mode} has no groups of {self.group_reads} reads: only MCDS has groups")
        return self

    @property
    def read_times_s(self) -> tuple[float, ...]:
        """End of each read of a ramp as it is planned, seconds since the reset."""
        return tuple(read * self.read_time_s for read in range(1, self.reads + 1))

    @property
    def ramp_time_s(self) -> float:
        """Time from the reset to the end of the last read of a ramp, seconds."""
        return self.reads * self.read_time_s


class PlannedExposure(Facts):
    """One exposure of an observation, on all its detectors."""

    number: int = Field(description="Exposure number", ge=0, le=9999)
    type: ExposureType = Field(description="Science, sky, calibration, ...")
    offset_arcsec: tuple[float, float] = Field(description="Dither offset from the target: East, North, arcsec")


class ObservationPlan(Facts):
    """The whole observation as it is planned, with the CRDS context that it is pinned to."""

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    night: date = Field(description="Night, as UT date")
    mode: ObservingMode = Field(description="Observing mode")
    filter: str = Field(description="Filter name (instrument.FILTERS)")
    scale_arcsec: float = Field(description="Plate scale, arcsec per pixel or spaxel", gt=0)
    grating: str = Field(description="Grating name, or MIRROR", default="MIRROR")
    detectors: tuple[Detector, ...] = Field(description="Detectors that are read out", min_length=1)
    ra_deg: float = Field(description="Target right ascension ICRS, degrees", ge=0, lt=360)
    dec_deg: float = Field(description="Target declination ICRS, degrees", ge=-90, le=90)
    position_angle_deg: float = Field(description="From North through East to detector +y, degrees")
    sampling: Sampling
    exposures: tuple[PlannedExposure, ...] = Field(min_length=1)
    sky_policy: SkyPolicy = SkyPolicy.PREFERRED
    crds_context: str = Field(description="CRDS context that the observation is pinned to")

    @model_validator(mode="after")
    def _numbers_are_unique(self) -> "ObservationPlan":
        numbers = [exposure.number for exposure in self.exposures]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"exposure numbers repeat: {numbers}")
        return self

    @property
    def program(self) -> str:
        """Semester and program, ``2034B-007``."""
        return self.observation[:9]

    @property
    def foreseen_at(self) -> datetime:
        """A time (UTC) of the night, for what must be asked for before there is a read that says its own."""
        return datetime.combine(self.night, time(12), UTC)

    def crds_parameters(self, detector: Detector, exposure_type: ExposureType, at: datetime) -> dict[str, str]:
        """CRDS matching parameters of an exposure that is read out in full at a time (UTC), as its reads will say."""
        return {
            "meta.instrument.name": "IRIS",
            "meta.instrument.detector": str(detector),
            "meta.instrument.mode": str(self.mode),
            "meta.instrument.filter": self.filter,
            "meta.instrument.pupil": "CLEAR",
            "meta.instrument.scale": f"{self.scale_arcsec:.3f}",
            "meta.instrument.grating": self.grating,
            "meta.exposure.type": str(exposure_type),
            "meta.exposure.sampling_mode": str(self.sampling.mode),
            "meta.exposure.integration_time": f"{self.sampling.ramp_time_s:.3f}",
            "meta.subarray.name": str(Subarray.FULL),
            "meta.observation.date": f"{at:%Y-%m-%d}",
            "meta.observation.time": at.strftime("%H:%M:%S.%f")[:-3],
        }

    def exposure_ids(self) -> list[ExposureId]:
        """Every exposure of every detector that should exist, in order."""
        return [
            ExposureId(self.observation, detector, exposure.type, exposure.number)
            for exposure in self.exposures
            for detector in self.detectors
        ]


def read_plan(file: Path) -> ObservationPlan:
    """Read the plan that somebody wrote.

    Raises
    ------
    Fatal
        If the file cannot be read, or is no plan.
    """
    try:
        return ObservationPlan.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise Fatal(f"{file} is no plan of an observation: {error}") from error
