"""Named crash points: places where a test may kill a process, to prove that nothing is lost there.

A point does nothing unless it is armed. `arm` makes the next arrival in this process raise `Crash`. A worker process
is armed through the environment: ``IRIS_CRASH_POINT=calibrate.worker.reduce@/path/of/token`` ends the process as a
kill would, once for each time the token file is there.
"""

import os
from collections import Counter
from pathlib import Path

#: Exit status of a process that a crash point ended: the one of SIGKILL.
KILLED = 137

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


def reach(name: str) -> None:
    """Say that execution has come to a point.

    Raises
    ------
    Crash
        If the point is armed in this process.
    """
    if _armed[name] > 0:
        _armed[name] -= 1
        raise Crash(name)
    point, _, token = os.environ.get("IRIS_CRASH_POINT", "").partition("@")
    if point == name and _consume(token):
        os._exit(KILLED)


def _consume(token: str) -> bool:
    try:
        Path(token).unlink()
    except OSError:
        return False
    return True
