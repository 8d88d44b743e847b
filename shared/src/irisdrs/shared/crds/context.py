"""Build a CRDS context around reference files, in a local cache."""

import pprint
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from irisdrs.shared.crds import mappings
from irisdrs.shared.crds.cache import (
    Cache,
    FileFacts,
    admit,
    building,
    context_in_force,
    facts_of,
    read_manifest,
    write_atomically,
    write_manifest,
)
from irisdrs.shared.crds.description import Description, describe_reference
from irisdrs.shared.crds.file_header import read_header
from irisdrs.shared.crds.names import MAPPING_SUFFIXES
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.crds.registration import SERVERLESS_URL, register
from irisdrs.shared.errors import Fatal

#: A reference file and its place in the mapping of its type.
Described = tuple[Path, Description]

#: A value of a key that the client does not look at; a row with more of them is the weaker one.
_IGNORED = "N/A"

#: Values of a key that match whatever is asked for. To the client ``*`` (ANY) is as good a match as the exact value.
_WILDCARDS = frozenset({"*", _IGNORED})


class Overlap(Fatal):
    """A reference and another one would match the same exposure equally well."""


def build_context(cache: Path, references: Sequence[Path], *, take: bool = False) -> str:
    """Add reference files to a cache and make a context that chooses them, and put it in force.

    The new context derives from the one in force: what that chooses stays chosen unless a new file has the same key
    and the same USEAFTER. Earlier contexts, their mappings and files stay as they are. Files are copied, under names
    of their own; equal contents are kept once. The last thing written is the name of the context in force: stopped
    before, the cache answers as before.

    Parameters
    ----------
    cache : Path
        Root of the cache (CRDS_PATH); made if absent.
    references : sequence of Path
        FITS files with INSTRUME, REFTYPE, USEAFTER and the keywords of the type's keys.
    take : bool
        Move the files into the cache instead of copying them.

    Returns
    -------
    str
        Name of the context, e.g. ``tmt_0001.pmap``; the one in force if the files change nothing.

    Raises
    ------
    CorruptObject
        If a file cannot be read; nothing is written then.
    Fatal
        If a file is no reference of IRIS, or two have the same key or overlapping ones; nothing is written then.
    """
    register()
    return add_described(cache, [(path, describe_reference(path, read_header(path))) for path in references], take=take)


def add_described(cache: Path, described: Sequence[Described], *, take: bool = False) -> str:
    """As `build_context`, of files whose places in the mappings are known: one file may have several.

    Raises
    ------
    Fatal
        If two files have the same place, or overlapping ones; nothing is written then.
    """
    register()
    refuse_ambiguity(described)
    files = Cache(cache.absolute())
    files.prepare()
    with building(files):
        return _build(files, described, take=take)


def insert(
    folder: Path,
    parent: str | None,
    references: Sequence[tuple[str, Description]],
    name_for: Callable[[str, str], str],
) -> str | None:
    """Write a context that derives from another one and chooses more references, with its mappings.

    Parameters
    ----------
    folder : Path
        Of mappings: the parent's are there, the new ones are written there.
    parent : str, optional
        None: there is no context yet.
    references : sequence of (str, Description)
        By the names that they have in CRDS; one may have several places.
    name_for : callable
        Gives a new name from the beginning and the suffix that it has.

    Returns
    -------
    str, optional
        Name of the context, all of which was loaded; None if its parent chooses the same already.

    Raises
    ------
    Overlap
        If a reference would match an exposure equally well as another one.
    Fatal
        If the parent is damaged, or has mappings of an older vocabulary.
    """
    with mappings.CRDS_LOCK:
        chosen = _chosen(folder, parent)
        rows = _rows(chosen, references)
        refuse_overlaps(rows, references)
        before = {name: dict(row) for name, row in rows.items()}
        for name, description in references:
            rows[description.type.name][description.values, description.useafter] = name
        changed = [name for name, row in rows.items() if row != before[name]]
        if parent is not None and not changed:
            return None
        names = {name: mapping.basename for name, mapping in chosen.items()}
        # A type without references has an empty mapping, into which `crds certify` can try to insert the first one.
        empty = [name for name in reference_types() if name not in chosen and name not in changed]
        rows |= {name: {} for name in empty}
        for name in sorted(changed + empty):
            published = name_for(f"tmt_iris_{name}", ".rmap")
            mappings.write_reference_mapping(
                folder, published, names.get(name, ""), reference_types()[name], rows[name]
            )
            names[name] = published
        instrument = name_for("tmt_iris", ".imap")
        mappings.write_instrument_mapping(folder, instrument, "", names)
        context = name_for("tmt", ".pmap")
        mappings.write_context(folder, context, parent or "", instrument)
        mappings.load_context(folder, context)
    return context


def _chosen(folder: Path, parent: str | None) -> dict[str, Any]:
    return {} if parent is None else mappings.reference_mappings(mappings.load_context(folder, parent))


def _rows(chosen: Mapping[str, Any], references: Iterable[tuple[object, Description]]) -> dict[str, mappings.Rows]:
    """What is chosen already of each type among the references, in the keys of now."""
    wanted = {description.type.name for _, description in references}
    return {name: mappings.adapted_rows(chosen[name]) if name in chosen else {} for name in sorted(wanted)}


def put_in_force(cache: Cache, context: str, mapping_names: Iterable[str]) -> None:
    """Name the context in force in a cache, which has all its mappings."""
    write_atomically(cache.server_config, _server_config(context, sorted(mapping_names)))


def next_name(taken: Iterable[str], prefix: str, suffix: str) -> str:
    """The name after the greatest number that is taken, e.g. ``tmt_iris_dark_0004.fits``.

    References and mappings of a type are counted apart; references of one type together, whatever their format.
    """
    pattern = re.compile(rf"{prefix}_([0-9]+)\.[a-z]+")
    alike = [name for name in taken if name.endswith(MAPPING_SUFFIXES) == suffix.endswith(MAPPING_SUFFIXES)]
    numbers = [int(found[1]) for name in alike if (found := pattern.fullmatch(name))]
    return f"{prefix}_{max(numbers, default=0) + 1:04d}{suffix}"


def refuse_ambiguity(described: Sequence[Described]) -> None:
    """Make sure that no two references stand in the same place of a mapping.

    Raises
    ------
    Fatal
        If two do.
    """
    seen: dict[Description, Path] = {}
    for path, description in described:
        other = seen.setdefault(description, path)
        if other != path:
            raise Fatal(
                f"{other} and {path} are both the {description.type.name} of {', '.join(description.values)} after"
                f" {description.useafter}.",
                remedy="Deliver one of them, or give them different USEAFTER times; nothing was written.",
            )


def refuse_overlaps(rows: Mapping[str, mappings.Rows], described: Sequence[tuple[object, Description]]) -> None:
    """Refuse what CRDS could not decide: two keys that match one exposure, each in as many values.

    The client's own certification finds such a pair only where one key is a special case of the other.

    Parameters
    ----------
    rows : mapping of str to Rows
        What is chosen already, by type.
    described : sequence of (object, Description)
        References as they are called in messages, and their places.

    Raises
    ------
    Overlap
    """
    keys = {kind: {values: name for (values, _), name in sorted(row.items())} for kind, row in rows.items()}
    for called, description in described:
        known, mine = keys[description.type.name], description.values
        for other, against in known.items():
            if mine != other and _weight(mine) == _weight(other) and all(map(_meet, mine, other)):
                raise Overlap(
                    f"{called} for {', '.join(mine)} overlaps {against} for {', '.join(other)}: "
                    "an exposure that both match would have no best reference.",
                    remedy="Deliver it for the same values, or for ones that leave the other's out.",
                )
        known[mine] = str(called)


def _weight(values: tuple[str, ...]) -> int:
    return sum(value != _IGNORED for value in values)


def _meet(one: str, other: str) -> bool:
    """Whether two patterns of a key match a value together."""
    patterns, others = set(one.split("|")), set(other.split("|"))
    return bool(patterns & others or (patterns | others) & _WILDCARDS)


def _build(cache: Cache, described: Sequence[Described], *, take: bool) -> str:
    parent = context_in_force(cache)
    manifest = read_manifest(cache)
    with mappings.CRDS_LOCK:
        refuse_overlaps(_rows(_chosen(cache.mappings, parent), described), described)
    kept = [
        (_keep(cache, manifest, path, description.type.name, take=take), description) for path, description in described
    ]
    context = insert(cache.mappings, parent, kept, lambda prefix, suffix: _next_in(cache.mappings, prefix, suffix))
    if context is None:
        assert parent is not None
        return parent
    names = mappings.load_context(cache.mappings, context).mapping_names()
    write_manifest(cache, {**manifest, **{name: facts_of(cache.mappings / name) for name in names}})
    put_in_force(cache, context, names)
    return context


def _keep(cache: Cache, manifest: dict[str, FileFacts], path: Path, kind: str, *, take: bool) -> str:
    """Put a reference into the cache, under the name of an equal one or the next number of its type."""
    prefix = f"tmt_iris_{kind}"

    def name_for(facts: FileFacts) -> str:
        same = [name for name, known in manifest.items() if known == facts and name.startswith(f"{prefix}_")]
        return same[0] if same else _next_in(cache.references, prefix, path.suffix)

    name, facts = admit(path, cache.references, name_for, take=take)
    manifest[name] = facts
    return name


def _next_in(folder: Path, prefix: str, suffix: str) -> str:
    return next_name((path.name for path in folder.iterdir()), prefix, suffix)


def _server_config(context: str, mappings: list[str]) -> bytes:
    """What the client reads when no server answers; every key is one that it looks up."""
    info = {
        "bad_files_list": [],
        "connected": False,
        "context_history": [],
        "crds_version": {"str": "14.0.3"},
        "edit_context": context,
        "force_remote_mode": False,
        "last_synced": "built locally",
        "latest_context": context,
        "mapping_url": {"tmt": f"{SERVERLESS_URL}/mappings/"},
        "mappings": mappings,
        "max_headers_per_rpc": 1000,
        "observatory": "tmt",
        "operational_context": context,
        "reference_url": {"tmt": f"{SERVERLESS_URL}/references/"},
        "server": SERVERLESS_URL,
        "status": "cache",
        "versions_context": context,
    }
    return pprint.pformat(info).encode() + b"\n"
