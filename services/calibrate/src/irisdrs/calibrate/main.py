"""Compose the service: settings, workers, handlers."""

import functools

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from irisdrs.calibrate.handlers import on_frame_ready
from irisdrs.calibrate.worker import MEMORY_MB, WorkerPool
from irisdrs.shared.bus.topology import CALIBRATE_REALTIME
from irisdrs.shared.events import FrameReady
from irisdrs.shared.service import Platform, Service


class CalibrateSettings(BaseSettings):
    """Settings of the service: environment variables ``IRIS_CALIBRATE_...``."""

    model_config = SettingsConfigDict(env_prefix="IRIS_CALIBRATE_", frozen=True)

    workers: int = Field(default=1, ge=1, description="Worker processes; each takes 1.6 GB at 4096 x 4096")
    worker_memory_mb: int = Field(
        default=MEMORY_MB, ge=512, description="Most memory that a worker process may take, 2**20 bytes"
    )
    recycle_after: int = Field(default=200, ge=1, description="Jobs after which a worker process is replaced")
    hard_timeout_s: float = Field(
        default=120.0, gt=0, description="Longest a job may take, seconds; includes the start of its process"
    )


def compose(platform: Platform) -> Service:
    """Build the service on what its host lends. Starts the worker processes."""
    settings = CalibrateSettings()
    workers = WorkerPool(
        settings.workers, settings.recycle_after, settings.hard_timeout_s, memory_mb=settings.worker_memory_mb
    )
    handler = functools.partial(
        on_frame_ready,
        store=platform.store,
        references=platform.references,
        workers=workers,
        scratch=platform.scratch,
    )
    return Service(name="calibrate", handlers={CALIBRATE_REALTIME: {FrameReady: handler}}, close=workers.close)
