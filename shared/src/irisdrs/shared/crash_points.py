"""Named crash points: places where a test may end a process, to prove that nothing is lost there.

A point does nothing unless it is armed. `arm` makes the next arrival in this process raise `Crash`. Processes that a
test has started are armed through a folder that ``IRIS_CRASH_POINTS`` names: a file in it that is named as the point
is consumed by the first process that arrives there, which ends as the file says: killed if it is empty, else
``segfault``, ``memory`` (takes memory until it gets no more) or ``hang``.

A point that many reach can be told more closely: ``dispatch.ack.before:archive`` is that of one service,
``dispatch.ack.before:readout:FrameReady`` that after one type of event was published.
"""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import accumulate
from pathlib import Path

#: Exit status of a process that a crash point ended: the one of SIGKILL.
KILLED = 137

#: Names the folder through which processes are armed.
FOLDER = "IRIS_CRASH_POINTS"

#: How much memory is taken at a time, and at most where nothing limits it, bytes.
_PORTION, _MOST = 1 << 28, 1 << 36

#: How long a process hangs, seconds: longer than anybody waits for it.
_HANG_S = 3600.0

_armed: Counter[str] = Counter()


class Crash(BaseException):
    """The process is dead: no handler may catch it, nothing after it runs. Only a host does, to start anew."""


def arm(name: str, times: int = 1) -> None:
    """Let the next arrivals at a point raise `Crash`."""
    _armed[name] += times


def disarm() -> None:
    """Forget everything that is armed."""
    _armed.clear()


def armed() -> dict[str, int]:
    """Points that are armed in this process and not reached yet."""
    return {name: times for name, times in _armed.items() if times > 0}


def reach(name: str, *closer: str) -> None:
    """Say that execution has come to a point.

    Parameters
    ----------
    name : str
    *closer : str
        What tells it from others of the name: the service, what it is about to publish.

    Raises
    ------
    Crash
        If the point is armed in this process.
    """
    if not _armed and FOLDER not in os.environ:
        return
    for point in accumulate((name, *closer), "{}:{}".format):
        if _armed[point] > 0:
            _armed[point] -= 1
            raise Crash(point)
        manner = _consume(point)
        if manner is not None:
            _MANNERS[manner]()


def _consume(point: str) -> str | None:
    """How the process must end here; None if it need not."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return None
    file = Path(folder) / point
    try:
        manner = file.read_text(encoding="ascii")
        file.unlink()
    except OSError:
        return None  # not armed, or another process was first
    return manner


def _fill_memory() -> None:
    held = [bytearray(_PORTION) for _ in range(_MOST // _PORTION)]  # raises MemoryError at the process's limit
    raise MemoryError(f"{len(held)} portions were given: the process has no limit")


#: Ways to end, by what the file says.
_MANNERS: Mapping[str, Callable[[], object]] = {
    "": lambda: os._exit(KILLED),
    "segfault": lambda: signal.raise_signal(signal.SIGSEGV),
    "memory": _fill_memory,
    "hang": lambda: time.sleep(_HANG_S),
}
