"""Figures of crds_proxy for Prometheus: what is asked, how fast it is answered, what is remembered, what goes out."""

from prometheus_client import Counter, Histogram
from prometheus_client.registry import Collector

#: Upper bounds of answers, seconds: from a remembered one to a context that is loaded first.
_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class Figures:
    """Figures of one process; the host adds the collectors to its metrics."""

    def __init__(self) -> None:
        self.calls = Counter("iris_crds_calls", "Calls of the CRDS protocol", ("method", "outcome"), registry=None)
        self.call_seconds = Histogram(
            "iris_crds_call_seconds",
            "From a call of the CRDS protocol to its answer",
            ("method",),
            buckets=_BOUNDS_S,
            registry=None,
        )
        self.choices = Counter(
            "iris_crds_choices", "Questions for best references, remembered or new", ("answer",), registry=None
        )
        self.file_bytes = Counter("iris_crds_file_bytes", "Bytes of files that went out", ("kind",), registry=None)

    def collectors(self) -> tuple[Collector, ...]:
        """All of them."""
        return self.calls, self.call_seconds, self.choices, self.file_bytes
