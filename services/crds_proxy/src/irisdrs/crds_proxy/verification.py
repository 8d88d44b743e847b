"""Hand out reference files only after their size and SHA-256 were compared with the cache's manifest."""

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from irisdrs.shared.crds.cache import Cache, FileFacts, read_manifest
from irisdrs.shared.file_signature import Signature, signature, signature_of


class Unusable(Exception):
    """A file may not be handed out; the text says why."""


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A file whose content is what the manifest says."""

    path: Path
    sha256: str
    signature: Signature


class Verifier:
    """Verifies each file of a cache once, and again whenever it was touched. Thread-safe.

    Who brings files into the cache and who hands them out share one, so that each file is read once; `on_use` is told
    the name of each file that is asked for and here.
    """

    def __init__(self, cache: Cache) -> None:
        self.cache = cache
        self.on_use: Callable[[str], object] = lambda name: None
        self._verified: dict[str, VerifiedFile] = {}
        self._manifest: Mapping[str, FileFacts] = {}
        self._manifest_signature: Signature | None = None
        self._lock = threading.Lock()

    def recall(self, name: str) -> VerifiedFile | None:
        """A file that was verified and not touched since: one `stat`, so it may be called in an event loop."""
        known = self._verified.get(name)
        if known is None or signature_of(known.path) != known.signature:
            return None
        self.on_use(name)
        return known

    def verify(self, name: str) -> VerifiedFile:
        """Verify a file; reads all of it if it is new or was touched.

        Raises
        ------
        Unusable
            If it is absent, damaged, or not in the manifest.
        """
        with self._lock:
            known = self.recall(name)
            if known is None:
                known = self._verified[name] = self._read(name)
            return known

    def _read(self, name: str) -> VerifiedFile:
        facts = self._facts(name)
        path = self.cache.path(name)
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                if stat.st_size != facts.size:
                    raise Unusable(f"{path} is damaged: it has {stat.st_size} bytes instead of {facts.size}")
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            raise Unusable(f"{path} is absent") from None
        except OSError as error:
            raise Unusable(f"{path} cannot be read: {error.strerror}") from error
        if found != facts.sha256:
            raise Unusable(f"{path} is damaged: its SHA-256 is {found} instead of {facts.sha256}")
        return VerifiedFile(path, found, signature(stat))

    def _facts(self, name: str) -> FileFacts:
        found = signature_of(self.cache.manifest)
        if found != self._manifest_signature:
            self._manifest = read_manifest(self.cache)
            self._manifest_signature = found
        try:
            return self._manifest[name]
        except KeyError:
            raise Unusable(f"{name} cannot be verified: it is not in {self.cache.manifest}") from None
