"""Names of things: detectors, observations, exposures, products.

Exposure ids follow TMT's (csw `ExposureId`): ``2034B-007-123-IRIS-IMG1-SCI0-0034`` is semester 2034B, program 7,
observation 123, instrument, detector, exposure type with calibration level 0 (what the detector took), number.
"""

import re
from dataclasses import dataclass
from enum import StrEnum


class Detector(StrEnum):
    """The five detectors of IRIS."""

    IMG1 = "IMG1"
    IMG2 = "IMG2"
    IMG3 = "IMG3"
    IMG4 = "IMG4"
    IFS = "IFS"


IMAGER_DETECTORS = (Detector.IMG1, Detector.IMG2, Detector.IMG3, Detector.IMG4)


class ExposureType(StrEnum):
    """TMT exposure types (csw `ExposureIdType`, `TYPLevel`)."""

    SCI = "SCI"
    SKY = "SKY"
    CAL = "CAL"
    ARC = "ARC"
    IDP = "IDP"
    DRK = "DRK"
    MDK = "MDK"
    FFD = "FFD"
    NFF = "NFF"
    BIA = "BIA"
    TEL = "TEL"
    FLX = "FLX"


class SamplingMode(StrEnum):
    """SAMPMODE: how a ramp's reads become a frame."""

    SINGLE = "SINGLE"
    CDS = "CDS"
    MCDS = "MCDS"
    UTR = "UTR"


class Subarray(StrEnum):
    """SARRMODE: what of a detector a read holds."""

    FULL = "FULL"
    SUB_ARRAY = "SUB_ARRAY"
    ODGW = "ODGW"


class ObservingMode(StrEnum):
    """Observing modes, spelled as in OBSNAME."""

    IMG = "IMG"
    SLI = "SLI"
    LEN = "LEN"


OBSERVATION_PATTERN = r"^[0-9]{4}[AB]-[0-9]{3}-[0-9]{3}$"
PROGRAM_PATTERN = r"^[0-9]{4}[AB]-[0-9]{3}$"
_EXPOSURE = re.compile(
    r"(?P<observation>[0-9]{4}[AB]-[0-9]{3}-[0-9]{3})-IRIS-(?P<detector>IMG[1-4]|IFS)-"
    r"(?P<type>[A-Z]{3})0-(?P<number>[0-9]{4})"
)
_PRODUCT = re.compile(rf"(?P<exposure>{_EXPOSURE.pattern})-L(?P<level>[123])-(?P<kind>[a-z][a-z0-9]*)")
_READ = re.compile(rf"(?P<exposure>{_EXPOSURE.pattern})-L0-(?P<ramp>[0-9]{{4}})-(?P<read>[0-9]{{5}})")


@dataclass(frozen=True, slots=True)
class ExposureId:
    """One exposure of one detector. The four imager detectors of an exposure differ in `detector` only."""

    observation: str
    detector: Detector
    type: ExposureType
    number: int

    @classmethod
    def parse(cls, text: str) -> "ExposureId":
        """Read an exposure id.

        Raises
        ------
        ValueError
            If the text is no IRIS exposure id.
        """
        found = _EXPOSURE.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no IRIS exposure id such as 2034B-007-123-IRIS-IMG1-SCI0-0034")
        return cls(
            found["observation"],
            Detector(found["detector"]),
            ExposureType(found["type"]),
            int(found["number"]),
        )

    @property
    def program(self) -> str:
        """Semester and program, ``2034B-007``."""
        return self.observation[:9]

    def __str__(self) -> str:
        return f"{self.observation}-IRIS-{self.detector}-{self.type}0-{self.number:04d}"


@dataclass(frozen=True, slots=True)
class ProductId:
    """One product of an exposure: its calibration level and kind, ``...-SCI0-0034-L1-raw``."""

    exposure: ExposureId
    level: int
    kind: str

    @classmethod
    def parse(cls, text: str) -> "ProductId":
        """Read a product id.

        Raises
        ------
        ValueError
            If the text is no IRIS product id.
        """
        found = _PRODUCT.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r} is no IRIS product id such as 2034B-007-123-IRIS-IMG1-SCI0-0034-L1-raw")
        return cls(ExposureId.parse(found["exposure"]), int(found["level"]), found["kind"])

    def __str__(self) -> str:
        return f"{self.exposure}-L{self.level}-{self.kind}"


@dataclass(frozen=True, slots=True)
class ReadId:
    """One read of an exposure, ``...-SCI0-0034-L0-0001-00008``: ramps and reads count from 1."""

    exposure: ExposureId
    ramp: int
    read: int

    @classmethod
    def parse(cls, text: str) -> "ReadId":
        """Read the id of a read.

        Raises
        ------
        ValueError
            If the text is no id of an IRIS read.
        """
        found = _READ.fullmatch(text)
        if found is None:
            raise ValueError(
                f"{text!r} is no id of an IRIS read such as 2034B-007-123-IRIS-IMG1-SCI0-0034-L0-0001-00008"
            )
        return cls(ExposureId.parse(found["exposure"]), int(found["ramp"]), int(found["read"]))

    def __str__(self) -> str:
        return f"{self.exposure}-L0-{self.ramp:04d}-{self.read:05d}"
