"""What the `crds` client reads of the reference types, written from their table: specifications and constraints.

``python -m irisdrs.shared.crds.observatory_files`` writes the files of ``observatory/tmt`` anew.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from irisdrs.shared.crds import former_names
from irisdrs.shared.crds.parameters import BY_PATH
from irisdrs.shared.crds.reference_types import (
    DETECTOR,
    FILTER,
    GRATING,
    INTEGRATION,
    MODE,
    SAMPLING,
    SCALE,
    SUBARRAY,
    Plane,
    ReferenceType,
    Table,
    reference_types,
)
from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector, ObservingMode, SamplingMode, Subarray
from irisdrs.shared.instrument import (
    FILTERS,
    GRATINGS,
    IMAGER_SCALE_ARCSEC,
    LENSLET_SCALES_ARCSEC,
    SLICER_SCALES_ARCSEC,
)

FOLDER = Path(__file__).parent / "observatory" / "tmt"

_HEAD = "# Written by irisdrs.shared.crds.observatory_files from the table of reference types.\n"
_SCALES: Mapping[ObservingMode, tuple[float, ...]] = {
    ObservingMode.IMG: (IMAGER_SCALE_ARCSEC,),
    ObservingMode.SLI: SLICER_SCALES_ARCSEC,
    ObservingMode.LEN: LENSLET_SCALES_ARCSEC,
}


def _scales(*modes: ObservingMode) -> tuple[str, ...]:
    return tuple(f"{scale:.3f}" for scale in sorted({scale for mode in modes for scale in _SCALES[mode]}))


#: Values that a key may have in references, where they are known, by data model path.
_VOCABULARY: Mapping[str, tuple[str, ...]] = {
    DETECTOR: (*Detector, "ANY"),
    MODE: (*ObservingMode, "ANY"),
    FILTER: (*FILTERS, "ANY"),
    SCALE: _scales(*ObservingMode),
    GRATING: (*GRATINGS, "ANY"),
    SAMPLING: (*SamplingMode, "ANY", "N/A"),  # N/A gives way to a reference of the very mode
    SUBARRAY: (*Subarray, "ANY"),
}

#: Longest integration time that a reference may say, seconds: a night.
_NIGHT_S = 86_400


def observatory_files() -> dict[Path, str]:
    """Content of every file that follows from the table, by its path."""
    specs = {"iris": {name: _specification(kind) for name, kind in sorted(reference_types().items())}}
    files = {
        FOLDER / "specs" / "combined_specs.json": json.dumps(specs, indent=1) + "\n",
        FOLDER / "substitutions.dat": json.dumps({"iris": {DETECTOR: _substitutions()}}, indent=1) + "\n",
        FOLDER / "tpns" / "iris_ld.tpn": _lines(_mapping_values()),
    }
    return files | {
        FOLDER / "tpns" / _constraints_file(kind): _lines(_constraints(kind)) for kind in reference_types().values()
    }


def _specification(kind: ReferenceType) -> dict[str, object]:
    """The client's own type specification: the header of the type's mapping, and where its constraints are."""
    return {
        **kind.mapping_header,
        "mapping": "REFERENCE",
        "observatory": "TMT",
        "filetype": kind.name,
        "suffix": kind.name,
        "file_ext": ".fits",
        "text_descr": kind.description,
        "tpn": _constraints_file(kind),
        "ld_tpn": "iris_ld.tpn",
        "unique_rowkeys": None,
    }


def _substitutions() -> dict[str, str]:
    """What the client writes into a mapping for the former names of the detectors in a reference's header."""
    keyword = BY_PATH[DETECTOR].keyword
    return {f"{keyword}=='{former}'": name for former, name in former_names.DETECTORS.items()}


def _constraints_file(kind: ReferenceType) -> str:
    return f"iris_{kind.name}.tpn"


def _lines(lines: Iterator[tuple[str, ...]]) -> str:
    return _HEAD + "".join(" ".join(line) + "\n" for line in lines)


def _mapping_values() -> Iterator[tuple[str, ...]]:
    """Values that matching parameters may have in mappings; N/A and * always may."""
    for path, values in _VOCABULARY.items():
        yield path, "H", "C", "O", ",".join(values)


def _constraints(kind: ReferenceType) -> Iterator[tuple[str, ...]]:
    """What `crds certify` asks of a file of a type; by FITS keywords, which are what its author knows."""
    yield "include", "iris_reference.tpn"
    yield "REFTYPE", "H", "C", "R", kind.name.upper()
    if kind.model:
        yield "DATAMODL", "H", "S", "R", kind.model
    for key in (*kind.keys, *kind.extra_keys):
        yield _key_constraint(kind, key)
    for plane in kind.planes:
        yield from _plane_constraints(kind, plane)
    for table in kind.tables:
        yield from _table_constraints(table)


def _key_constraint(kind: ReferenceType, key: str) -> tuple[str, ...]:
    presence = kind.key_relevance.get(key, "R").replace(" ", "")
    for path in (DETECTOR, MODE):
        presence = presence.replace(path, BY_PATH[path].keyword)
    if key == INTEGRATION:
        return BY_PATH[key].keyword, "H", "R", presence, f"0:{_NIGHT_S}"
    values = ",".join(_allowed(kind, key))
    return BY_PATH[key].keyword, "H", "R" if key == SCALE else "C", presence, *([values] if values else [])


def _allowed(kind: ReferenceType, key: str) -> tuple[str, ...]:
    """Values that a key may have in files of a type."""
    if key == DETECTOR and not kind.spectrograph:
        return (*IMAGER_DETECTORS, "ANY")
    if key == DETECTOR and not kind.imager:
        return (Detector.IFS,)
    if key == MODE and kind.divider == DETECTOR:
        return (ObservingMode.SLI, ObservingMode.LEN, "ANY")  # matched for the spectrograph only
    if key == MODE and len(kind.modes) < len(ObservingMode):
        return kind.modes
    if key == SCALE:
        return _scales(*kind.modes)
    return _VOCABULARY.get(key, ())


def _plane_constraints(kind: ReferenceType, plane: Plane) -> Iterator[tuple[str, ...]]:
    array = f"{plane.name}_ARRAY"
    yield plane.name, "A", "X", "R", f"(ndim({array},{plane.dimensions}))"
    yield plane.name, "A", "X", "R", f"({array}.DATA_TYPE=='{plane.dtype}')"
    if plane.length is not None:
        yield plane.name, "A", "X", "R", f"({array}.SHAPE[0]=={plane.length})"
    first = kind.planes[0]
    if plane.name in {"ERR", "DQ"} and plane is not first:
        yield plane.name, "A", "X", "R", f"({array}.SHAPE=={first.name}_ARRAY.SHAPE[-2:])"


def _table_constraints(table: Table) -> Iterator[tuple[str, ...]]:
    array = f"{table.name}_ARRAY"
    columns = ",".join(f"'{name}'" for name in table.columns)
    yield table.name, "A", "X", "R", f"(has_columns({array},[{columns}]))"
    yield table.name, "A", "X", "R", f"({array}.SHAPE[0]>0)"


def write_observatory_files() -> None:
    """Write the files, and remove constraints of types that are no more."""
    files = observatory_files()
    kept = {*files, FOLDER / "tpns" / "iris_reference.tpn"}
    for path in set((FOLDER / "tpns").iterdir()) - kept:
        path.unlink()
    for path, content in files.items():
        path.write_text(content)


if __name__ == "__main__":
    write_observatory_files()
