"""Figures of the edge for Prometheus: how full the spool is, and how long what waits has waited."""

import math

from prometheus_client import CollectorRegistry, Gauge

from irisdrs.shared.edge.gauge import Level
from irisdrs.shared.edge.spool import Spool


def spool_metrics(spool: Spool) -> CollectorRegistry:
    """A registry that looks at a spool when it is asked."""
    registry = CollectorRegistry()

    def minutes_left() -> float:
        left = spool.minutes_left()
        return math.nan if left is None else left

    for name, meaning, value in (
        ("entries", "Entries that wait", lambda: spool.depth),
        ("bytes", "Bytes that wait", lambda: spool.bytes),
        ("limit_bytes", "Bytes that may wait", lambda: spool.max_bytes),
        ("oldest_seconds", "Age of the oldest entry", lambda: spool.oldest_age_s),
        ("minutes_left", "Until it is full at the present rate; NaN while it does not fill", minutes_left),
        ("damaged", "Entries that were put aside", lambda: spool.damaged),
    ):
        Gauge(f"iris_spool_{name}", meaning, registry=registry).set_function(value)
    return registry


def why_not_ready(spool: Spool) -> str | None:
    """Why the edge takes no reads, None when it does."""
    if spool.level is Level.FULL:
        return f"The spool {spool.folder} is full: reads wait at the detector until store and bus have taken some."
    return None
