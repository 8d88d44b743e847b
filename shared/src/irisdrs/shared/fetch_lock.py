"""Let one process of a host fetch a file at a time."""

import asyncio
import contextlib
import fcntl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

_log = structlog.get_logger(__name__)

#: How often a process looks whether another one has fetched the file, seconds: short against the fetching.
_LOOK_S = 0.05

#: Longest wait for another process that fetches the same file, seconds: 1 GB takes 10 s on a network of 1 Gbit/s.
WAIT_S = 60.0


@contextlib.asynccontextmanager
async def one_fetcher(path: Path, wait_s: float = WAIT_S) -> AsyncIterator[None]:
    """Hold a lock; it ends with the process, however it ends.

    It saves traffic and is no condition for anything: after `wait_s`, or where files cannot be locked, go on without.
    Then both fetch, and one file takes the other's place.

    Parameters
    ----------
    path : Path
        File that is locked; its folder is there.
    wait_s : float
        Longest wait for who holds it, seconds.
    """
    with path.open("w") as lock:
        deadline = time.monotonic() + wait_s
        while not _locked(lock.fileno()):
            if time.monotonic() > deadline:
                _log.warning("another process has been fetching for long, fetching too", lock=str(path))
                break
            await asyncio.sleep(_LOOK_S)
        yield


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True
