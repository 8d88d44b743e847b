"""Figures of reconciliation for Prometheus, and what is known to be wrong for good."""

from prometheus_client import Counter, Gauge
from prometheus_client.registry import Collector


class Figures:
    """What the rounds find; the host adds the collectors to its metrics."""

    def __init__(self) -> None:
        self.missed = Gauge(
            "iris_reconcile_missed", "Events found missing in the last round", ("round",), registry=None
        )
        self.announced = Counter("iris_reconcile_announced", "Events announced again", ("round",), registry=None)
        self.held = Counter(
            "iris_reconcile_held", "Missing events left alone: they wait for a person", ("round",), registry=None
        )
        self.failed = Counter(
            "iris_reconcile_failed", "Observations whose look failed: the others went on", ("round",), registry=None
        )
        self.orphans = Gauge(
            "iris_reconcile_orphans", "Rows without objects, and objects that belong to nothing", registry=None
        )
        self.conflicts = Gauge("iris_reconcile_conflicts", "Versions with a read of two contents", registry=None)
        self.seconds = Gauge("iris_reconcile_seconds", "Duration of the last round", ("round",), registry=None)

    def collectors(self) -> tuple[Collector, ...]:
        """All of them."""
        return self.missed, self.announced, self.held, self.failed, self.orphans, self.conflicts, self.seconds
