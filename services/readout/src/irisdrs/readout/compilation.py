"""The decorator of kernels: compiled once on a machine, and anew when any of their sources has changed.

numba keeps what it compiles, and asks of a function only whether its own file is still the same. Kernels call those of
other files, which are compiled into them, and so are constants: after an update of these files it would go on with the
arithmetic from before (numba, Notes on Caching, limitations).
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from numba import njit
from numba.core import caching, config

from irisdrs.shared import quality

if TYPE_CHECKING:
    from numba.core.dispatcher import Dispatcher

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> "Dispatcher[F]":
    """Compile a function when it is first called: without the interpreter's lock, with IEEE 754's division by zero."""
    settings = vars(config)
    others = settings["CACHE_LOCATOR_CLASSES"]
    settings["CACHE_LOCATOR_CLASSES"] = ",".join(f"{__name__}.{one.__name__}" for one in (Chosen, Beside, OfUser))
    try:
        return njit(nogil=True, cache=True, error_model="numpy")(function)
    finally:
        settings["CACHE_LOCATOR_CLASSES"] = others


@functools.cache
def _sources() -> str:
    """SHA-256 of the sources of all kernels, of the flags, of which alone they know beside, and of how they compile."""
    here, found = Path(__file__), hashlib.sha256()
    for path in (*sorted((here.parent / "sampling").glob("*.py")), Path(quality.__file__), here):
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


class _OfAllSources:
    """What is kept is that of these sources."""

    def get_source_stamp(self) -> str:
        """What numba compares."""
        return _sources()


class Chosen(_OfAllSources, caching.UserProvidedCacheLocator):
    """In NUMBA_CACHE_DIR, if it is set."""


class Beside(_OfAllSources, caching.InTreeCacheLocator):
    """Beside the sources."""


class OfUser(_OfAllSources, caching.UserWideCacheLocator):
    """Where the folder of the sources cannot be written to."""
