"""`make chaos`: play every case, and say what held."""

import asyncio
import itertools
import logging
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from tests.chaos.arena import opened
from tests.chaos.cases import chosen
from tests.chaos.performance import Case, Outcome, Performance, perform
from tests.chaos.results import table, write

from irisdrs.shared.observation import ObservationPlan
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.night import plan_observation

#: Pixels along each side of a frame, and reads of it.
SIZE, READS = 64, 4


def main(
    seed: Annotated[int, typer.Option(help="Of everything that is random")] = 1,
    case: Annotated[str, typer.Option(help="Names of cases, with commas; default: all")] = "",
    results: Annotated[
        Path | None, typer.Option(help="Folder for RESULTS.md and RESULTS.json; default: here, if all cases are played")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Folder for logs and data; default: one that is removed")] = None,
) -> None:
    """Let things happen to nights, and hold what came of them against a ledger.

    Ends with status 0 only if every case holds its goal.
    """
    cases, console = chosen(case), Console()
    with tempfile.TemporaryDirectory(prefix="iris-chaos-") as scratch:
        folder = Path(scratch) if keep is None else keep.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "chaos.log").open("a", encoding="utf-8") as log:
            logging.basicConfig(level=logging.WARNING, stream=log, force=True)  # libraries say much of cut lines
            logging.captureWarnings(capture=True)
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(file=log))
            start_s = time.monotonic()
            outcomes = asyncio.run(_play(cases, seed, folder, console))
    console.print(table(outcomes))
    if results is not None or not case:
        write(outcomes, results or Path(__file__).parent, seed, time.monotonic() - start_s)
    held = sum(not outcome.problems for outcome in outcomes)
    console.print(f"chaos: {held} of {len(outcomes)} cases held")
    raise typer.Exit(int(held < len(outcomes)))


async def _play(cases: list[Case], seed: int, folder: Path, console: Console) -> list[Outcome]:
    references = await asyncio.to_thread(_references, folder / "references")
    outcomes, numbers = [], itertools.count(1)
    for setting, group in itertools.groupby(cases, key=lambda one: one.setting):
        console.print(f"starting {setting.value}")
        async with opened(setting, folder / setting.name.lower(), references) as arena:
            for one in group:
                await arena.ready()
                night = Performance(arena, one, next(numbers), seed)
                with _progress(night, console):
                    outcome = await perform(night)
                console.print(_line(outcome), style="red" if outcome.problems else "green", soft_wrap=True)
                outcomes.append(outcome)
    return outcomes


def _references(folder: Path) -> tuple[ObservationPlan, Path]:
    yesterday = datetime.now(UTC).date() - timedelta(days=1)  # so that references are in force whatever clock is told
    draft = plan_observation(night=yesterday, crds_context="", size=SIZE, reads=READS, science=1, sky=1)
    return draft.model_copy(update={"crds_context": prepare_references(draft, folder / "crds", 0)}), folder / "crds"


def _line(outcome: Outcome) -> str:
    recovery = "never" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f} s"
    state = "held" if not outcome.problems else f"missed: {'; '.join(outcome.problems)}"
    return f"{outcome.case.name}: {state} (recovery {recovery}, {outcome.seconds:.0f} s)"


@contextmanager
def _progress(night: Performance, console: Console) -> Iterator[None]:
    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task(f"{night.case.name}: {night.case.injected}", total=night.events)

        async def show() -> None:
            while True:
                progress.update(task, completed=night.told)
                await asyncio.sleep(0.2)

        showing = asyncio.ensure_future(show())
        try:
            yield
        finally:
            showing.cancel()


if __name__ == "__main__":
    typer.run(main)
