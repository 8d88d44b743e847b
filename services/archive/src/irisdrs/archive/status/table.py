"""The status as people read it, on 80 columns."""

import statistics
from collections.abc import Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from irisdrs.archive.catalogue.latencies import Latency
from irisdrs.shared.budget import REDUCED_IMAGE_S
from irisdrs.shared.status import QueueState, ServiceState, SystemStatus

#: From this fraction of the budget on a latency is yellow; over it, red.
CLOSE = 0.8


def print_report(system: SystemStatus, latencies: Sequence[Latency], problems: Sequence[str], console: Console) -> None:
    """Print services, queues, latencies and what somebody should look at."""
    console.print(_services(system.services))
    console.print(_queues(system.queues))
    if not latencies:
        console.print("No exposure has been made into a frame yet.")
    for observation, rows in groupby(latencies, key=lambda row: row.observation):
        console.print(_burn(observation, list(rows)))
    for problem in problems:
        console.print(Text(problem, style="red"), soft_wrap=True)


def _table(title: str, first: str, *numbers: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _services(services: Sequence[ServiceState]) -> Table:
    table = _table("Services", "service", "state", "in flight", "restarts", "loop lag (ms)")
    for one in services:
        table.add_row(
            one.service,
            Text(one.state, style="green" if one.state == "ready" else "red"),
            str(one.in_flight),
            "" if one.restarts is None else str(one.restarts),
            "" if one.lag_s is None else f"{one.lag_s * 1e3:.0f}",
        )
    return table


def _queues(queues: Sequence[QueueState]) -> Table:
    table = _table("Queues", "queue (iris.q.)", "waiting", "parked", "consumers")
    for one in queues:
        table.add_row(
            one.queue.removeprefix("iris.q."),
            str(one.waiting),
            Text(str(one.parked), style="red" if one.parked else ""),
            "" if one.consumers is None else str(one.consumers),
        )
    return table


def _burn(observation: str, rows: Sequence[Latency]) -> Table:
    """Exposures of an observation: when its products were told, and who used the time, seconds."""
    services = list(dict.fromkeys(name for row in rows for name in row.spent_s))
    table = _table(f"{observation}: seconds from the last photon", "exposure", "raw", "image", *services)
    table.add_column("waiting", justify="right")
    table.add_column("of budget", justify="right")
    for row in rows:
        table.add_row(
            f"{row.exposure_type}-{row.exposure:04d} {row.detector}",
            _seconds(row.raw_s),
            _seconds(row.reduced_s),
            *(_seconds(row.spent_s.get(name)) for name in services),
            _seconds(row.waiting_s),
            _fraction(row),
        )
    columns = [
        [row.raw_s for row in rows],
        [row.reduced_s for row in rows],
        *([row.spent_s.get(name) for row in rows] for name in services),
        [row.waiting_s for row in rows],
    ]
    medians = [_median(column) for column in columns]
    table.add_section()
    table.add_row("median", *(_seconds(value) for value in medians), style="bold")
    table.add_row(f"share of {REDUCED_IMAGE_S:g} s", *(_share(value) for value in medians), style="bold")
    return table


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _share(value: float | None) -> str:
    return "" if value is None else f"{value / REDUCED_IMAGE_S:.0%}"


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _fraction(row: Latency) -> Text:
    if row.clock_skew:
        return Text("clock skew", style="yellow")
    if row.budget_fraction is None:
        return Text("")
    style = "red" if row.budget_fraction > 1 else "yellow" if row.budget_fraction > CLOSE else "green"
    return Text(f"{row.budget_fraction:.0%}", style=style)
