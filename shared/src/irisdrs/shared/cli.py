"""The one command `iris`: what the host can do, and what each installed service adds through `irisdrs.cli`."""

import asyncio
import contextlib
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from irisdrs.shared import logs
from irisdrs.shared.embedded import run, serve_web
from irisdrs.shared.errors import IrisError
from irisdrs.shared.settings import HostSettings

app = typer.Typer(
    name="iris",
    help="IRIS Data Reduction System: detector reads to raw frames, reduced images and archive queries.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

#: Exit status for bad input, as distinct from wrong usage (2).
BAD_INPUT = 1


@app.callback()
def _root() -> None:
    """Keep `iris` a group, whatever is installed."""


@app.command()
def up(
    data: Annotated[
        Path | None, typer.Option(help="Store, catalogue and CRDS cache [default: $IRIS_DATA_DIR, data]")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Port of page and REST [default: $IRIS_ARCHIVE_PORT, 8080]", min=0, max=65535)
    ] = None,
) -> None:
    """Keep the whole system running in this process, until Ctrl-C.

    Play a night into it from another terminal with `iris night`, ask it with `iris query --url http://127.0.0.1:8080`.
    """
    given = {"data_dir": data, "archive_port": port}
    settings = HostSettings().model_copy(update={name: value for name, value in given.items() if value is not None})
    logs.configure(settings)
    asyncio.run(_up(settings))


async def _up(settings: HostSettings) -> None:
    console = Console(stderr=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with run(settings) as system, serve_web(system) as url:
        console.print(f"[bold]IRIS DRS[/] is up at {url}, data in {settings.data_dir.resolve()}. Ctrl-C ends it.")
        await stop.wait()
        console.print("Stopping; what is not finished will be taken up at the next start.")


def main() -> None:
    """Entry point: add what the installed distributions bring, run, turn errors into exit codes."""
    for entry in sorted(entry_points(group="irisdrs.cli"), key=lambda entry: entry.name):
        addition = entry.load()
        if isinstance(addition, typer.Typer):
            app.add_typer(addition, name=entry.name)
        else:
            app.command(entry.name)(addition)
    with contextlib.suppress(BrokenPipeError):
        try:
            app()
        except IrisError as error:
            _give_up(error)
        except BaseExceptionGroup as group:
            leaf = _leaf(group)
            if not isinstance(leaf, IrisError):
                raise
            _give_up(leaf)


def _give_up(error: IrisError) -> NoReturn:
    Console(stderr=True).print(f"[red]{type(error).__name__}:[/] {error}", highlight=False)
    sys.exit(BAD_INPUT)


def _leaf(error: BaseException) -> BaseException:
    """The first error of a group of tasks that failed together."""
    return _leaf(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
