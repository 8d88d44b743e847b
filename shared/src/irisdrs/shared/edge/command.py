"""`iris edge`: the process between the detectors of an observation and the system."""

import asyncio
import os
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from irisdrs.shared import logs
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.incoming import Incoming
from irisdrs.shared.edge.line import open_line
from irisdrs.shared.edge.metrics import spool_metrics, why_not_ready
from irisdrs.shared.edge.progress import survey
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal
from irisdrs.shared.health import health_application
from irisdrs.shared.observation import ObservationPlan, read_plan
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.web_server import serving


def edge(
    incoming: Annotated[
        Path,
        typer.Option(
            exists=True, file_okay=False, writable=True, help="Folder that the detectors move their reads into"
        ),
    ],
    plan_file: Annotated[Path, typer.Option("--plan", exists=True, dir_okay=False, help="Plan of the observation")],
    url: Annotated[
        str | None,
        typer.Option(help="Where `iris up` answers; default: the broker of IRIS_AMQP_URL, else http://127.0.0.1:8080"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the system's data; default: IRIS_DATA_DIR")] = None,
) -> None:
    """Take the reads of one observation from a folder into the system, until all that its plan says are in.

    A read is a FITS file NAME.fits that is moved into the folder when it is whole: packed as the system stores it, or
    uncompressed. It is checked, compressed, kept in a spool on the local disk until store and bus have it, and removed
    from the folder. What is no read of the plan goes to the folder's rejected/, with the reason beside.

    Start it again after a stop or a crash: it goes on where it was.
    """
    settings = HostSettings()
    settings = settings if data is None else settings.model_copy(update={"data_dir": data})
    logs.configure(settings)
    asyncio.run(_until_stopped(incoming, read_plan(plan_file), settings, url, Console(stderr=True)))


async def _until_stopped(
    incoming: Path, plan: ObservationPlan, settings: HostSettings, url: str | None, console: Console
) -> None:
    """Take reads until all are in, or until the process is asked to end: then leave the spool as it is."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    spool = Spool(settings.spool_of(plan.observation), settings.spool_max_bytes)
    try:
        if spool.depth:
            console.print(f"{plan.observation}: what was left in the spool goes first: {_contents(spool)}")
        console.print(f"{plan.observation}: taking reads from {incoming}. Ctrl-C ends it; what is spooled stays.")
        health = health_application(spool_metrics(spool), lambda: why_not_ready(spool))
        async with serving(health, settings.health_host, settings.health_port) as health_url:
            console.print(f"Health and metrics at {health_url}")
            done = await _done_before(stop, _work(incoming, plan, settings, url, spool))
        if not done:
            console.print(f"Stopped. {_contents(spool)}. Start the same command again to go on.")
            return
    finally:
        spool.close()
    if spool.damaged:
        raise Fatal(
            f"{spool.damaged} entries of the spool could not be sent.",
            remedy=f"They are in {spool.folder / 'damaged'}, with the reasons beside.",
        )
    console.print(f"{plan.observation}: everything is in and told")


async def _done_before(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Work until it is done or until one is asked to stop; says which."""
    working, stopping = asyncio.create_task(work), asyncio.create_task(stop.wait())
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if working.done():
        working.result()
        return True
    working.cancel()
    await asyncio.wait({working})
    return False


async def _work(incoming: Path, plan: ObservationPlan, settings: HostSettings, url: str | None, spool: Spool) -> None:
    spooled = spool.keys()
    if url is not None:
        settings = settings.model_copy(update={"amqp_url": None})
    async with (
        open_line(settings, (url or settings.archive_url).rstrip("/")) as line,
        Edge(plan, line.store, line.tell, spool) as edge_,
    ):
        progress = await edge_.meanwhile(edge_.drain.store.patiently(lambda: survey(plan, line.store, spooled)))
        threads = settings.threads or os.cpu_count() or 1
        await edge_.meanwhile(Incoming(incoming, edge_, progress, threads).take_all())
        await edge_.drained()


def _contents(spool: Spool) -> str:
    if not spool.depth:
        return "Nothing waits in the spool"
    return f"{spool.depth} entries ({spool.bytes / 1e6:.1f} MB) wait in {spool.folder}"
