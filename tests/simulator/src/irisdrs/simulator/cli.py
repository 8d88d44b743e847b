"""`iris simulate`, `iris night` and `iris demo`."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console

from irisdrs.shared import logs
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.line import Line, open_line
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import OBSERVATION_PATTERN, SamplingMode
from irisdrs.shared.instrument import DETECTOR_SIZE, FILTERS
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.keys import observation_key
from irisdrs.simulator.demo import BusKind, demonstrate, prepare_references
from irisdrs.simulator.host import check_host
from irisdrs.simulator.night import Night, plan_observation, play
from irisdrs.simulator.observatory import StoreKind

#: How long a night waits for a broker and a store that are away when it begins, seconds.
PATIENCE_S = 10.0

app = typer.Typer(help="Simulate the instrument: plans, calibration references, nights.", no_args_is_help=True)

Data = Annotated[Path | None, typer.Option(help="Folder of the system's data [default: $IRIS_DATA_DIR, data]")]
Size = Annotated[int, typer.Option(help="Rows and columns of a detector, a multiple of 64", min=64, max=DETECTOR_SIZE)]
Reads = Annotated[int, typer.Option(help="Reads of a ramp; 1 with the mode SINGLE only", min=1)]
Mode = Annotated[SamplingMode, typer.Option(help="Sampling mode")]
GroupReads = Annotated[int, typer.Option(help="MCDS: reads in each of the two groups", min=1)]
Science = Annotated[int, typer.Option(help="Science exposures", min=0)]
Sky = Annotated[int, typer.Option(help="Sky exposures", min=0)]
Seed = Annotated[int, typer.Option(help="Seed of stars, detectors and noise")]


@app.command()
def plan(
    data: Data = None,
    size: Size = DETECTOR_SIZE,
    reads: Reads = 8,
    science: Science = 2,
    sky: Sky = 1,
    filter_name: Annotated[str, typer.Option("--filter", help="Filter")] = "H",
    mode: Mode = SamplingMode.UTR,
    group_reads: GroupReads = 1,
    observation: Annotated[str, typer.Option(help="Observation id")] = "2034B-007-123",
    seed: Seed = 0,
) -> None:
    """Print the plan of an observation of tonight, after writing the calibration references that it needs."""
    if filter_name not in FILTERS:
        raise typer.BadParameter(f"IRIS has no filter {filter_name!r}; it has {', '.join(FILTERS)}")
    settings = _settings(data)
    made = _plan(settings, size, reads, science, sky, seed, filter_name, mode, group_reads, observation)
    typer.echo(made.model_dump_json(indent=2))


def night(
    url: Annotated[str | None, typer.Option(help="Where `iris up` answers [default: http://127.0.0.1:8080]")] = None,
    data: Data = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="Plan from `iris simulate plan`")] = None,
    size: Size = DETECTOR_SIZE,
    reads: Reads = 8,
    science: Science = 2,
    sky: Sky = 1,
    mode: Mode = SamplingMode.UTR,
    group_reads: GroupReads = 1,
    observation: Annotated[str, typer.Option(help="Observation id")] = "2034B-007-123",
    seed: Seed = 0,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing")] = False,
) -> None:
    """Play a simulated night into a running system: four detectors, dithered science, sky.

    Without --plan an observation of tonight is made, with its calibration references. Nothing is played when no
    system answers, or when it works on another folder.
    """
    settings = _settings(data)
    logs.configure(settings.model_copy(update={"log_level": "error"}))  # who plays a night looks at its progress
    console = Console(quiet=quiet)
    address = (url or settings.archive_url).rstrip("/")
    if settings.amqp_url is None:
        check_host(address, settings.data_dir)
    if plan_file is not None:
        made = ObservationPlan.model_validate_json(plan_file.read_text(encoding="utf-8"))
    else:
        with console.status("Writing calibration references from the simulator's truth"):
            made = _plan(settings, size, reads, science, sky, seed, "H", mode, group_reads, observation)
    asyncio.run(_play(Night(made, seed, lambda: datetime.now(UTC)), settings, address, console))


def demo(
    data: Annotated[Path, typer.Option(help="Folder of the demonstration; emptied first")] = Path("demo"),
    size: Size = DETECTOR_SIZE,
    reads: Annotated[int, typer.Option(help="Reads of a ramp", min=2)] = 8,
    science: Science = 2,
    sky: Sky = 1,
    bus: Annotated[BusKind, typer.Option(help="memory: all in one process; rabbitmq: a process each")] = "memory",
    store: Annotated[StoreKind, typer.Option(help="Where objects are; s3 needs the bus rabbitmq")] = "directory",
) -> None:
    """Run the whole system, play a night into it, and hold the result against the truth.

    In one process, or with --bus rabbitmq on a private RabbitMQ node and every service as a process of its own. Ends
    with 0 when nothing was lost, nothing is there twice and the photometry is right; report in report.json.
    """
    logs.configure(HostSettings(log_level="error"))
    if not asyncio.run(demonstrate(data, size, reads, science, sky, Console(), bus, store)):
        raise typer.Exit(1)


async def _play(what: Night, settings: HostSettings, url: str, console: Console) -> None:
    async with open_line(settings, url, PATIENCE_S) as line:
        spool = Spool(settings.spool_of(what.plan.observation), settings.spool_max_bytes)
        async with Edge(what.plan, line.store, line.tell, spool) as edge:
            await _play_through(what, edge, line, settings.data_dir / "truth", console)


async def _play_through(what: Night, edge: Edge, line: Line, truth_dir: Path, console: Console) -> None:
    """Play a night and wait until everything is told; first, what a night that was cut off left in the spool."""
    plan, name = what.plan, what.plan.observation
    exposures = f"{len(plan.exposures)} exposures of {len(plan.detectors)} detectors"
    if edge.spool.depth:
        with console.status(f"{name}: telling what an earlier night left in {edge.spool.folder}"):
            await edge.drained()
    if await line.store.head(observation_key(plan.night, name)) is not None:
        raise Fatal(
            f"{name} has been played tonight; its reads taken anew would be in conflict.",
            remedy="Name another observation with --observation.",
        )
    with console.status(f"{name}: {exposures}, {plan.sampling.reads} reads each"):
        await play(what, edge, truth_dir)
        await edge.drained()
    if edge.spool.damaged:
        raise Fatal(
            f"{edge.spool.damaged} entries of the spool could not be sent.",
            remedy=f"They are in {edge.spool.folder / 'damaged'}, with the reasons beside.",
        )
    console.print(f"{name}: {exposures} told to {line.where}")


def _plan(
    settings: HostSettings,
    size: int,
    reads: int,
    science: int,
    sky: int,
    seed: int,
    filter_name: str,
    mode: SamplingMode,
    group_reads: int,
    observation: str,
) -> ObservationPlan:
    if size % 64:
        raise typer.BadParameter(f"--size {size}: a frame has a multiple of 64 rows and columns")
    if not re.fullmatch(OBSERVATION_PATTERN, observation):
        raise typer.BadParameter(f"--observation {observation!r}: an observation id is such as 2034B-007-123")
    if reads == 1 and mode is not SamplingMode.SINGLE:
        raise typer.BadParameter(f"--reads 1: a ramp of {mode} has no slope without a second read")
    if science + sky == 0:
        raise Fatal("A night without an exposure.", remedy="Give --science or --sky.")
    try:
        draft = plan_observation(
            night=datetime.now(UTC).date(),
            crds_context="",
            size=size,
            reads=reads,
            science=science,
            sky=sky,
            filter_name=filter_name,
            sampling=mode,
            group_reads=group_reads,
            observation=observation,
        )
    except ValidationError as wrong:
        raise typer.BadParameter(wrong.errors()[0]["msg"].removeprefix("Value error, ")) from wrong
    return draft.model_copy(update={"crds_context": prepare_references(draft, settings.crds_dir, seed)})


def _settings(data: Path | None) -> HostSettings:
    settings = HostSettings()
    return settings if data is None else settings.model_copy(update={"data_dir": data})
