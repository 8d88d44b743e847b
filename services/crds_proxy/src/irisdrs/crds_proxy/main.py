"""Compose crds_proxy: in this process, on a local cache."""

from pathlib import Path

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.references import References


def open_references(cache_dir: Path) -> References:
    """Answer from a local CRDS cache.

    The cache may be empty, and may grow while it is open. No environment variable is needed: mappings and files are
    read by absolute path, so that several caches can be open in one process.

    Parameters
    ----------
    cache_dir : Path
        Root of the cache, as `irisdrs.shared.crds.context.build_context` makes it.
    """
    register()
    return LocalReferences(Cache(cache_dir.absolute()))
