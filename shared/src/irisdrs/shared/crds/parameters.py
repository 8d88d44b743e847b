"""Matching parameters: the data model paths that CRDS matches on, the FITS keywords that hold them, their text form."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One matching parameter.

    Attributes
    ----------
    path : str
        Data model path in upper case, as it is spelled in mappings.
    keyword : str
        FITS keyword.
    decimals : int, optional
        For numbers: they match as text, so they are rounded to this many decimals.
    """

    path: str
    keyword: str
    decimals: int | None = None


PARAMETERS = (
    Parameter("META.INSTRUMENT.NAME", "INSTRUME"),
    Parameter("META.INSTRUMENT.DETECTOR", "DETECTOR"),
    Parameter("META.INSTRUMENT.MODE", "OBSMODE"),
    Parameter("META.INSTRUMENT.FILTER", "FILTER"),
    Parameter("META.INSTRUMENT.PUPIL", "PUPIL"),
    Parameter("META.INSTRUMENT.SCALE", "IFSSCALE", decimals=3),
    Parameter("META.INSTRUMENT.GRATING", "IFSRES"),
    Parameter("META.EXPOSURE.TYPE", "EXPTYPE"),
    Parameter("META.EXPOSURE.SAMPLING_MODE", "SAMPMODE"),
    Parameter("META.EXPOSURE.INTEGRATION_TIME", "RAMPINTT", decimals=3),  # 1 ms, far below the time of a read
    Parameter("META.SUBARRAY.NAME", "SARRMODE"),
    Parameter("META.OBSERVATION.DATE", "DATE-OBS"),
    Parameter("META.OBSERVATION.TIME", "TIME-OBS"),
)
BY_PATH = {parameter.path: parameter for parameter in PARAMETERS}
BY_KEYWORD = {parameter.keyword: parameter for parameter in PARAMETERS}

#: Time key of every reference type: the start of the exposure.
TIME_KEYS = ("META.OBSERVATION.DATE", "META.OBSERVATION.TIME")


def canonical(path: str, value: str) -> str:
    """Text form of a value in which it matches: numbers rounded, ``5.7600001`` becomes ``5.76``."""
    parameter = BY_PATH.get(path)
    if parameter is None or parameter.decimals is None:
        return value
    try:
        return str(round(float(value), parameter.decimals))
    except ValueError:
        return value  # ANY, N/A, UNDEFINED


def matching_parameters(header: Mapping[str, object]) -> dict[str, str]:
    """Translate FITS keywords or data model paths of any case into upper-case paths with canonical values.

    Names that are no matching parameter are kept, in upper case, because mappings may use further ones.
    """
    found: dict[str, str] = {}
    for name, value in header.items():
        key = name.upper()
        parameter = BY_KEYWORD.get(key)
        path = parameter.path if parameter else key
        found[path] = canonical(path, str(value))
    return found
