"""Holdings that are a local cache as it stands: what `build_context` made there, and nothing else."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from irisdrs.crds_proxy.holdings import Catalogue, Change, ChangeKind, Published
from irisdrs.crds_proxy.verification import Unusable, Verifier
from irisdrs.shared.crds.cache import Cache, context_in_force, read_manifest
from irisdrs.shared.crds.names import is_safe_name
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.file_signature import Signature, signature_of


class CacheHoldings:
    """`Holdings` of a local cache: no history but the context in force, and no file that is not there.

    Parameters
    ----------
    files : Verifier
        Of the cache. It may be empty, and others may build contexts in it.
    """

    def __init__(self, files: Verifier) -> None:
        self._files = files
        self._signature: tuple[Signature | None, ...] | None = None
        self._known: tuple[tuple[Change, ...], dict[str, Published]] = ((), {})
        # Files are read one after the other: questions that wait for one hold no thread of the process.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="iris-crds-files")

    async def catalogue(self) -> Catalogue:
        """What is in the cache now; see `irisdrs.crds_proxy.holdings.Holdings`."""
        cache = self._files.cache
        found = (signature_of(cache.server_config), signature_of(cache.manifest))
        if found != self._signature:
            self._known = await asyncio.to_thread(_read, cache)
            self._signature = found
        changes, files = self._known
        return Catalogue(changes, files, asked_at=datetime.now(UTC))

    async def local(self, name: str) -> Path:
        """The file, verified; see `irisdrs.crds_proxy.holdings.Holdings`."""
        if not is_safe_name(name):
            raise MissingReference(
                f"{name!r} is no name of a CRDS file.", remedy="They have names such as tmt_iris_dark_0001.fits."
            )
        known = self._files.recall(name)
        if known is None:
            try:
                known = await asyncio.get_running_loop().run_in_executor(self._reader, self._files.verify, name)
            except Unusable as error:
                raise MissingReference(f"{error}.", remedy="Restore the file from where the cache came.") from error
        return known.path

    async def arriving(self, name: str) -> None:
        """None: nothing has to come."""

    async def close(self) -> None:
        """Nothing is open."""


def _read(cache: Cache) -> tuple[tuple[Change, ...], dict[str, Published]]:
    context = context_in_force(cache)
    files = {
        name: Published(facts.size, facts.sha1sum, facts.sha256)
        for name, facts in read_manifest(cache).items()
        if is_safe_name(name)
    }
    if context is None:
        return (), files
    at = datetime.fromtimestamp(cache.server_config.stat().st_mtime, UTC)
    return (Change(1, ChangeKind.IMPORT, context, at, "iris", f"The cache {cache.root} as it stands.", files),), files
