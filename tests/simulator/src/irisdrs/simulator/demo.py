"""The demonstration: the whole system, a night played into it from another process, held against the truth."""

import asyncio
import contextlib
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import Event, FrameReady, FrameReduced, ProcessingFailed, ReadWritten, decode
from irisdrs.shared.identifiers import ExposureType, ProductId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.port import ObjectRef, Store
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.ledger import compare, current_products, expected_products, expected_reads
from irisdrs.simulator.night import plan_observation
from irisdrs.simulator.observatory import STARTING, StoreKind
from irisdrs.simulator.photometry import Measurement
from irisdrs.simulator.references import write_references
from irisdrs.simulator.report import Latencies, Report, measure_image
from irisdrs.simulator.stage import Stage, distributed_stage, embedded_stage

#: What carries the events of a demonstration.
BusKind = Literal["memory", "rabbitmq"]

#: Marks a folder that a demonstration may empty.
MARKER = ".iris-demo"
#: How long after the last read products may take, seconds: ten times the budget of a reduced image.
PATIENCE_S = 300.0


async def demonstrate(
    data_dir: Path, size: int, reads: int, science: int, sky: int, console: Console, bus: BusKind, store: StoreKind
) -> bool:
    """Run the demonstration; True when nothing was lost, nothing is there twice and the photometry is right."""
    if bus == "memory" and store == "s3":
        raise Fatal("The embedded system keeps its store in a directory.", remedy="Choose the bus rabbitmq, too.")
    _empty(data_dir)
    settings = HostSettings(data_dir=data_dir, archive_port=0)
    today = datetime.now(UTC).date()
    draft = plan_observation(night=today, crds_context="", size=size, reads=reads, science=science, sky=sky)
    with console.status("Writing calibration references from the simulator's truth"):
        context = await asyncio.to_thread(prepare_references, draft, settings.crds_dir, 0)
    plan = draft.model_copy(update={"crds_context": context})
    plan_file = data_dir / "plan.json"
    plan_file.write_text(plan.model_dump_json(indent=2), encoding="utf-8")
    latencies = Latencies()
    async with contextlib.AsyncExitStack() as stack:
        with console.status(STARTING):
            opening = embedded_stage(settings) if bus == "memory" else distributed_stage(data_dir, store)
            stage = await stack.enter_async_context(opening)
        async with _watching(stage, plan, latencies, console), _night(stage, plan_file, data_dir):
            await _products_are_there(stage, plan)
        latencies.loop_lag |= stage.loop_lag()
        async with httpx.AsyncClient(base_url=stage.url, trust_env=False, timeout=60.0) as client:
            rows = await current_products(client, plan)
        frames = [row for row in rows if row["level"] != 0]
        measured = await _measure(frames, data_dir, stage.store)
    verdict = compare(expected_products(plan) + expected_reads(plan), [str(row["product_id"]) for row in rows])
    report = Report(verdict, latencies, measured)
    report.show(console, frames)
    report.write(data_dir / "report.json")
    console.print(
        f"demo: {report.products} products, {len(verdict.lost)} lost, {len(verdict.duplicated)} duplicated",
        highlight=False,
    )
    return report.good


def prepare_references(plan: ObservationPlan, cache: Path, seed: int) -> str:
    """Write the references of a plan's detectors from their truth, and a CRDS context around them."""
    sampling = plan.sampling
    context = ""
    cache.parent.mkdir(parents=True, exist_ok=True)
    for detector in plan.detectors:
        folder = Path(tempfile.mkdtemp(dir=cache.parent, prefix="references-"))  # two nights may be prepared at once
        truths = [DetectorTruth(detector, sampling.shape, seed)]
        files = write_references(folder, truths, plan.filter, sampling.ramp_time_s, plan.night)
        context = build_context(cache, files, take=True)
        shutil.rmtree(folder)
    return context


def _empty(data_dir: Path) -> None:
    if data_dir.exists() and any(data_dir.iterdir()) and not (data_dir / MARKER).exists():
        raise Fatal(f"{data_dir} is not empty and is no demonstration's.", remedy="Name another folder with --data.")
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    (data_dir / MARKER).touch()


@contextlib.asynccontextmanager
async def _night(stage: Stage, plan_file: Path, data_dir: Path) -> AsyncIterator[None]:
    """Play the night from a process of its own, as the detectors' edge would; wait for its end first."""
    command = (sys.argv[0], "night", "--plan", str(plan_file), "--data", str(data_dir), "--url", stage.url, "--quiet")
    environment = {**stage.environment, "IRIS_LOG_LEVEL": "error"}
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        if await process.wait():
            raise Fatal("The night ended with an error.", remedy="See above.")
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _watching(stage: Stage, plan: ObservationPlan, latencies: Latencies, console: Console) -> AsyncIterator[None]:
    """Show what is announced while it happens."""
    exposures = len(plan.exposure_ids())
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {
            ReadWritten: progress.add_task("reads", total=exposures * plan.sampling.ramps * plan.sampling.reads),
            FrameReady: progress.add_task("raw frames", total=exposures),
            FrameReduced: progress.add_task("reduced images", total=exposures),
        }

        told = set[tuple[type[Event], str]]()

        async def watch() -> None:
            async with stage.bus.listen("iris.#") as messages:
                async for message in messages:
                    envelope, event = decode(message)
                    latencies.note(envelope, event)
                    if type(event) in bars and (type(event), event.subject) not in told:
                        told.add((type(event), event.subject))  # reconciliation may tell it again
                        progress.advance(bars[type(event)])
                    if isinstance(event, ProcessingFailed):
                        progress.console.print(f"[yellow]{event.service}[/]: {event.message} ({event.outcome})")

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _products_are_there(stage: Stage, plan: ObservationPlan) -> None:
    """Wait until the archive has everything, or the system has nothing left to do."""
    wanted = expected_products(plan) + expected_reads(plan)
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(PATIENCE_S),
            httpx.AsyncClient(base_url=stage.url, trust_env=False, timeout=60.0) as client,
        ):
            while compare(wanted, [str(r["product_id"]) for r in await current_products(client, plan)]).lost:
                if await stage.idle() and await _parked(stage):
                    return
                await asyncio.sleep(0.5)


async def _parked(stage: Stage) -> int:
    return sum([len(await stage.bus.parked(queue)) for queue in QUEUES])


async def _measure(frames: Sequence[Mapping[str, object]], data_dir: Path, store: Store) -> dict[str, Measurement]:
    """Stars of every reduced science image against the truth."""
    measured = {}
    for row in frames:
        if row["level"] == 2 and row["exposure_type"] == ExposureType.SCI:
            exposure = ProductId.parse(str(row["product_id"])).exposure
            facts = {name: row[name] for name in ("key", "sha256", "size")}
            async with store.local(ObjectRef.model_validate(facts)) as image:
                truth = data_dir / "truth" / f"{exposure}.ecsv"
                measured[str(row["product_id"])] = await asyncio.to_thread(measure_image, image, truth)
    return measured
