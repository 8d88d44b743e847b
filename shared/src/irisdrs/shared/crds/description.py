"""What a reference file says of itself: type, matching values and the time after which it is used."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from irisdrs.shared.crds.parameters import BY_PATH, canonical
from irisdrs.shared.crds.reference_types import ReferenceType, reference_types
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import Detector

_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,64}", re.ASCII)
_WILDCARDS = {"ANY": "*", "N/A": "N/A"}  # as mappings spell them


@dataclass(frozen=True, slots=True)
class Description:
    """Under which key a reference stands in the mapping of its type.

    Attributes
    ----------
    type : ReferenceType
    values : tuple of str
        Values of the type's keys, in the form in which they match; N/A for those that do not apply.
    useafter : str
        ``2030-01-01 00:00:00``, UTC.
    """

    type: ReferenceType
    values: tuple[str, ...]
    useafter: str


def describe_reference(path: Path, header: Mapping[str, object]) -> Description:
    """Read a reference's place in its mapping from its header.

    Parameters
    ----------
    path : Path
        For messages.
    header : mapping
        FITS keywords of the primary header.

    Raises
    ------
    Fatal
        If a keyword is missing or has a value that cannot match anything.
    """
    instrument = _text(path, header, "INSTRUME")
    if instrument != "IRIS":
        raise _refused(path, f"INSTRUME is {instrument!r}, not 'IRIS'")
    name = _text(path, header, "REFTYPE").lower()
    kind = reference_types().get(name)
    if kind is None:
        raise _refused(path, f"REFTYPE {name!r} is none of {', '.join(sorted(reference_types()))}")
    applying = kind.keys if kind.divider is None else kind.applying_keys(_value(path, header, kind.divider))
    values = tuple(_value(path, header, key) if key in applying else _WILDCARDS["N/A"] for key in kind.keys)
    return Description(kind, values, _useafter(path, _text(path, header, "USEAFTER")))


def _value(path: Path, header: Mapping[str, object], key: str) -> str:
    keyword = BY_PATH[key].keyword
    value = _text(path, header, keyword).upper()
    if value in _WILDCARDS:
        return _WILDCARDS[value]
    if not _VALUE.fullmatch(value):
        raise _refused(path, f"{keyword} = {value!r} can match nothing")
    if key == "META.INSTRUMENT.DETECTOR" and value not in set(Detector):
        raise _refused(path, f"DETECTOR {value!r} is none of {', '.join(Detector)}")
    matched = canonical(key, value)
    if BY_PATH[key].decimals is not None and not re.fullmatch(r"[0-9]+\.[0-9]+", matched):
        raise _refused(path, f"{keyword} = {value!r} is no number")
    return matched


def _useafter(path: Path, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:  # the first and the last day there are have no other time zones
        raise _refused(path, f"USEAFTER {text!r} is no date such as 2030-01-01T00:00:00") from error
    return moment.isoformat(sep=" ")


def _text(path: Path, header: Mapping[str, object], keyword: str) -> str:
    value = str(header.get(keyword, "")).strip()
    if not value:
        raise _refused(path, f"{keyword} is missing")
    return value


def _refused(path: Path, reason: str) -> Fatal:
    return Fatal(
        f"{path} is no reference that CRDS can match: {reason}.",
        remedy="Correct the header of the file; nothing was written.",
    )
