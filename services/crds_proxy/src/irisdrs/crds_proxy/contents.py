"""What a local CRDS cache holds."""

from collections.abc import Mapping
from pathlib import Path

from crds.core import utils

from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.mappings import CRDS_LOCK, load_context, reference_mappings, rows_of
from irisdrs.shared.crds.names import is_context_name
from irisdrs.shared.crds.parameters import matching_parameters
from irisdrs.shared.errors import Fatal


def contexts(cache_dir: Path) -> dict[str, bool]:
    """Contexts of a cache by name, oldest first, and whether it is the one in force.

    Raises
    ------
    Fatal
        If there is no such folder.
    """
    if not cache_dir.is_dir():
        raise Fatal(f"There is no folder {cache_dir}.", remedy="Name the CRDS cache with --cache, e.g. demo/crds.")
    cache = Cache(cache_dir.absolute())
    in_force = context_in_force(cache)
    names = sorted(path.name for path in cache.mappings.glob("*.pmap") if is_context_name(path.name))
    return {name: name == in_force for name in names}


def references_of(cache_dir: Path, context: str) -> list[tuple[str, str, str, str]]:
    """References of a context: type, values that are matched, use after, file name.

    Raises
    ------
    Fatal
        If the context is absent or damaged.
    """
    register()
    mappings = reference_mappings(load_context(Cache(cache_dir.absolute()).mappings, context))
    return [
        (kind, " ".join(values), useafter, name)
        for kind, mapping in sorted(mappings.items())
        for (values, useafter), name in sorted(rows_of(mapping).items())
    ]


def types_for(cache_dir: Path, context: str, header: Mapping[str, str]) -> list[str]:
    """Types of which a context has references and that apply to a header, whether one of them matches or not.

    Raises
    ------
    Fatal
        If the context is absent or damaged.
    """
    register()
    pipeline = load_context(Cache(cache_dir.absolute()).mappings, context)
    with CRDS_LOCK:
        asked = utils.condition_header(pipeline.minimize_header(matching_parameters(header)))
        return [
            kind
            for kind, mapping in sorted(reference_mappings(pipeline).items())
            if mapping.reference_names() and mapping.get_best_ref(asked) != "NOT FOUND n/a"
        ]
