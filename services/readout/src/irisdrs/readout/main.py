"""Compose the service: settings, handlers of each detector."""

import asyncio
from collections.abc import Sequence

import structlog
from prometheus_client import Gauge
from prometheus_client.registry import Collector
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from irisdrs.readout import compiling
from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.choice import DEVICES, backend_for
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.sampling.options import ReferenceAlgorithm
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
    device: str = Field(
        default="auto",
        pattern=f"^({DEVICES})$",
        validation_alias="IRIS_DEVICE",
        description="Where pixels are computed: cpu, cuda or cuda:1 ..; auto is cuda where there is a device",
    )
    device_bytes: int | None = Field(
        default=None, gt=0, description="Memory of the CUDA device to be taken at most [nine tenths of it]"
    )
    reference_algorithm: ReferenceAlgorithm = Field(
        default=ReferenceAlgorithm.MEAN,
        description="How reference pixels are used: mean, or sirs with the refpix references of CRDS",
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
    backend = backend_for(settings.device, processor, _log.warning, settings.device_bytes)
    device = backend.device_name if isinstance(backend, CudaBackend) else "the processor"
    _log.info("pixels are computed here", device=device, wanted=settings.device)
    workshop = Workshop(
        platform.store,
        platform.references,
        platform.threads,
        backend,
        room,
        grow_saturation=settings.grow_saturation,
        reference_algorithm=settings.reference_algorithm,
    )

    async def prepare() -> None:
        with compiling.saying_so(_log.warning):
            # The processor, too: it may have to take over.
            for warmed in dict.fromkeys((processor, backend)):
                await asyncio.get_running_loop().run_in_executor(platform.threads, warm_up, warmed)

    async def close() -> None:
        backend.shutdown()

    handlers = {readout_queue(detector): DetectorHandlers(workshop).handlers() for detector in chosen}
    collectors = figures_of(backend) if isinstance(backend, CudaBackend) else ()
    return Service(name="readout", handlers=handlers, close=close, prepare=prepare, collectors=collectors)


def figures_of(backend: CudaBackend) -> tuple[Collector, ...]:
    """Figures of a device, for the host's metrics."""
    taken = Gauge("iris_device_bytes", "Memory of the CUDA device that is taken", registry=None)
    taken.set_function(lambda: backend.bytes_in_use)
    pinned = Gauge("iris_device_pinned_bytes", "Memory of the host that the CUDA device uses", registry=None)
    pinned.set_function(lambda: backend.pinned_bytes)
    lost = Gauge("iris_device_lost", "1 when the CUDA device has failed, and the processor computes", registry=None)
    lost.set_function(lambda: backend.is_lost)
    return taken, pinned, lost
