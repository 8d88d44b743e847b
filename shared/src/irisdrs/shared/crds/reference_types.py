"""The table of reference types: which parameters choose a reference of each type, and what its file holds.

A new type is one entry here. What the `crds` client itself reads of it, the type specification and the constraints of
`crds certify`, is written from this table by `irisdrs.shared.crds.observatory_files`.

One mapping has one list of keys. Where imager and spectrograph are matched on different ones it has all of both, and
what does not apply to a detector is N/A in its rows and in questions. The mapping says so itself
(``parkey_relevance``), so no file and no header needs to.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from irisdrs.shared.crds.parameters import TIME_KEYS
from irisdrs.shared.identifiers import Detector, ObservingMode

DETECTOR = "META.INSTRUMENT.DETECTOR"
MODE = "META.INSTRUMENT.MODE"
FILTER = "META.INSTRUMENT.FILTER"
PUPIL = "META.INSTRUMENT.PUPIL"
SCALE = "META.INSTRUMENT.SCALE"
GRATING = "META.INSTRUMENT.GRATING"
SAMPLING = "META.EXPOSURE.SAMPLING_MODE"
INTEGRATION = "META.EXPOSURE.INTEGRATION_TIME"
SUBARRAY = "META.SUBARRAY.NAME"

IMG, SLI, LEN = ObservingMode

#: Reference types that the readout asks for, whatever the exposure.
READOUT_TYPES = ("gain", "mask", "nonlincoeff", "readnoise", "saturation")

#: Reference types that the reduction of an imager frame asks for.
REDUCTION_TYPES = ("dark", "flat", "gain", "mask")


class Selector(StrEnum):
    """How the time of an exposure chooses among references that match otherwise."""

    USE_AFTER = "UseAfter"
    CLOSEST_TIME = "ClosestTime"


class Values(StrEnum):
    """What the numbers of an array must be, where the file's DQ does not say DO_NOT_USE."""

    ANY = "any"
    FINITE = "finite"
    NOT_NEGATIVE = "finite and not negative"
    POSITIVE = "finite and positive"


@dataclass(frozen=True, slots=True)
class Plane:
    """An array that a reference file holds.

    Attributes
    ----------
    name : str
        Of its extension.
    dtype : str
        NumPy's name.
    dimensions : int
    values : Values
    length : int, optional
        Of the first axis.
    """

    name: str
    dtype: str
    dimensions: int
    values: Values = Values.ANY
    length: int | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table that a reference file holds.

    Attributes
    ----------
    columns : tuple of str
        That must be there; others may.
    name : str
        Of its extension.
    """

    columns: tuple[str, ...]
    name: str = "TABLE"


@dataclass(frozen=True, slots=True)
class ReferenceType:
    """One type of reference.

    Attributes
    ----------
    name : str
        Lower case, e.g. ``dark``; equals REFTYPE in the files.
    description : str
    imager, spectrograph : tuple of str
        Data model paths, upper case, that are matched for the detectors of either.
    planes : tuple of Plane
    tables : tuple of Table
    modes : tuple of ObservingMode
        In which the type is asked for.
    selector : Selector
    recorded_as : str
        FITS keyword of a product that records which reference was used; empty for ``R_`` and the name, cut to eight.
    model : str
        Data model that the pipelines open the file as; empty where none does yet.
    time_keys : tuple of str
        Data model paths of the time that is compared with USEAFTER.
    """

    name: str
    description: str
    imager: tuple[str, ...] = ()
    spectrograph: tuple[str, ...] = ()
    planes: tuple[Plane, ...] = ()
    tables: tuple[Table, ...] = ()
    modes: tuple[ObservingMode, ...] = tuple(ObservingMode)
    selector: Selector = Selector.USE_AFTER
    recorded_as: str = ""
    model: str = ""
    time_keys: tuple[str, ...] = TIME_KEYS

    @property
    def keyword(self) -> str:
        """FITS keyword of a product that records which reference was used."""
        return self.recorded_as or f"R_{self.name.upper()}"[:8]

    @property
    def keys(self) -> tuple[str, ...]:
        """Data model paths that are matched, upper case: those of the imager, then the others."""
        return tuple(dict.fromkeys((*self.imager, *self.spectrograph)))

    @property
    def divider(self) -> str | None:
        """Key by whose value the keys of imager or spectrograph are matched; None where they are the same."""
        if not self.imager or not self.spectrograph or self.imager == self.spectrograph:
            return None
        return DETECTOR if DETECTOR in self.imager else MODE

    def applying_keys(self, divided_by: str) -> tuple[str, ...]:
        """Keys that are matched where the divider has this value; all others are N/A, as `key_relevance` says."""
        return self.spectrograph if divided_by in {Detector.IFS, SLI, LEN} else self.imager

    @property
    def extra_keys(self) -> tuple[str, ...]:
        """Paths that decide whether the type applies at all, and are not matched."""
        return (MODE,) if self.modes != tuple(ObservingMode) and MODE not in self.keys else ()

    @property
    def relevance(self) -> str:
        """Rule of the mapping for when the type applies, in the client's words; ``always`` where it does."""
        if self.modes == tuple(ObservingMode):
            return "always"
        if len(self.modes) == 1:
            return f"({MODE} == '{self.modes[0]}')"
        return f"({MODE} in {tuple(map(str, self.modes))})"

    @property
    def key_relevance(self) -> Mapping[str, str]:
        """Rules of the mapping for when a key is matched, by key; keys that always are have none."""
        if self.divider is None:
            return {}
        if self.divider == DETECTOR:
            of_the_imager, of_the_other = f"({DETECTOR} != '{Detector.IFS}')", f"({DETECTOR} == '{Detector.IFS}')"
        else:
            of_the_imager, of_the_other = f"({MODE} == '{IMG}')", f"({MODE} != '{IMG}')"
        rules = {key: of_the_imager for key in self.imager if key not in self.spectrograph}
        return rules | {key: of_the_other for key in self.spectrograph if key not in self.imager}

    @property
    def mapping_header(self) -> dict[str, object]:
        """What the header of every mapping of the type says of the type, in the client's words."""
        header: dict[str, object] = {
            "classes": ("Match", str(self.selector)),
            "extra_keys": self.extra_keys,
            "filekind": self.name.upper(),
            "instrument": "IRIS",
            "parkey": (self.keys, self.time_keys),
            "parkey_relevance": dict(self.key_relevance),
            "rmap_relevance": self.relevance,
        }
        return {name: value for name, value in header.items() if value}


_DQ = Plane("DQ", "uint32", 2)
_ERR = Plane("ERR", "float32", 2, Values.NOT_NEGATIVE)


def _image(values: Values) -> Plane:
    return Plane("SCI", "float32", 2, values)


_TABLE = (
    ReferenceType(
        "dark",
        "Dark current, DN/s",
        imager=(DETECTOR, SAMPLING, INTEGRATION, SUBARRAY),
        spectrograph=(DETECTOR, SAMPLING, INTEGRATION, SUBARRAY),
        planes=(_image(Values.FINITE), _ERR, _DQ),
        model="DarkModel",
    ),
    ReferenceType(
        "flat",
        "Relative response, median about 1",
        imager=(DETECTOR, FILTER, PUPIL),
        spectrograph=(DETECTOR, MODE, SCALE, FILTER, GRATING),
        planes=(_image(Values.POSITIVE), _ERR, _DQ),
        model="FlatModel",
    ),
    ReferenceType(
        "mask",
        "Bad pixels and reference pixels, data quality flags",
        imager=(DETECTOR,),
        spectrograph=(DETECTOR,),
        planes=(_DQ,),
        model="MaskModel",
    ),
    ReferenceType(
        "nonlincoeff",
        "Coefficients of the linearity correction",
        imager=(DETECTOR,),
        spectrograph=(DETECTOR,),
        planes=(Plane("COEFFS", "float32", 3, Values.FINITE, length=6), _DQ),
        recorded_as="R_LINCOE",
        model="NonlinCoeffModel",
    ),
    ReferenceType(
        "saturation",
        "Saturation threshold, DN",
        imager=(DETECTOR, SAMPLING),
        spectrograph=(DETECTOR, SAMPLING),
        planes=(_image(Values.POSITIVE), _DQ),
        model="SaturationModel",
    ),
    ReferenceType(
        "gain",
        "Gain, electron/DN",
        imager=(DETECTOR,),
        spectrograph=(DETECTOR,),
        planes=(_image(Values.POSITIVE),),
        model="GainModel",
    ),
    ReferenceType(
        "refpix",
        "Kernels of the reference pixels: side, stripe of columns, tap",
        imager=(DETECTOR,),
        spectrograph=(DETECTOR,),
        planes=(Plane("KERNELS", "float32", 3, Values.FINITE, length=2),),
        model="RefpixModel",
    ),
    ReferenceType(
        "readnoise",
        "Noise of one read, DN",
        imager=(DETECTOR, SAMPLING),
        spectrograph=(DETECTOR, SAMPLING),
        planes=(_image(Values.NOT_NEGATIVE),),
        model="ReadnoiseModel",
    ),
    ReferenceType(
        "sky",
        "Sky background, DN/s",
        imager=(DETECTOR, FILTER, INTEGRATION),
        spectrograph=(DETECTOR, FILTER, INTEGRATION, SCALE, GRATING),
        planes=(_image(Values.FINITE), _ERR, _DQ),
        selector=Selector.CLOSEST_TIME,
    ),
    ReferenceType(
        "rectmat",
        "Profiles of the lenslets' spectra, trimmed to rows from BOTTOM on: spectrum, row, column",
        spectrograph=(DETECTOR, SCALE, FILTER, GRATING),
        planes=(Plane("PROFILE", "float32", 3, Values.NOT_NEGATIVE), Plane("BOTTOM", "int32", 2)),
        modes=(LEN,),
    ),
    ReferenceType(
        "trace",
        "Edges of the slices, Legendre coefficients: slice, edge, coefficient",
        spectrograph=(DETECTOR, SCALE, FILTER, GRATING),
        planes=(Plane("COEFFS", "float64", 3, Values.FINITE),),
        modes=(SLI,),
    ),
    ReferenceType(
        "wavecal",
        "Wavelengths, two-dimensional Legendre coefficients of each spectrum or slice, metres",
        spectrograph=(DETECTOR, MODE, SCALE, FILTER, GRATING),
        planes=(Plane("COEFFS", "float64", 3, Values.FINITE),),
        modes=(SLI, LEN),
        selector=Selector.CLOSEST_TIME,
    ),
    ReferenceType(
        "distortion",
        "Distortion of the imager, polynomial coefficients: axis, power of y, power of x",
        imager=(DETECTOR, FILTER),
        planes=(Plane("COEFFS", "float64", 3, Values.FINITE, length=2),),
        modes=(IMG,),
    ),
    ReferenceType(
        "photom",
        "Flux of one electron per second",
        imager=(DETECTOR, FILTER, PUPIL),
        spectrograph=(DETECTOR, MODE, SCALE, GRATING),
        tables=(Table(("WAVELENGTH", "PHOTFLAM")),),
    ),
    ReferenceType(
        "slicemap",
        "Where each slice lies on the sky",
        spectrograph=(DETECTOR, SCALE),
        tables=(Table(("SLICE", "X", "Y")),),
        modes=(SLI,),
    ),
    ReferenceType(
        "lensmap",
        "Where each lenslet lies on the sky",
        spectrograph=(DETECTOR, SCALE),
        tables=(Table(("SPECTRUM", "X", "Y")),),
        modes=(LEN,),
    ),
    ReferenceType(
        "filteroffset",
        "Shift of the image by a filter or grating",
        imager=(MODE, FILTER),
        spectrograph=(MODE, SCALE, GRATING),
        tables=(Table(("X_OFFSET", "Y_OFFSET")),),
    ),
    ReferenceType(
        "adccoef",
        "What the atmospheric dispersion corrector leaves, by wavelength",
        imager=(MODE, FILTER),
        spectrograph=(MODE, SCALE, GRATING),
        tables=(Table(("WAVELENGTH", "X_COEFF", "Y_COEFF")),),
    ),
    ReferenceType(
        "apcorr",
        "Aperture corrections, by radius",
        imager=(MODE, FILTER),
        spectrograph=(MODE, SCALE, GRATING),
        tables=(Table(("RADIUS", "FACTOR")),),
    ),
    ReferenceType(
        "telluric",
        "Transmission of the atmosphere",
        spectrograph=(MODE, SCALE, FILTER, GRATING),
        tables=(Table(("WAVELENGTH", "TRANSMISSION")),),
        modes=(SLI, LEN),
        selector=Selector.CLOSEST_TIME,
    ),
    ReferenceType(
        "psf",
        "Image of a point source",
        imager=(DETECTOR, FILTER),
        spectrograph=(DETECTOR, MODE, SCALE, FILTER, GRATING),
        planes=(_image(Values.FINITE),),
        selector=Selector.CLOSEST_TIME,
    ),
    ReferenceType(
        "linelist",
        "Lines of the arc lamps and of the sky, vacuum wavelengths, metres",
        spectrograph=(FILTER, GRATING),
        tables=(Table(("WAVELENGTH", "NAME")),),
        modes=(SLI, LEN),
    ),
    ReferenceType(
        "drizpars",
        "Parameters of drizzling, by number of images",
        imager=(MODE,),
        spectrograph=(MODE,),
        tables=(Table(("NUMIMAGES", "PIXFRAC", "SCALE")),),
    ),
)

_BY_NAME = MappingProxyType({kind.name: kind for kind in _TABLE})


def reference_types() -> Mapping[str, ReferenceType]:
    """All reference types of IRIS, by name."""
    return _BY_NAME
