"""What the header of a level-0 read says.

Keywords follow the keyword dictionary of IRIS. Where it defines one twice the other meaning is given up: READTIME is
the time to clock the detector once, in seconds (not the start of the first pixel read); NUMREADS counts the reads of a
ramp (not reads that are added up); OBS_ID is the observation id (OBSID is not written). SARRMODE says FULL where it has
FULL_FRAME, SAMPMODE says MCDS where it has MDS, and SINGLE besides. Additions to it are ODGW1SEC to ODGW4SEC, image
sections of guide windows in a full frame, and GRPREADS, the reads in each of the two groups of MCDS: for those it has
NUMREADS itself.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    ValidationError,
    field_validator,
    model_validator,
)

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.identifiers import (
    OBSERVATION_PATTERN,
    Detector,
    ExposureId,
    ExposureType,
    ObservingMode,
    ReadId,
    SamplingMode,
    Subarray,
)
from irisdrs.shared.instrument import FILTERS, GAIN, READ_NOISE_E
from irisdrs.shared.window import Window

#: A card: keyword, value, comment.
Card = tuple[str, bool | int | float | str, str]

#: Guide windows that a detector's header can name: IRIS has four (ODGW1 to ODGW4).
GUIDE_WINDOWS = 4

#: Field, keyword and comment of the cards that hold a field as it is.
_CARDS = (
    ("observation", "OBS_ID", "observation"),
    ("detector", "DETECTOR", "detector"),
    ("exposure_type", "EXPTYPE", "exposure type"),
    ("exposure", "EXP_NO", "exposure number"),
    ("ramp", "RAMP_NO", "ramp in the exposure, from 1"),
    ("read", "READ_NO", "read in the ramp, from 1"),
    ("reads", "NUMREADS", "reads in a ramp"),
    ("ramps", "NUMRAMPS", "ramps in the exposure"),
    ("sampling_mode", "SAMPMODE", "how reads become a frame"),
    ("read_interval_s", "READTIME", "[s] time to read the detector once"),
    ("read_time_s", "RDENDT", "[s] end of this read since the reset"),
    ("mode", "OBSMODE", "observing mode"),
    ("filter", "FILTER", "filter"),
    ("pupil", "PUPIL", "pupil mask"),
    ("scale_arcsec", "IFSSCALE", "[arcsec] plate scale"),
    ("grating", "IFSRES", "grating"),
    ("ra_deg", "RA", "[deg] instrument axis, ICRS"),
    ("dec_deg", "DEC", "[deg] instrument axis, ICRS"),
    ("position_angle_deg", "PA", "[deg] North through East to detector +y"),
    ("airmass", "AIRMASS", "airmass"),
    ("gain", "GAIN", "[electron/DN] nominal gain"),
    ("read_noise_e", "READNOIS", "[electron] nominal noise of one read"),
)


def _subarray(cards: Mapping[str, Any]) -> dict[str, Any]:
    """What the cards say of the window; a header without them is of the whole detector.

    Raises
    ------
    CorruptObject
        If a guide window is no image section.
    """
    said = cards.get("SARRMODE", Subarray.FULL)
    try:
        guide_windows = tuple(
            Window.parse(str(cards[f"ODGW{number}SEC"]))
            for number in range(1, GUIDE_WINDOWS + 1)
            if f"ODGW{number}SEC" in cards
        )
    except ValueError as wrong:
        raise CorruptObject(f"The read's header has a wrong guide window: {wrong}") from wrong
    return {
        "subarray": Subarray.FULL if said == "FULL_FRAME" else said,
        "origin": (cards.get("YSTART", 1) - 1, cards.get("XSTART", 1) - 1),
        "guide_windows": guide_windows,
    }


def _sampling(cards: Mapping[str, Any]) -> dict[str, Any]:
    """What the cards say of the sampling; a header without GRPREADS has no groups."""
    said = cards["SAMPMODE"]
    return {
        "sampling_mode": SamplingMode.MCDS if said == "MDS" else said,
        "group_reads": cards.get("GRPREADS", 1),
    }


def _in_utc(time: datetime) -> datetime:
    return time.astimezone(UTC)


class ReadHeader(BaseModel):
    """All that a level-0 read says about itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    observation: str = Field(description="Observation id", pattern=OBSERVATION_PATTERN)
    detector: Detector
    exposure_type: ExposureType
    exposure: int = Field(description="Exposure number", ge=0, le=9999)
    night: date = Field(description="Night, as UT date")
    ramp: int = Field(description="Ramp in the exposure, from 1", ge=1, le=9999)
    read: int = Field(description="Read in the ramp, from 1", ge=1, le=99999)
    reads: int = Field(description="Reads in a ramp", ge=1, le=99999)
    ramps: int = Field(description="Ramps in the exposure", ge=1, le=9999)
    read_time_s: float = Field(description="End of this read, seconds since the reset", ge=0, allow_inf_nan=False)
    read_interval_s: float = Field(description="From one read to the next, seconds", gt=0, allow_inf_nan=False)
    sampling_mode: SamplingMode
    group_reads: int = Field(description="MCDS: reads in each of the two groups", ge=1, default=1)
    ended_at: Annotated[AwareDatetime, AfterValidator(_in_utc)] = Field(description="End of the read (UTC)")
    mode: ObservingMode
    filter: str = Field(description="Filter name (instrument.FILTERS)", max_length=40)
    pupil: str = Field(description="Pupil mask", default="CLEAR", max_length=40)
    scale_arcsec: float = Field(description="Plate scale, arcsec per pixel or spaxel", gt=0, allow_inf_nan=False)
    grating: str = Field(description="Grating name, or MIRROR", default="MIRROR", max_length=40)
    ra_deg: float = Field(description="Right ascension of the instrument axis, ICRS, degrees", ge=0, lt=360)
    dec_deg: float = Field(description="Declination of the instrument axis, ICRS, degrees", ge=-90, le=90)
    position_angle_deg: float = Field(
        description="From North through East to detector +y, degrees", allow_inf_nan=False
    )
    airmass: float = Field(description="Airmass", ge=1, le=10)
    gain: float = Field(description="Nominal gain, electrons per DN", gt=0, default=GAIN, allow_inf_nan=False)
    read_noise_e: float = Field(
        description="Nominal noise of one read, electrons", ge=0, default=READ_NOISE_E, allow_inf_nan=False
    )
    shape: tuple[int, int] = Field(description="Rows and columns of the read, pixels")
    subarray: Subarray = Field(description="What of the detector the read holds", default=Subarray.FULL)
    origin: tuple[NonNegativeInt, NonNegativeInt] = Field(
        description="First row and column of the read on the detector, from 0", default=(0, 0)
    )
    guide_windows: tuple[Window, ...] = Field(
        description="Guide windows of the detector that are read besides", default=(), max_length=GUIDE_WINDOWS
    )

    @field_validator("filter")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in FILTERS:
            raise ValueError(f"IRIS has no filter {name!r}")
        return name

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.subarray is Subarray.FULL and self.origin != (0, 0):
            raise ValueError(f"a full frame does not begin at row {self.origin[0]}, column {self.origin[1]}")
        try:
            _ = self.started_at
        except OverflowError as error:
            raise ValueError(f"no reset was {self.read_time_s} s before {self.ended_at}") from error
        return self

    @property
    def window(self) -> Window | None:
        """The window that the read holds; None if it holds the whole detector."""
        return None if self.subarray is Subarray.FULL else Window.at(self.origin, self.shape)

    @property
    def exposure_id(self) -> ExposureId:
        """The exposure that the read belongs to."""
        return ExposureId(self.observation, self.detector, self.exposure_type, self.exposure)

    @property
    def read_id(self) -> ReadId:
        """The read itself."""
        return ReadId(self.exposure_id, self.ramp, self.read)

    @property
    def integration_time_s(self) -> float:
        """From the reset to the end of the last read of a ramp, seconds."""
        return self.reads * self.read_interval_s

    @property
    def started_at(self) -> datetime:
        """When the ramp was reset (UTC), to the millisecond: the same for all reads of a ramp."""
        start = self.ended_at - timedelta(seconds=self.read_time_s)
        milliseconds = round(start.microsecond / 1000)
        return start.replace(microsecond=0) + timedelta(milliseconds=milliseconds)

    def crds_parameters(self) -> dict[str, str]:
        """CRDS matching parameters, as a data model's `get_crds_parameters` would give them."""
        start = self.started_at
        return {
            "meta.instrument.name": "IRIS",
            "meta.instrument.detector": str(self.detector),
            "meta.instrument.mode": str(self.mode),
            "meta.instrument.filter": self.filter,
            "meta.instrument.pupil": self.pupil,
            "meta.instrument.scale": f"{self.scale_arcsec:.3f}",
            "meta.instrument.grating": self.grating,
            "meta.exposure.type": str(self.exposure_type),
            "meta.exposure.sampling_mode": str(self.sampling_mode),
            "meta.exposure.integration_time": f"{self.integration_time_s:.3f}",
            "meta.subarray.name": str(self.subarray),
            "meta.observation.date": f"{start:%Y-%m-%d}",
            "meta.observation.time": start.strftime("%H:%M:%S.%f")[:-3],
        }

    def cards(self) -> Iterator[Card]:
        """The cards of the header, in order."""
        start, (rows, columns) = self.started_at, self.shape
        yield "TELESCOP", "TMT", "telescope"
        yield "INSTRUME", "IRIS", "instrument"
        for field, keyword, comment in _CARDS:
            value = getattr(self, field)
            yield keyword, str(value) if isinstance(value, str) else value, comment
        if self.sampling_mode is SamplingMode.MCDS:
            yield "GRPREADS", self.group_reads, "reads in each of the two groups"
        yield "DET_ID", str(self.detector), "detector"
        yield "NIGHT", self.night.isoformat(), "night, as UT date"
        yield "TIMESYS", "UTC", "time system"
        yield "DATE-OBS", f"{start:%Y-%m-%d}", "date of the reset (UTC)"
        yield "TIME-OBS", start.strftime("%H:%M:%S.%f")[:-3], "time of the reset (UTC)"
        yield "DATE-END", self.ended_at.strftime("%Y-%m-%dT%H:%M:%S.%f"), "end of the read (UTC)"
        yield "RAMPINTT", round(self.integration_time_s, 6), "[s] integration time of a ramp"
        yield "FRM_TIME", round(self.read_interval_s * 1e6), "[us] time to read all pixels"
        yield "FILTWAVE", FILTERS[self.filter].centre_um, "[um] centre of the filter"
        yield "SARRMODE", str(self.subarray), "subarray"
        yield "XSTART", self.origin[1] + 1, "first column, from 1"
        yield "YSTART", self.origin[0] + 1, "first row, from 1"
        yield "XSIZE", columns, "columns"
        yield "YSIZE", rows, "rows"
        for number, window in enumerate(self.guide_windows, 1):
            yield f"ODGW{number}SEC", window.section, "guide window that is read besides"

    @classmethod
    def from_cards(cls, cards: Mapping[str, Any]) -> "ReadHeader":
        """Read the header back.

        Raises
        ------
        CorruptObject
            If a keyword is missing or says what no read can say.
        """
        try:
            return cls.model_validate(
                {field: cards[keyword] for field, keyword, _ in _CARDS}
                | {
                    "night": cards["NIGHT"],
                    "ended_at": f"{cards['DATE-END']}Z",
                    "shape": (cards["YSIZE"], cards["XSIZE"]),
                }
                | _sampling(cards)
                | _subarray(cards)
            )
        except KeyError as missing:
            raise CorruptObject(f"The read's header lacks the keyword {missing}") from missing
        except ValidationError as wrong:
            first = wrong.errors()[0]
            raise CorruptObject(f"The read's header is wrong in {first['loc']}: {first['msg']}") from wrong
