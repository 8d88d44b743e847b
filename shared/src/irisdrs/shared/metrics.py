"""Figures of a process for Prometheus: what goes in and out, how long it takes, what goes wrong."""

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from irisdrs.shared.budget import REDUCED_IMAGE_S, TOLD_AGAIN_S

#: Upper bounds of handler durations, seconds: from a remembered answer to the longest time limit.
_HANDLER_BOUNDS_S = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)

#: Upper bounds of a hop, seconds: the goal is 50 ms, the whole latency budget 30 s.
_HOP_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)

#: Upper bounds of latencies, seconds: the budgets are 30 s and 60 s.
_LATENCY_BOUNDS_S = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 45.0, 60.0, 120.0, 300.0)

#: Upper bounds of fractions of the budget.
_FRACTION_BOUNDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.5, 2.0, 5.0)


class Metrics:
    """The collectors of one process, in a registry of its own.

    Parameters
    ----------
    registry : CollectorRegistry, optional
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        queue = ("service", "queue")
        self.events_in = Counter("iris_events_in", "Events taken", (*queue, "type"), registry=self.registry)
        self.events_out = Counter("iris_events_out", "Events told", ("service", "type"), registry=self.registry)
        self.failed = Counter(
            "iris_events_failed", "Handlers that failed", (*queue, "error_class"), registry=self.registry
        )
        self.parked = Counter("iris_events_parked", "Events parked", (*queue, "error_class"), registry=self.registry)
        self.handler_seconds = Histogram(
            "iris_handler_seconds",
            "From the call of a handler to its result",
            (*queue, "type"),
            buckets=_HANDLER_BOUNDS_S,
            registry=self.registry,
        )
        self.in_flight = Gauge("iris_events_in_flight", "Events in handlers", queue, registry=self.registry)
        self.hop_seconds = Histogram(
            "iris_hop_seconds",
            "From an event's telling to the call of its handler",
            queue,
            buckets=_HOP_BOUNDS_S,
            registry=self.registry,
        )
        self.clock_skew = Counter(
            "iris_clock_skew",
            "Events of our future: told there, or of photons from there",
            queue,
            registry=self.registry,
        )
        told = ("service", "type")
        self.latency_seconds = Histogram(
            "iris_latency_seconds",
            "From the last photon to the telling of what was made of it",
            told,
            buckets=_LATENCY_BOUNDS_S,
            registry=self.registry,
        )
        self.budget_fraction = Histogram(
            "iris_budget_fraction",
            "The same as a fraction of the budget of a reduced image",
            told,
            buckets=_FRACTION_BOUNDS,
            registry=self.registry,
        )
        self.round_events = Counter(
            "iris_round_events", "Events told by rounds", ("service", "round"), registry=self.registry
        )
        self.object_bytes = Counter(
            "iris_object_bytes", "Bytes of announced objects", ("service", "direction"), registry=self.registry
        )
        self.outage = Gauge("iris_outage", "1 while a server is away", ("service",), registry=self.registry)
        self.loop_lag_seconds = Gauge(
            "iris_loop_lag_seconds", "Worst delay of the event loop in the last report interval", registry=self.registry
        )
        self.loop_lag_worst_seconds = Gauge(
            "iris_loop_lag_worst_seconds", "Worst delay of the event loop since the start", registry=self.registry
        )

    def note_latency(self, service: str, queue: str, kind: str, photons_end: datetime) -> None:
        """Note how long after its last photon an event is told; a negative time is a clock's fault and counts as such.

        Parameters
        ----------
        service, queue, kind : str
            Who tells it, of which queue's events it came, and its type.
        photons_end : datetime
            When the last photon was collected (UTC).
        """
        latency_s = (datetime.now(UTC) - photons_end).total_seconds()
        if latency_s < 0:
            self.clock_skew.labels(service, queue).inc()
        elif latency_s <= TOLD_AGAIN_S:
            self.latency_seconds.labels(service, kind).observe(latency_s)
            self.budget_fraction.labels(service, kind).observe(latency_s / REDUCED_IMAGE_S)
