"""A private server: a process group of its own on loopback, started for a test or a demonstration, ended for sure."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from irisdrs.shared.errors import IrisError

#: How long a server may take to answer, seconds: a RabbitMQ node needs 9 to 14 s on two idle cores.
START_TIMEOUT_S = 120.0

#: How long a server may take to end by itself, seconds; then it is killed.
STOP_TIMEOUT_S = 20.0

#: Lines of a server's log that an error quotes.
_TAIL_LINES = 15


class ServerMissing(IrisError):
    """The server's program is not installed here."""

    consequence = "Nothing was started."


class ServerFailed(IrisError):
    """A server did not come up."""

    consequence = "It was ended."


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """A TCP port of 127.0.0.1 that nobody else is given: a server may come, go and come back there."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))  # held without listening, so a server may listen beside it
        port: int = holder.getsockname()[1]
        yield port


def answers(port: int) -> bool:
    """Whether something takes connections on a port of 127.0.0.1."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True
    return False


class ServerProcess:
    """A server process in a group of its own, with its output in a file.

    Parameters
    ----------
    name : str
        What people call it.
    command : sequence of str
    log : Path
        Its output is appended here.
    environment : mapping, optional
        Its whole environment; by default this process's.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """Process id, and id of its process group."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Exit status, None while it runs."""
        return self._process.poll()

    def wait_until(self, ready: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until the server is ready.

        Raises
        ------
        ServerFailed
            If it ended or took too long; it is dead then.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            ended = self.exit_status is not None
            if ended or time.monotonic() > deadline:
                self.kill()
                what = f"ended with status {self.exit_status}" if ended else f"did not answer within {timeout_s:g} s"
                raise ServerFailed(f"{self.name} {what}: {self.tail()}", remedy=f"Read {self.log}.")
            time.sleep(0.05)

    def wait(self, timeout_s: float) -> int | None:
        """Wait for its end; its exit status, or None if it still runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(timeout_s)
        return None

    def ask_to_end(self) -> None:
        """Ask it to end; do not wait."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)

    def terminate(self) -> None:
        """Ask it to end, wait, and kill its whole group at last."""
        self.ask_to_end()
        self.wait(STOP_TIMEOUT_S)
        self.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group: SIGSTOP and SIGCONT make it hang and go on."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End its whole group now."""
        self.signal(signal.SIGKILL)
        self._process.wait()

    def tail(self) -> str:
        """The end of its output."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@contextlib.contextmanager
def running(server: ServerProcess) -> Iterator[ServerProcess]:
    """End the server when the context is left."""
    try:
        yield server
    finally:
        server.terminate()
