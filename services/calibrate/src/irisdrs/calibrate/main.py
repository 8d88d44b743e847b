"""Compose the service: settings, workers, handlers."""

import functools

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from irisdrs.calibrate.handlers import (
    Workshop,
    on_combination_requested,
    on_frame_ready,
    on_reduction_requested,
)
from irisdrs.calibrate.worker import MEMORY_MB, START_TIMEOUT_S, WorkerPool
from irisdrs.shared.bus.topology import CALIBRATE_BULK, CALIBRATE_COMBINE, CALIBRATE_REALTIME, QUEUES, Lane
from irisdrs.shared.events import CombinationRequested, FrameReady, ReductionRequested
from irisdrs.shared.service import Handlers, Platform, Service

#: A job must end before the time of its event does, in every lane: then the event hears what went wrong. Seconds.
EVENT_TIMEOUT_S = min(
    queue.hard_timeout_s for queue in QUEUES if queue.name in (CALIBRATE_REALTIME, CALIBRATE_COMBINE, CALIBRATE_BULK)
)


class CalibrateSettings(BaseSettings):
    """Settings of the service: environment variables ``IRIS_CALIBRATE_...``."""

    model_config = SettingsConfigDict(env_prefix="IRIS_CALIBRATE_", frozen=True)

    workers: int = Field(default=1, ge=1, description="Worker processes; each takes 1.6 GB at 4096 x 4096")
    worker_memory_mb: int = Field(
        default=MEMORY_MB, ge=512, description="Most memory that a worker process may take, 2**20 bytes"
    )
    recycle_after: int = Field(default=200, ge=1, description="Jobs after which a worker process is replaced")
    hard_timeout_s: float = Field(
        default=120.0,
        gt=0,
        lt=EVENT_TIMEOUT_S - START_TIMEOUT_S,
        description="Longest a job may take, seconds; without the start of its process",
    )


def compose(platform: Platform, lane: Lane = "realtime") -> Service:
    """Build the service on what its host lends, for the queue of one lane. Starts the worker processes.

    Parameters
    ----------
    platform : Platform
    lane : str
        ``realtime``, ``combine`` or ``bulk``; each runs in processes of its own.
    """
    if lane == "combine":
        return Service(name="calibrate", handlers={CALIBRATE_COMBINE: {CombinationRequested: on_combination_requested}})
    settings = CalibrateSettings()
    workers = WorkerPool(
        settings.workers,
        settings.recycle_after,
        settings.hard_timeout_s,
        memory_mb=settings.worker_memory_mb,
        idle_priority=lane == "bulk",  # real time never waits for what nobody waits for
    )
    workshop = Workshop(platform.store, platform.references, workers, platform.scratch)
    handlers: dict[str, Handlers]
    if lane == "bulk":
        handlers = {CALIBRATE_BULK: {ReductionRequested: functools.partial(on_reduction_requested, workshop=workshop)}}
    else:
        handlers = {CALIBRATE_REALTIME: {FrameReady: functools.partial(on_frame_ready, workshop=workshop)}}
    return Service(name="calibrate", handlers=handlers, close=workers.close)
