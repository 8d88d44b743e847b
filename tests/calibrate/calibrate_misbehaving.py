"""Reducers that do what a worker process must survive; imported by worker processes by name."""

import importlib
import mmap
import multiprocessing
import os
import time
from pathlib import Path

from irisdrs.calibrate.job import Reduced, Reduction
from irisdrs.shared.errors import CorruptObject, MissingReference

#: More than the tests allow a job, and less than what may be free, bytes.
HUGE = 1 << 30

#: The CRDS client makes one, too, when it is imported.
LOCK = multiprocessing.Lock()


def reduce(job: Reduction) -> Reduced:
    """Do what the product id says; else answer with the process id as size."""
    match job.product_id:
        case "dies":
            os._exit(11)
        case "hangs":
            time.sleep(60)
        case "misses a reference":
            raise MissingReference("no dark", remedy="deliver one")
        case "fills the disk":
            raise OSError(28, "No space left on device")
        case "takes much memory":
            bytearray(HUGE)
        case "maps much memory":
            mmap.mmap(-1, HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        case "hides that memory ran out":
            _read_as_a_library_does()
        case "says its priority":
            return Reduced(sha256="0" * 64, size=os.sched_getscheduler(0))
        case "counts its threads":
            importlib.import_module("numpy")
            return Reduced(sha256="0" * 64, size=len(list(Path("/proc/self/task").iterdir())))
        case "exits":
            raise SystemExit("a library's idea of an error")
        case "divides by zero":
            raise ZeroDivisionError("division by zero")
    return Reduced(sha256="0" * 64, size=os.getpid())


def _read_as_a_library_does() -> None:
    """Fail for want of memory, and blame the file."""
    try:
        try:
            bytearray(HUGE)
        except MemoryError:
            raise TypeError("missing 1 required positional argument") from None
    except TypeError as error:
        raise CorruptObject("Cannot read the file.", remedy="Take it again.") from error
