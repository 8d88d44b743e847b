"""Compose the service: settings, handlers of each detector."""

import asyncio
from collections.abc import Sequence

import structlog
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from irisdrs.readout import compiling
from irisdrs.readout.backend import Processor
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.warming import warm_up
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.bus.topology import readout_queue
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.service import Platform, Service

_log = structlog.get_logger(__name__)


class ReadoutSettings(BaseSettings):
    """Settings of the service: environment variables ``IRIS_READOUT_...``."""

    model_config = SettingsConfigDict(env_prefix="IRIS_READOUT_", frozen=True)

    detectors: tuple[Detector, ...] = Field(default=tuple(Detector), description="Detectors to read out (JSON list)")
    ring_bytes: int = Field(
        default=DEFAULT_BYTES,
        ge=0,
        description="Memory for reads that wait for the fit of their ramp, of all detectors; beyond it they are files",
    )
    grow_saturation: bool = Field(
        default=False, description="Whether the eight neighbours of a saturated pixel are saturated too"
    )


def compose(platform: Platform, detectors: Sequence[Detector] = ()) -> Service:
    """Build the service on what its host lends.

    Parameters
    ----------
    platform : Platform
    detectors : sequence of Detector
        Detectors to read out; by default those of the settings.
    """
    settings = ReadoutSettings()
    chosen = detectors or settings.detectors
    processor = Processor()
    room = Room(settings.ring_bytes, platform.scratch)
    workshop = Workshop(
        platform.store,
        platform.references,
        platform.threads,
        processor,
        room,
        grow_saturation=settings.grow_saturation,
    )

    async def prepare() -> None:
        with compiling.saying_so(_log.warning):
            await asyncio.get_running_loop().run_in_executor(platform.threads, warm_up, processor)

    async def close() -> None:
        processor.shutdown()

    handlers = {readout_queue(detector): DetectorHandlers(workshop).handlers() for detector in chosen}
    return Service(name="readout", handlers=handlers, close=close, prepare=prepare)
