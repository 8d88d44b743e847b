"""What a CRDS cache of the first form chooses, in the words of now."""

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from irisdrs.shared.crds import former_names, register
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.description import Description
from irisdrs.shared.crds.mappings import (
    CRDS_LOCK,
    DAMAGES,
    check_reference_names,
    load_mapping,
    mappings_below,
    rows_of,
)
from irisdrs.shared.crds.names import is_context_name
from irisdrs.shared.crds.parameters import BY_KEYWORD, canonical
from irisdrs.shared.crds.reference_types import DETECTOR, SAMPLING, SUBARRAY, reference_types
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import Detector

_VALUE = re.compile(r"[A-Za-z0-9_.+-]{1,64}", re.ASCII)
_WILDCARDS = {"N/A", "*"}

#: Values of a key that is not matched on any more with which a reference still is what it was: one for everything.
_WHOLE = {"FULL", *_WILDCARDS}

_FORMER_VALUES: Mapping[str, Mapping[str, str]] = {
    DETECTOR: former_names.DETECTORS,
    SUBARRAY: former_names.SUBARRAYS,
    SAMPLING: former_names.SAMPLINGS,
}


@dataclass(frozen=True, slots=True)
class Row:
    """One reference that the cache chooses for one configuration.

    Attributes
    ----------
    type : str
        Reference type, as the cache calls it.
    configuration : str
        Values that are matched, as the cache has them.
    useafter : str
    file : str
        Name of the reference in the cache.
    path : Path, optional
        Of the file; None where it is named but absent.
    description : Description, optional
        Its place in a mapping of now; None where it has none.
    problem : str
        Why it has none.
    """

    type: str
    configuration: str
    useafter: str
    file: str
    path: Path | None
    description: Description | None
    problem: str = ""


def read_former_cache(directory: Path, context: str = "") -> tuple[str, list[Row]]:
    """The context of a cache, and all that it chooses for IRIS.

    Checksums of mappings are not compared: the first cache has mappings that were edited by hand.

    Parameters
    ----------
    directory : Path
        Folder with ``config/tmt``, ``mappings/tmt`` and ``references/tmt``.
    context : str
        Name of a pmap; empty for the one in force.

    Raises
    ------
    Fatal
        If it holds no context, a mapping is absent, or one says what no mapping may say.
    """
    register()
    cache = Cache(directory.absolute())
    chosen = context or context_in_force(cache)
    if chosen is None or not is_context_name(chosen):
        raise Fatal(
            f"{directory} names no CRDS context: {chosen or 'config/tmt/server_config is absent'}.",
            remedy="Is it the right folder? Name a context of its mappings with --context.",
        )
    rows = []
    try:
        with CRDS_LOCK:
            pipeline = _load(cache, chosen)
            for name in mappings_below(pipeline).values():
                for below in mappings_below(_load(cache, name)).values():
                    rows += list(_rows(cache, _load(cache, below)))
    except FileNotFoundError as error:
        raise Fatal(
            f"{chosen} needs a mapping that is absent: {error.filename}.", remedy="Complete the cache."
        ) from error
    except DAMAGES as error:
        raise Fatal(
            f"A mapping of {chosen} is damaged: {error}.", remedy="Mend it, or name another context."
        ) from error
    return chosen, rows


def _load(cache: Cache, name: str) -> Any:
    return load_mapping(cache.mappings, name, checksum=False)


def _rows(cache: Cache, mapping: Any) -> Iterator[Row]:
    check_reference_names(mapping)
    keys = [former_names.KEYS.get(key, key) for key in map(_path, mapping.parkey[0])]
    for (values, useafter), file in rows_of(mapping).items():
        for each in itertools.product(*(value.split("|") for value in values)):
            try:
                description, problem = _describe(mapping.filekind, dict(zip(keys, each, strict=True)), useafter), ""
            except _Untranslatable as error:
                description, problem = None, str(error)
            yield Row(mapping.filekind, " ".join(each), useafter, file, _find(cache, file), description, problem)


class _Untranslatable(Exception):
    """A row has no place in the mapping that its type has now; says why."""


def _describe(former_type: str, former_values: Mapping[str, str], useafter: str) -> Description:
    name = former_names.TYPES.get(former_type, former_type)
    kind = reference_types().get(name)
    if kind is None:
        raise _Untranslatable(f"{name} is no type of reference")
    values = {path: _value(path, value) for path, value in former_values.items()}
    for path in values.keys() - set(kind.keys):
        if values[path] not in _WHOLE:
            raise _Untranslatable(f"{name} is not matched on {path}, and this is for {values[path]} only")
    keys = kind.keys if kind.divider is None else kind.applying_keys(values.get(kind.divider, "N/A"))
    return Description(kind, tuple(values.get(key, "N/A") if key in keys else "N/A" for key in kind.keys), useafter)


def _value(path: str, former: str) -> str:
    value = _FORMER_VALUES.get(path, {}).get(former, former)
    if value in _WILDCARDS:
        return value
    if not _VALUE.fullmatch(value) or (path == DETECTOR and value not in set(Detector)):
        raise _Untranslatable(f"{path} {former!r} is nothing that IRIS has")
    return canonical(path, value)


def _path(key: str) -> str:
    parameter = BY_KEYWORD.get(key)
    return parameter.path if parameter else key


def _find(cache: Cache, file: str) -> Path | None:
    """The file, wherever the cache keeps its references; the name was checked with its mapping."""
    folder = cache.root / "references" / "tmt"
    return next((path for path in (folder / "iris" / file, folder / file) if path.is_file()), None)
