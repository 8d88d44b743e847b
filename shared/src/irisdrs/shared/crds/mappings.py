"""CRDS mappings: what a context chooses, read and written through the `crds` client.

The client must know TMT (`irisdrs.shared.crds.register`) before any of these functions is called, and it is not
thread-safe: `CRDS_LOCK` guards every call of it in this process.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from crds.core import rmap, utils
from crds.core.exceptions import CrdsError

from irisdrs.shared.crds.cache import staged
from irisdrs.shared.crds.mapping_text import check_mapping_file
from irisdrs.shared.crds.names import is_context_name, is_reference_name, is_safe_name
from irisdrs.shared.crds.reference_types import ReferenceType, reference_types
from irisdrs.shared.errors import Fatal

CRDS_LOCK = threading.RLock()

#: What the client raises for a mapping that is none.
DAMAGES = (
    *(CrdsError, OSError, ValueError, TypeError, KeyError, AssertionError, AttributeError, SyntaxError),
    RecursionError,  # a rule in a header with a thousand signs
)

#: What a reference mapping chooses: (values of the keys, use after) -> name of a reference file.
Rows = dict[tuple[tuple[str, ...], str], str]


def load_context(folder: Path, context: str, loaded: Mapping[str, Any] = MappingProxyType({})) -> Any:
    """Load a context and everything below it, by absolute path.

    The client keeps mappings by name, for the whole process; loading by path keeps two caches apart. Every name inside
    is checked before the file that it names is opened. The client checks each mapping's own SHA-1.

    Parameters
    ----------
    folder : Path
        ``mappings/tmt`` of a cache.
    context : str
        Name of a pmap.
    loaded : mapping of str to crds.core.rmap.ReferenceMapping
        Reference mappings of the same folder that were loaded before, by name: they are not read again.

    Returns
    -------
    crds.core.rmap.PipelineContext

    Raises
    ------
    Fatal
        If the context does not exist, is damaged, or holds a name that is none of a CRDS file.
    """
    if not is_context_name(context):
        raise Fatal(f"{context!r} is no name of a CRDS context.", remedy="Contexts have names such as tmt_0001.pmap.")
    with CRDS_LOCK:
        try:
            pipeline = load_mapping(folder, context)
            for instrument, name in mappings_below(pipeline).items():
                pipeline.selections[instrument] = imap = load_mapping(folder, name)
                for kind, below in mappings_below(imap).items():
                    imap.selections[kind] = mapping = loaded.get(below) or load_mapping(folder, below)
                    check_reference_names(mapping)
        except FileNotFoundError as error:
            raise Fatal(
                f"CRDS context {context} is not in {folder}, or not complete: {error}.",
                remedy="Deliver its mappings, or name another context.",
            ) from error
        # A mapping of another kind than its place asks for lacks attributes.
        except (*DAMAGES, SystemExit) as error:
            raise Fatal(
                f"CRDS context {context} in {folder} is damaged: {error}.",
                remedy="Restore its mappings from where they came.",
            ) from error
        return pipeline


def names_below(folder: Path, name: str) -> list[str]:
    """Names of the mappings that a pmap or imap chooses from, each of them checked; none for an rmap.

    Raises
    ------
    Fatal
        If the mapping is damaged, or holds a name that is none of a CRDS file, or none of the mappings below its kind.
    """
    below = {".pmap": ".imap", ".imap": ".rmap"}.get(Path(name).suffix)
    if below is None:
        return []
    names = list(mappings_below(_loaded(folder, name)).values())
    if wrong := [each for each in names if not each.endswith(below)]:
        raise Fatal(
            f"CRDS mapping {name} in {folder} is damaged: it names {wrong[0]}.", remedy="Restore it from where it came."
        )
    return names


def reference_names(folder: Path, name: str) -> list[str]:
    """Names of all references that an rmap may choose, each of them checked; raises as `names_below` does."""
    mapping = _loaded(folder, name)
    check_reference_names(mapping)
    names: list[str] = mapping.reference_names()
    return names


def _loaded(folder: Path, name: str) -> Any:
    with CRDS_LOCK:
        try:
            return load_mapping(folder, name)
        except (*DAMAGES, SystemExit) as error:
            raise Fatal(
                f"CRDS mapping {name} in {folder} is damaged: {error}.", remedy="Restore it from where it came."
            ) from error


def load_mapping(folder: Path, name: str, *, checksum: bool = True) -> Any:
    """Load one mapping by absolute path; those below it are loaded when they are needed.

    Parameters
    ----------
    folder : Path
    name : str
    checksum : bool
        Whether its own SHA-1 must be right.

    Raises
    ------
    FileNotFoundError
    Fatal
        If its text is none that the client may read (`mapping_text`).
    """
    check_mapping_file(folder / name)
    return rmap.load_mapping(name, path=str(folder), **({} if checksum else {"ignore_checksum": True}))


def mappings_below(mapping: Any) -> dict[str, str]:
    """Names of the mappings that a context or instrument mapping chooses, by what it chooses them for.

    Raises
    ------
    Fatal
        If one is no name of a CRDS file.
    """
    names = {key: value for key, value in mapping.selector.items() if not rmap.is_special_value(value)}
    for name in names.values():
        if not is_safe_name(name):
            raise _unsafe(name, mapping.basename)
    return names


def check_reference_names(mapping: Any) -> None:
    """Make sure that all that a reference mapping chooses can be references.

    Raises
    ------
    Fatal
        If one is no name of a reference.
    """
    for name in mapping.reference_names():
        if not is_reference_name(name):
            raise _unsafe(name, mapping.basename)


def rows_of(mapping: Any) -> Rows:
    """What a reference mapping chooses."""
    # Not the client's `file_matches`, which goes through all rows for each file: minutes for 12,000 of them.
    return {
        (tuple(map(str, values)), " ".join(useafter)): name
        for values, below in mapping.selector.todict()["selections"]
        if isinstance(below, dict)  # else N/A: there is no file
        for useafter, name in below["selections"]
    }


def adapted_rows(mapping: Any) -> Rows:
    """What a reference mapping chooses, by the keys that its type has now; keys that it did not match on are N/A.

    Raises
    ------
    Fatal
        If it matches on keys that its type has no longer.
    """
    kind = reference_types()[mapping.filekind]
    keys, time_keys = mapping.parkey
    if not set(keys) <= set(kind.keys) or tuple(time_keys) != kind.time_keys:
        raise Fatal(
            f"{mapping.basename} matches on {mapping.parkey}, references of type {kind.name} match on {kind.keys}.",
            remedy="Build the context in a new cache.",
        )
    places = [keys.index(key) if key in keys else None for key in kind.keys]
    return {
        (tuple("N/A" if place is None else values[place] for place in places), useafter): name
        for (values, useafter), name in rows_of(mapping).items()
    }


def write_reference_mapping(folder: Path, name: str, parent: str, kind: ReferenceType, rows: Rows) -> None:
    """Write a reference mapping (rmap)."""
    header = _header(name, parent, "REFERENCE") | kind.mapping_header
    # Two rows that match equally well are a mistake in a header, not something to merge.
    header["merge_overlaps"] = False
    matches: dict[tuple[str, ...], dict[str, str]] = {}
    for (values, useafter), reference in sorted(rows.items()):
        key = tuple(utils.condition_value(value) for value in values)
        matches.setdefault(key, {})[useafter] = reference
    body = "".join(f"    {key!r} : {kind.selector}({times!r}),\n" for key, times in matches.items())
    _write(folder, name, header, f"Match({{\n{body}}})")


def write_instrument_mapping(folder: Path, name: str, parent: str, mappings: Mapping[str, str]) -> None:
    """Write the instrument mapping (imap): the reference mapping of each type."""
    header = _header(name, parent, "INSTRUMENT") | {"instrument": "IRIS", "parkey": ("REFTYPE",)}
    _write(folder, name, header, repr({kind.upper(): mapping for kind, mapping in sorted(mappings.items())}))


def write_context(folder: Path, name: str, parent: str, instrument_mapping: str) -> None:
    """Write a context (pmap)."""
    header = _header(name, parent, "PIPELINE") | {"parkey": ("META.INSTRUMENT.NAME",)}
    _write(folder, name, header, repr({"IRIS": instrument_mapping}))


def reference_mappings(pipeline: Any) -> dict[str, Any]:
    """Reference mappings of a context, by type."""
    return dict(pipeline.get_imap("iris").selections.normal_items())


def _header(name: str, parent: str, mapping: str) -> dict[str, object]:
    return {"derived_from": parent or "NONE", "mapping": mapping, "name": name, "observatory": "TMT", "sha1sum": ""}


def _write(folder: Path, name: str, header: Mapping[str, object], selector: str) -> None:
    """Let the client format the mapping and compute its checksum, then publish it; an existing name is an error."""
    text = f"header = {dict(header)!r}\n\nselector = {selector}\n"
    kind = {".rmap": rmap.ReferenceMapping, ".imap": rmap.InstrumentContext, ".pmap": rmap.PipelineContext}
    mapping = kind[Path(name).suffix].from_string(text, name, ignore_checksum=True)
    with staged(folder) as temporary:
        mapping.write(str(temporary))
        temporary.chmod(0o444)
        (folder / name).hardlink_to(temporary)


def _unsafe(name: str, where: str) -> Fatal:
    return Fatal(
        f"{where} names {name!r}, which is no name of a CRDS file: the whole context is refused.",
        remedy="Find out who wrote this mapping; names have lower-case letters, digits and underscores only.",
    )
