"""Between the cache of a host and the store: what was built here is published there, what is in force there comes here.

A cache that keeps up answers `iris crds list`, offline reduction and `build_context` as the observatory would.
"""

import asyncio
import hashlib
import socket
from collections.abc import Mapping
from datetime import UTC, datetime

import structlog

from irisdrs.crds_proxy.holdings import Catalogue, Change, ChangeKind, Holdings, Published
from irisdrs.crds_proxy.states import States, file_key
from irisdrs.shared.crds.cache import Cache, building, context_in_force, facts_of, read_manifest
from irisdrs.shared.crds.context import put_in_force
from irisdrs.shared.crds.mappings import load_context, names_below
from irisdrs.shared.crds.names import is_safe_name
from irisdrs.shared.errors import Fatal
from irisdrs.shared.store.port import FITS, Store

_log = structlog.get_logger(__name__)

#: Media types of CRDS files that are no FITS files.
_MEDIA_TYPES = {".asdf": "application/x-asdf", ".json": "application/json"}


async def publish_built(store: Store, states: States, cache: Cache) -> Change | None:
    """Publish what was built in a cache, and put its context in force; None if there is nothing new.

    Files that the manifest names and the cache lacks are left out.

    Raises
    ------
    Outage
        If the store is away or full. What it has taken is not put there again.
    Fatal
        If the cache is damaged, or other files were published under names that were given here, too.
    """
    while (context := await asyncio.to_thread(context_in_force, cache)) is not None:
        changes = await states.changes()
        published = {name: facts for change in changes for name, facts in change.files.items()}
        if context in published:
            return None
        files = await asyncio.to_thread(_built, cache, context, published)
        for name, facts in files.items():
            await _put(store, cache, name, facts)
        change = Change(
            number=len(changes) + 1,
            kind=ChangeKind.IMPORT,
            context=context,
            at=moment_after(changes),
            by="iris",
            reason=f"Built in the CRDS cache of {socket.gethostname()}.",
            files=files,
        )
        if await states.commit(change):
            _log.info("published what was built here", context=context, files=len(files))
            return change
    return None


async def bring_mappings(holdings: Holdings, name: str) -> list[str]:
    """Bring a mapping and all below it into the cache; gives their names. Raises as `Holdings.local`."""
    path = await holdings.local(name)
    names = [name]
    for below in await asyncio.to_thread(names_below, path.parent, name):
        names += await bring_mappings(holdings, below)
    return names


async def keep_up(holdings: Holdings, cache: Cache) -> None:
    """Put the observatory's context in force in a cache, unless one was built there that nobody has published yet."""
    catalogue = await holdings.catalogue()
    context = catalogue.context
    if context is None or context == await asyncio.to_thread(context_in_force, cache):
        return
    names = await bring_mappings(holdings, context)
    await asyncio.to_thread(_follow, cache, catalogue, context, names)


def moment_after(changes: tuple[Change, ...]) -> datetime:
    """Now by the clock of this host (UTC), but not before the last change: another clock may be fast."""
    return max([datetime.now(UTC), *(change.at for change in changes[-1:])])


def media_type_of(name: str) -> str:
    """Media type of a CRDS file."""
    suffix = f".{name.rpartition('.')[2]}"
    return "text/plain" if suffix.endswith("map") else _MEDIA_TYPES.get(suffix, FITS)


def _built(cache: Cache, context: str, published: Mapping[str, Published]) -> dict[str, Published]:
    """Files of a cache that are not published; the context among them is whole."""
    manifest = read_manifest(cache)
    pipeline = load_context(cache.mappings, context)
    names = {*manifest, *pipeline.mapping_names(), *pipeline.reference_names()}
    files: dict[str, Published] = {}
    for name in sorted(filter(is_safe_name, names)):
        try:
            facts = manifest.get(name) or facts_of(cache.path(name))
        except FileNotFoundError:
            continue
        if name in published:
            if published[name].sha256 != facts.sha256:
                raise _taken(cache, context, name)
        elif cache.path(name).exists():
            files[name] = Published(facts.size, facts.sha1sum, facts.sha256)
    if absent := [name for name in names if not cache.path(name).exists()]:
        _log.warning("files of the CRDS cache are absent, and not published", cache=str(cache.root), absent=absent)
    return files


async def _put(store: Store, cache: Cache, name: str, facts: Published) -> None:
    path = cache.path(name)
    if await asyncio.to_thread(_sha256, cache, name) != facts.sha256:
        raise Fatal(f"{path} is damaged: it is not what its manifest says.", remedy="Restore it from where it came.")
    put = await store.put_file(file_key(name), path, media_type=media_type_of(name))
    if put.stored.ref.sha256 != facts.sha256:
        raise _taken(cache, name, name)


def _sha256(cache: Cache, name: str) -> str:
    with cache.path(name).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _taken(cache: Cache, what: str, name: str) -> Fatal:
    return Fatal(
        f"{what} was built in {cache.root} and cannot be published: another {name} is in the store.",
        remedy="It serves on this host only. Deliver its references with `iris crds deliver`.",
    )


def _follow(cache: Cache, catalogue: Catalogue, context: str, names: list[str]) -> None:
    with building(cache):
        here = context_in_force(cache)
        if here is None or here in catalogue.files:
            put_in_force(cache, context, names)
