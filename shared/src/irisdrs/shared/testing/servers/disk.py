"""A small disk that can be filled: a file system of its own in memory, mounted on a folder.

Needs root with the right to mount (Linux; a container needs the capability SYS_ADMIN).
"""

import contextlib
import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from irisdrs.shared.testing.servers.process import ServerMissing

#: The file that takes all room.
_BALLAST = ".ballast"


class SmallDisk:
    """A mounted disk; see `small_disk`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def free_bytes(self) -> int:
        """Room that is left."""
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all room but so much; a file system counts in pages of 4096 bytes."""
        with (self.folder / _BALLAST).open("ab", buffering=0) as file:
            while (size := min(self.free_bytes - leave_bytes, 1 << 20)) > 0:
                try:
                    file.write(bytes(size))
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    return

    def free(self) -> None:
        """Give back the room that `fill` took."""
        (self.folder / _BALLAST).unlink(missing_ok=True)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """Mount an empty disk on a folder, and unmount it for sure, with all that is on it.

    Parameters
    ----------
    folder : Path
        Created if it is not there; what it holds is hidden meanwhile.
    size_bytes : int

    Raises
    ------
    ServerMissing
        If this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "iris-small-disk", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise ServerMissing("There is no mount command.", remedy="Install the Debian package mount.") from None
    if done.returncode:
        raise ServerMissing(
            f"No disk can be mounted here: {done.stderr.strip()}",
            remedy="Run as root; in a container with the capability SYS_ADMIN.",
        )
    try:
        yield SmallDisk(folder)
    finally:  # lazily: whoever still has a file open there keeps it, and the mount is gone at once
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=True)
