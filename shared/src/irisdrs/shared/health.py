"""What a process says of itself: alive, ready, figures."""

import asyncio
import time
from collections.abc import Callable

from fastapi import FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from irisdrs.shared.metrics import Metrics

#: How often the event loop's delay is measured, seconds: finer than the 100 ms that nothing may block it for.
_SAMPLE_S = 0.02


def health_application(registry: CollectorRegistry, not_ready: Callable[[], str | None]) -> FastAPI:
    """`/health/live`, `/health/ready`, `/metrics`.

    Parameters
    ----------
    registry : CollectorRegistry
    not_ready : callable
        Why the process is not ready, None when it is.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/health/live")
    async def live() -> dict[str, str]:
        return {"status": "live"}

    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready"})
        return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)

    @app.get("/metrics")
    async def figures() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class LoopLag:
    """How late the event loop is: the delay of a short sleep.

    Parameters
    ----------
    metrics : Metrics
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._recent_s = self._worst_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        while True:
            start_s = time.monotonic()
            await asyncio.sleep(_SAMPLE_S)
            lag_s = time.monotonic() - start_s - _SAMPLE_S
            self._recent_s = max(self._recent_s, lag_s)
            if lag_s > self._worst_s:
                self._worst_s = lag_s
                self._metrics.loop_lag_worst_seconds.set(lag_s)

    def report(self) -> float:
        """Worst delay since the last report, seconds."""
        recent_s, self._recent_s = self._recent_s, 0.0
        self._metrics.loop_lag_seconds.set(recent_s)
        return recent_s
