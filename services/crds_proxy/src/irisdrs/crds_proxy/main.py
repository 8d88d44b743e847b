"""Compose crds_proxy: for the services of this process, or as a service that others ask over HTTP."""

from pathlib import Path

from irisdrs.crds_proxy.api import application
from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.cache_holdings import CacheHoldings
from irisdrs.crds_proxy.verification import Verifier
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.service import Platform, Service
from irisdrs.shared.settings import HostSettings


def compose(platform: Platform) -> Service:
    """Build the service: it takes no events, and answers questions about the cache of its host."""
    references = open_references(HostSettings().crds_dir)
    return Service(
        name="crds_proxy", handlers={}, web=application(references), collectors=references.figures.collectors()
    )


def open_references(cache_dir: Path) -> LocalReferences:
    """Answer from a local CRDS cache.

    The cache may be empty, and may grow while it is open. No environment variable is needed: mappings and files are
    read by absolute path, so that several caches can be open in one process.

    Parameters
    ----------
    cache_dir : Path
        Root of the cache, as `irisdrs.shared.crds.context.build_context` makes it.
    """
    register()
    files = Verifier(Cache(cache_dir.absolute()))
    return LocalReferences(CacheHoldings(files), files)
