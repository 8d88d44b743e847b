"""Figures of a process for Prometheus: what goes in and out, how long it takes, what goes wrong."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

#: Upper bounds of handler durations, seconds: from a remembered answer to the longest time limit.
_HANDLER_BOUNDS_S = (0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0)

#: Upper bounds of a hop, seconds: the goal is 50 ms, the whole latency budget 30 s.
_HOP_BOUNDS_S = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0)


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
            "iris_clock_skew", "Events that were told in our future", queue, registry=self.registry
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
