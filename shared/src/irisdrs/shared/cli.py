"""The one command `iris`: what the host can do, and what each installed service adds through `irisdrs.cli`."""

import asyncio
import contextlib
import json
import signal
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from irisdrs.shared import logs
from irisdrs.shared.dead_letters.command import app as dead_letters
from irisdrs.shared.edge.command import edge
from irisdrs.shared.embedded import run, serve_web
from irisdrs.shared.errors import Fatal, IrisError
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


app.command()(edge)
app.add_typer(dead_letters, name="dead-letters")


@app.command()
def topology(
    as_json: Annotated[bool, typer.Option("--json", help="The table for programs")] = False,
    definitions: Annotated[
        bool, typer.Option("--definitions", help="As RabbitMQ definitions JSON, for `rabbitmqctl import_definitions`")
    ] = False,
    picture: Annotated[bool, typer.Option("--picture", help="As a Mermaid flowchart")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Declare it on the broker of $IRIS_AMQP_URL; fails where that has something else"),
    ] = False,
    vhost: Annotated[str, typer.Option(help="Virtual host of the definitions")] = "/",
    asyncapi: Annotated[
        bool, typer.Option("--asyncapi", help="As an AsyncAPI 3.0 document; the JSON Schemas: --contract")
    ] = False,
    contract: Annotated[
        Path | None, typer.Option(help="Write AsyncAPI document and JSON Schemas of all messages to this folder")
    ] = None,
    release: Annotated[
        bool, typer.Option("--release", help="With --contract, at a release: no later version may break it")
    ] = False,
) -> None:
    """Show the topology: which events there are, who tells them, and which queues take them.

    --check changes nothing that is there: a queue or an exchange that differs is named, and ends it with 1.
    --contract writes nothing when the events break the contract of the last release (DIR/released), and ends with 1.
    """
    from irisdrs.shared.bus import declarations  # noqa: PLC0415 - RabbitMQ's client and all events
    from irisdrs.shared.bus import picture as pictures  # noqa: PLC0415
    from irisdrs.shared.contract import files  # noqa: PLC0415

    if release and contract is None:
        raise typer.BadParameter("--release needs --contract.")

    console = Console()
    if check:
        asyncio.run(_check_broker(console))
    elif definitions:
        typer.echo(json.dumps(declarations.definitions(vhost), indent=2))
    elif picture:
        typer.echo(pictures.picture())
    elif asyncapi:
        typer.echo(files.text(files.current().asyncapi), nl=False)
    elif contract is not None:
        (files.freeze if release else files.write)(contract)
        console.print(f"{contract} has the contract of this version.", highlight=False)
    elif as_json:
        typer.echo(json.dumps(pictures.as_facts(), indent=2))
    else:
        console.print(pictures.event_table())
        console.print(pictures.queue_table())


async def _check_broker(console: Console) -> None:
    from irisdrs.shared.bus.rabbitmq import RabbitMQBus  # noqa: PLC0415

    url = HostSettings().amqp_url
    if url is None:
        raise Fatal("No broker is named.", remedy="Set IRIS_AMQP_URL: amqp://user:password@host:port/vhost.")
    logs.configure(HostSettings(log_level="error"))
    bus = RabbitMQBus(url.get_secret_value(), "topology")
    try:
        await bus.open()
    finally:
        await bus.close()
    console.print("The broker has the topology.")


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
