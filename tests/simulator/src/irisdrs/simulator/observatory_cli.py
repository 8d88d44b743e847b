"""`iris observatory`: the distributed system on this machine, on private servers, for as long as one likes."""

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from irisdrs.shared import logs
from irisdrs.shared.errors import Fatal
from irisdrs.shared.settings import HostSettings
from irisdrs.simulator.observatory import STARTING, Observatory, StoreKind

app = typer.Typer(
    help="The distributed system on this machine: a private RabbitMQ node, a store, a process for each service.",
    no_args_is_help=True,
)

#: How long servers and services may take to come up or to end, seconds.
PATIENCE_S = 180.0

Data = Annotated[Path, typer.Option(help="Folder that holds everything")]


@app.command()
def up(
    data: Data = Path("observatory"),
    store: Annotated[StoreKind, typer.Option(help="Where objects are")] = "directory",
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background; end it with `down`")] = False,
) -> None:
    """Start servers and services, and start anew what dies, until Ctrl-C.

    Then, in another terminal: eval "$(iris observatory env)", and play a night with `iris night`.
    """
    if _pid(data) is not None:
        raise Fatal(
            f"An observatory runs in the folder {data} already.",
            remedy=f"End it with `iris observatory down --data {data}` (or `make down`).",
        )
    data.mkdir(parents=True, exist_ok=True)
    if detach:
        _detach(data, store)
    else:
        logs.configure(HostSettings())
        asyncio.run(_up(Observatory(data, store), Console(stderr=True)))


@app.command()
def down(data: Data = Path("observatory")) -> None:
    """End what `up --detach` has started; what is not finished will be taken up at the next start."""
    pid = _pid(data)
    if pid is None:
        raise Fatal(
            f"No observatory runs in the folder {data}.", remedy="Name its folder with --data (DATA= with make)."
        )
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE_S
    while _pid(data) is not None:
        if time.monotonic() > deadline:
            raise Fatal(f"Process {pid} does not end.", remedy=f"Read {data / 'log' / 'observatory.log'}.")
        time.sleep(0.1)
    Console().print(f"The observatory on {data} has ended.")


@app.command()
def env(data: Data = Path("observatory")) -> None:
    """Print the settings of a running observatory, for the shell: eval "$(iris observatory env)"."""
    if _pid(data) is None:
        raise Fatal(f"No observatory runs in the folder {data}.", remedy="Start one with `iris observatory up`.")
    typer.echo(_environment_file(data).read_text(encoding="utf-8"), nl=False)


async def _up(observatory: Observatory, console: Console) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with _pid_file(observatory.data_dir):
        with console.status(STARTING):
            await asyncio.to_thread(observatory.start)
        supervising = asyncio.create_task(observatory.supervise())
        try:
            _write_environment(observatory)
            console.print(_table(observatory))
            console.print(f"The archive answers at {observatory.archive_url}. Ctrl-C ends it all.")
            await stop.wait()
        finally:
            supervising.cancel()
            await asyncio.gather(supervising, return_exceptions=True)
            _environment_file(observatory.data_dir).unlink(missing_ok=True)
            with console.status("Ending services and servers"):
                await asyncio.to_thread(observatory.stop)


def _detach(data: Path, store: StoreKind) -> None:
    (data / "log").mkdir(exist_ok=True)
    log = data / "log" / "observatory.log"
    command = [sys.argv[0], "observatory", "up", "--data", str(data), "--store", store]
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    console = Console()
    with console.status(STARTING):
        deadline = time.monotonic() + PATIENCE_S
        while not _environment_file(data).exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise Fatal("The observatory did not come up.", remedy=f"Read {log}.")
            time.sleep(0.1)
    console.print(f"The observatory in {data} is up, its logs are in {data / 'log'}. Its settings, for a shell:")
    console.print(f'eval "$(iris observatory env --data {data})"', soft_wrap=True, markup=False, highlight=False)


def _table(observatory: Observatory) -> Table:
    table = Table(title="Services", title_justify="left")
    table.add_column("service")
    table.add_column("health and metrics")
    for name, service in observatory.services.items():
        table.add_row(name, service.health_url)
    return table


def _write_environment(observatory: Observatory) -> None:
    """Write the settings for `env`: passwords of the private servers are among them, so nobody else may read it."""
    file = _environment_file(observatory.data_dir)
    part = file.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in observatory.settings().items()]
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(file)


def _environment_file(data: Path) -> Path:
    return data / "observatory.env"


@contextlib.contextmanager
def _pid_file(data: Path) -> Iterator[None]:
    file = data / "observatory.pid"
    file.write_text(str(os.getpid()), encoding="ascii")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _pid(data: Path) -> int | None:
    """Process that runs an observatory on a folder; None when there is none, or it has died."""
    try:
        pid = int((data / "observatory.pid").read_text(encoding="ascii"))
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    return pid
