"""A clock that is wrong: the environment of a process that sees another time of day than everybody else.

Only the time of day is off, by a whole number of seconds; monotonic clocks, and with them timers, sleeps and timeouts,
stay true, as on a machine whose time server is lost. Child processes inherit it. Times of files stay true as well.
Needs a C compiler (Debian packages gcc and libc6-dev). libfaketime is no way: as Debian 12 has it (0.9.10),
`time.sleep` fails where the monotonic clock is left alone, and locks wait for minutes where it is not.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from irisdrs.shared.testing.servers.process import ServerFailed, ServerMissing

_SOURCE = Path(__file__).with_name("skewed_clock.c")


def skewed(environment: Mapping[str, str], offset_s: int, folder: Path) -> dict[str, str]:
    """An environment for `ServerProcess` whose time of day is off.

    Parameters
    ----------
    environment : mapping
        What the process gets else.
    offset_s : int
        How far its clock is ahead, seconds; negative behind.
    folder : Path
        Where the library that does it is built, once; exists.

    Raises
    ------
    ServerMissing
        If there is no C compiler.
    ServerFailed
        If the library cannot be built.
    """
    library = folder / "skewed_clock.so"
    if not library.exists():
        _build(library)
    before = environment.get("LD_PRELOAD", "")
    return {
        **environment, "LD_PRELOAD": f"{library} {before}".strip(), "SKEWED_CLOCK_OFFSET_S": str(offset_s)
    }  # fmt: skip


def _build(library: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ServerMissing("There is no C compiler.", remedy="Install the Debian packages gcc and libc6-dev.")
    part = library.with_suffix(".part")
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(part), str(_SOURCE), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerFailed(f"The library for a skewed clock could not be built: {done.stderr}")
    part.replace(library)
