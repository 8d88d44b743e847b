"""Who runs the system on a data folder: one process at a time, known by an identity."""

import contextlib
import fcntl
import uuid
from collections.abc import Iterator
from pathlib import Path

from irisdrs.shared.errors import Fatal

FILE_NAME = ".lock"


@contextlib.contextmanager
def hold(data_dir: Path) -> Iterator[str]:
    """Hold a data folder for this process; the lock ends with the process, however it ends.

    Gives a new identity, which lies in the folder until somebody else holds it: who is told the identity and finds it
    in a folder knows that it is the same folder, whatever its path, and no copy of an earlier day.

    Raises
    ------
    Fatal
        If another process holds the folder.
    """
    with (data_dir / FILE_NAME).open("a", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fatal(
                f"Another process runs the system on {data_dir}.", remedy="Stop it, or name another folder with --data."
            ) from None
        identity = str(uuid.uuid4())
        lock.truncate(0)
        lock.write(identity)
        lock.flush()
        yield identity


def holder(data_dir: Path) -> str | None:
    """Identity of the process that holds a data folder, or of the last that did; None where none ever has."""
    try:
        return (data_dir / FILE_NAME).read_text(encoding="ascii", errors="replace") or None
    except OSError:
        return None
