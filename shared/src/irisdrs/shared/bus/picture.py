"""The topology table as people read it: a table, and the picture of the README."""

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table

from irisdrs.shared.bus.topology import PRODUCERS, QUEUES, RETRY_DELAYS_S, Queue, binding_key, exchange_of


def queue_table() -> Table:
    """Queues: who consumes them and how."""
    table = _narrow("Queues", "queue (iris.q.)", "service", "lane")
    for column in ("pre-\nfetch", "at\nonce", "active", "deliv-\neries", "limit\n(s)"):
        table.add_column(column, justify="right")
    for queue in QUEUES:
        table.add_row(
            _short(queue.name),
            queue.service,
            queue.lane,
            str(queue.prefetch),
            str(queue.concurrency),
            "one" if queue.single_active else "all",
            str(queue.delivery_limit),
            f"{queue.hard_timeout_s:g}",
        )
    return table


def event_table() -> Table:
    """Events: who tells them, under which key, and which queues take them."""
    table = _narrow("Events", "event", "routing key (iris.)", "told by", "taken by")
    for kind, producers in PRODUCERS.items():
        key = binding_key(kind)
        takers = [name for name, queues in _rows() if any(kind in queue.takes for queue in queues)]
        table.add_row(
            kind.__name__,
            key.removeprefix("iris."),
            "\n".join(producers),
            "\n".join(map(_short, takers)) or ("nobody yet" if kind.mandatory else "listeners"),
        )
    return table


def as_facts() -> dict[str, object]:
    """Both tables for programs."""
    return {
        "queues": [
            {
                "name": queue.name,
                "service": queue.service,
                "lane": queue.lane,
                "takes": [kind.cloud_type(version) for kind in queue.takes for version in kind.told_versions()],
                "binding_keys": list(queue.binding_keys()),
                "prefetch": queue.prefetch,
                "concurrency": queue.concurrency,
                "single_active": queue.single_active,
                "delivery_limit": queue.delivery_limit,
                "hard_timeout_s": queue.hard_timeout_s,
            }
            for queue in QUEUES
        ],
        "events": [
            {
                "type": kind.cloud_type(version),
                "routing_key": binding_key(kind),
                "exchange": exchange_of(binding_key(kind)),
                "mandatory": kind.mandatory,
                "producers": list(producers),
            }
            for kind, producers in PRODUCERS.items()
            for version in kind.told_versions()
        ],
        "retry_delays_s": list(RETRY_DELAYS_S),
    }


def picture() -> str:
    """The way of events as a Mermaid flowchart, one arrow from each producer to each queue."""
    lines = ["flowchart LR", "    edge([detector edge])", "    operator([operator])"]
    rows = list(_rows())
    for number, (name, queues) in enumerate(rows):
        lines.append(f"    q{number}[({name})] --> {queues[0].service}")
    for number, (_, queues) in enumerate(rows):
        arrows: dict[str, list[str]] = {}
        for kind in queues[0].takes:
            for producer in PRODUCERS[kind]:
                arrows.setdefault(producer, []).append(kind.__name__)
        for producer, events in arrows.items():
            lines.append(f"    {producer} -- {_label(events)} --> q{number}")
    return "\n".join(lines)


def _narrow(title: str, *columns: str) -> Table:
    """A table that 80 columns are enough for: nothing in it is cut off."""
    table = Table(title=f"\n{title}", title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=0)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _short(name: str) -> str:
    return name.removeprefix("iris.q.")


def _label(events: list[str]) -> str:
    return '"' + "<br>".join(events) + '"'


def _rows() -> Iterator[tuple[str, list[Queue]]]:
    """Queues that differ by their detector only count as one row."""
    rows: dict[str, list[Queue]] = {}
    for queue in QUEUES:
        name = queue.name.removesuffix(f".{queue.detector}") + ".DET" if queue.detector else queue.name
        rows.setdefault(name, []).append(queue)
    yield from rows.items()
