"""What the CRDS client asks an observatory for: file names, cache locations, spellings of header keywords.

Names and signatures are the client's; it finds them by `crds.core.utils.get_locator_module("tmt")`.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crds import data_file
from crds.core import config, exceptions, rmap, timestamp, utils
from crds.io import abstract

from irisdrs.shared.crds.array_values import wrong_values
from irisdrs.shared.crds.parameters import PARAMETERS, TIME_KEYS, canonical, matching_parameters
from irisdrs.shared.crds.reference_types import reference_types

from . import FILEKINDS, HERE, INSTRUMENTS, TYPES

Header = Mapping[str, Any]
#: Folder, observatory, instrument, filekind, serial number, extension.
Properties = tuple[str, str, str, str, str, str]

get_row_keys_by_instrument = TYPES.get_row_keys_by_instrument
get_item = TYPES.get_item
suffix_to_filekind = TYPES.suffix_to_filekind
filekind_to_suffix = TYPES.filekind_to_suffix
get_all_tpninfos = TYPES.get_all_tpninfos

#: Keywords of reference files that are no matching parameters, as data model path and FITS keyword.
_DESCRIPTIVE = {
    "META.TELESCOPE": "TELESCOP",
    "META.REFTYPE": "REFTYPE",
    "META.USEAFTER": "USEAFTER",
    "META.PEDIGREE": "PEDIGREE",
    "META.AUTHOR": "AUTHOR",
    "META.DESCRIPTION": "DESCRIP",
    "META.HISTORY": "HISTORY",
}
CROSS_STRAPPED_KEYWORDS = {p.path: [p.keyword] for p in PARAMETERS} | {k: [v] for k, v in _DESCRIPTIVE.items()}


def tpn_path(tpn_file: str) -> str:
    """Path of a file of value constraints."""
    return os.path.join(HERE, "tpns", tpn_file)  # noqa: PTH118  (the client joins strings)


def get_extra_tpninfos(refpath: str) -> list[Any]:
    """Constraints beyond the tpn files: none."""
    return []


def project_check(refpath: str, mapping: Any) -> None:
    """Checks beyond the tpn files: whether the numbers can be what the type says.

    Raises
    ------
    ValidationError
        If they cannot; says which, and where the first one is.
    """
    wrong = list(wrong_values(refpath, reference_types()[mapping.filekind]))
    if wrong:
        raise exceptions.ValidationError("; ".join(wrong))


def get_exptypes(instrument: str | None = None) -> list[str]:
    """Exposure types that decide which reference types apply: none do, every type applies to every exposure."""
    return []


def header_to_reftypes(header: Header, context: str) -> list[str]:
    """Reference types for a header; the client reads an empty list as all types."""
    return []


def header_to_pipelines(header: Header, context: str | None = None) -> list[str]:
    """Calibration pipelines for a header: not chosen by CRDS."""
    return []


def match_context_key(key: str) -> str:
    """Keys of contexts are in upper case."""
    return key.upper()


def get_static_pairs() -> list[tuple[str, str]]:
    """Pairs of keywords that mean the same."""
    pairs: list[tuple[str, str]] = abstract.equivalence_dict_to_pairs(CROSS_STRAPPED_KEYWORDS)
    return pairs


def get_cross_strapped_pairs(header: Header) -> list[tuple[str, str]]:
    """Pairs of keywords that mean the same, whatever the header."""
    return get_static_pairs()


def get_file_properties(filename: str) -> tuple[str, str]:
    """Instrument and filekind of a mapping or reference, from its name, else from its header."""
    if config.is_mapping(filename):
        try:
            return decompose_newstyle_name(filename)[2:4]
        except AssertionError:
            return _inside_mapping(filename)
    return get_reference_properties(filename)[2:4]


def decompose_newstyle_name(filename: str) -> Properties:
    """Take a name such as ``tmt_iris_dark_0001.fits`` apart.

    Raises
    ------
    AssertionError
        If it is no such name; the client expects this type.
    """
    path = Path(filename)
    parts = path.stem.split("_")
    names = 1 if path.suffix == ".pmap" else 2 if path.suffix == ".imap" else 3
    if not names <= len(parts) <= names + 1:
        raise AssertionError(f"Invalid CRDS file name {filename!r}")
    serial = parts[names] if len(parts) > names else ""
    observatory, instrument, filekind = [*parts[:names], "", ""][:3]
    known = instrument in [*INSTRUMENTS, ""] and filekind in [*FILEKINDS, ""]
    if observatory != "tmt" or not known or not re.fullmatch(r"[0-9]*", serial):
        raise AssertionError(f"Invalid observatory, instrument, type or number in {filename!r}")
    return str(path.parent), observatory, instrument, filekind, serial, path.suffix


def get_reference_properties(filename: str) -> Properties:
    """Take a reference file's name apart; read its header if the name says nothing."""
    try:
        return decompose_newstyle_name(filename)
    except AssertionError:
        return ref_properties_from_header(filename)


def ref_properties_from_header(filename: str) -> Properties:
    """Instrument and filekind that a reference file's header states.

    Raises
    ------
    CrdsNamingError
        If it states none that TMT knows.
    """
    header = data_file.get_free_header(filename, (), None, "tmt")
    instrument = utils.header_to_instrument(header).lower()
    filekind = utils.get_any_of(header, ["REFTYPE", "META.REFTYPE"], "UNDEFINED").lower()
    if instrument not in INSTRUMENTS or filekind not in FILEKINDS:
        raise exceptions.CrdsNamingError(
            f"{filename!r} says INSTRUME={instrument!r}, REFTYPE={filekind!r}: the instrument must be one of"
            f" {', '.join(INSTRUMENTS)}, the type one of {', '.join(FILEKINDS)}"
        )
    path = Path(filename)
    return str(path.parent), "tmt", instrument, filekind, path.stem, path.suffix


def _inside_mapping(filename: str) -> tuple[str, str]:
    mapping = rmap.load_mapping(filename)
    return getattr(mapping, "instrument", ""), getattr(mapping, "filekind", "")


def reference_keys_to_dataset_keys(mapping: Any, header: Header) -> dict[str, Any]:
    """Say in a dataset's words what a reference file's header says: USEAFTER is its date and time of observation.

    Raises
    ------
    ValidationError
        If USEAFTER is no time.
    """
    result = dict(abstract.cross_strap_header(header))
    if "USEAFTER" in result:
        try:
            result.update(zip(TIME_KEYS, timestamp.reformat_date(result["USEAFTER"]).split(), strict=True))
        except ValueError as error:
            raise exceptions.ValidationError(
                f"USEAFTER {result['USEAFTER']!r} is no time such as 2030-01-01T00:00:00"
            ) from error
    return {name: canonical(name.upper(), str(value)) for name, value in result.items()}


def condition_matching_header(mapping: Any, header: Header) -> dict[str, Any]:
    """Bring header values into the form in which mappings hold them."""
    conditioned: dict[str, Any] = utils.condition_header(header)
    return conditioned


def fits_to_parkeys(header: Header) -> dict[str, str]:
    """Name a header's values by data model paths, and round the numbers among them."""
    return matching_parameters(header)


def get_env_prefix(instrument: str) -> str:
    """Prefix of references that are named in headers."""
    return "crds://"


def filekind_to_keyword(filekind: str) -> str:
    """FITS keyword that records the reference of a type, e.g. ``R_DARK``."""
    return reference_types()[filekind.lower()].keyword


def locate_file(refname: str, mode: str | None = None, parameters: Header | None = None) -> str:
    """Path of a reference in the cache. There is one instrument, so nothing else decides it."""
    return os.path.join(locate_dir("iris", mode), Path(refname).name)  # noqa: PTH118  (the client joins strings)


def locate_dir(instrument: str, mode: str | None = None) -> str:
    """Folder of an instrument's references in the cache."""
    chosen = mode or config.get_crds_ref_subdir_mode(observatory="tmt")
    config.check_crds_ref_subdir_mode(chosen)
    root = Path(config.get_crds_refpath("tmt"))
    return str(root if chosen == "flat" else root / instrument.lower())
