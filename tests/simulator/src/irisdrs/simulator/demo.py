"""The demonstration: the whole system in this process, a night played into it from another one."""

import asyncio
import contextlib
import shutil
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.embedded import EmbeddedSystem, run, serve_web
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import FrameReady, FrameReduced, ProcessingFailed, ReadWritten, decode
from irisdrs.shared.identifiers import ExposureType, ProductId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.ledger import compare, current_products, expected_products, expected_reads
from irisdrs.simulator.night import plan_observation
from irisdrs.simulator.photometry import Measurement
from irisdrs.simulator.references import write_references
from irisdrs.simulator.report import Latencies, Report, measure_image

#: Marks a folder that a demonstration may empty.
MARKER = ".iris-demo"
#: How long after the last read products may take, seconds: ten times the budget of a reduced image.
PATIENCE_S = 300.0


async def demonstrate(data_dir: Path, size: int, reads: int, science: int, sky: int, console: Console) -> bool:
    """Run the demonstration; True when nothing was lost, nothing is there twice and the photometry is right."""
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
    async with run(settings) as system, serve_web(system) as url:
        async with _watching(system, plan, latencies, console), _night(plan_file, data_dir, url):
            await _products_are_there(system, url, plan)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client:
            rows = await current_products(client, plan)
    frames = [row for row in rows if row["level"] != 0]
    verdict = compare(expected_products(plan) + expected_reads(plan), [str(row["product_id"]) for row in rows])
    report = Report(verdict, latencies, _measure(frames, data_dir, settings))
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
    for detector in plan.detectors:
        folder = cache.parent / "references" / detector
        truths = [DetectorTruth(detector, sampling.shape, seed)]
        files = write_references(folder, truths, plan.filter, sampling.mode, sampling.ramp_time_s, plan.night)
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
async def _night(plan_file: Path, data_dir: Path, url: str) -> AsyncIterator[None]:
    """Play the night from a process of its own, as the detectors' edge would; wait for its end first."""
    command = (sys.argv[0], "night", "--plan", str(plan_file), "--data", str(data_dir), "--url", url, "--quiet")
    process = await asyncio.create_subprocess_exec(*command)
    try:
        if await process.wait():
            raise Fatal("The night ended with an error.", remedy="See above.")
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextlib.asynccontextmanager
async def _watching(
    system: EmbeddedSystem, plan: ObservationPlan, latencies: Latencies, console: Console
) -> AsyncIterator[None]:
    """Show what is announced while it happens."""
    exposures = len(plan.exposure_ids())
    columns = (TextColumn("{task.description:>14}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bars = {
            ReadWritten: progress.add_task("reads", total=exposures * plan.sampling.ramps * plan.sampling.reads),
            FrameReady: progress.add_task("raw frames", total=exposures),
            FrameReduced: progress.add_task("reduced images", total=exposures),
        }

        async def watch() -> None:
            async with system.bus.listen("iris.#") as messages:
                async for message in messages:
                    envelope, event = decode(message)
                    latencies.note(envelope, event)
                    if type(event) in bars:
                        progress.advance(bars[type(event)])
                    if isinstance(event, ProcessingFailed):
                        progress.console.print(f"[yellow]{event.service}[/]: {event.message} ({event.outcome})")

        task = asyncio.create_task(watch())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _products_are_there(system: EmbeddedSystem, url: str, plan: ObservationPlan) -> None:
    """Wait until the archive has everything, or the system has nothing left to do."""
    wanted = expected_products(plan) + expected_reads(plan)
    with contextlib.suppress(TimeoutError):
        async with (
            asyncio.timeout(PATIENCE_S),
            httpx.AsyncClient(base_url=url, trust_env=False, timeout=60.0) as client,
        ):
            while compare(wanted, [str(r["product_id"]) for r in await current_products(client, plan)]).lost:
                if await _parked(system) and not any(system.bus.depths().values()):
                    return
                await asyncio.sleep(0.5)


async def _parked(system: EmbeddedSystem) -> int:
    return sum([len(await system.bus.parked(queue)) for queue in QUEUES])


def _measure(frames: Sequence[Mapping[str, object]], data_dir: Path, settings: HostSettings) -> dict[str, Measurement]:
    """Stars of every reduced science image against the truth."""
    measured = {}
    for row in frames:
        if row["level"] == 2 and row["exposure_type"] == ExposureType.SCI:
            exposure = ProductId.parse(str(row["product_id"])).exposure
            image = settings.store_dir / str(row["key"])
            measured[str(row["product_id"])] = measure_image(image, data_dir / "truth" / f"{exposure}.ecsv")
    return measured
