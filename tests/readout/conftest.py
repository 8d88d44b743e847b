"""One simulated exposure of one detector, taken once, told again and again."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from irisdrs.crds_proxy.bestrefs import LocalReferences
from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.backend import Processor
from irisdrs.readout.estimation import EXACT_READS
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.events import Event, ExposureEnded, ExposureEvent, ExposureStarted, ReadWritten
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.references import References
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.replay import replay
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.night import Night, plan_observation, play

READS, RAMPS, SIZE = 4, 2, 64


@dataclass(frozen=True)
class Bench:
    """Handlers of IMG1 on a store that holds an exposure, and the events that the edge told.

    `new_handlers` takes the room, the `exact_reads`, the `grow_saturation` and the `references` of a workshop, if they
    shall be others than those of a service.
    """

    store: DirectoryStore
    plan: ObservationPlan
    events: tuple[ExposureEvent, ...]
    references: LocalReferences
    new_handlers: Callable[..., DetectorHandlers]

    @property
    def reads(self) -> list[ReadWritten]:
        return [event for event in self.events if isinstance(event, ReadWritten)]

    @property
    def started(self) -> ExposureStarted:
        return next(event for event in self.events if isinstance(event, ExposureStarted))

    @property
    def ended(self) -> ExposureEnded:
        return next(event for event in self.events if isinstance(event, ExposureEnded))


async def tell(handlers: DetectorHandlers, event: Event) -> Sequence[Event]:
    """Hand an event to its handler."""
    return await handlers.handlers()[type(event)](event)


@pytest.fixture(scope="session")
def exposure(tmp_path_factory: pytest.TempPathFactory) -> tuple[ObservationPlan, Path, Path]:
    """Plan, store and CRDS cache of an exposure that was taken and not yet processed."""
    home = tmp_path_factory.mktemp("exposure")
    draft = plan_observation(
        night=date(2034, 8, 1), crds_context="", size=SIZE, reads=READS, science=1, sky=0, detectors=(Detector.IMG1,)
    )
    draft = draft.model_copy(update={"sampling": draft.sampling.model_copy(update={"ramps": RAMPS})})
    plan = draft.model_copy(update={"crds_context": prepare_references(draft, home / "crds", 0)})

    async def nobody(_: Sequence[Event]) -> None:
        return None

    async def take() -> None:
        spool = Spool(home / "spool", HostSettings().spool_max_bytes)
        async with Edge(plan, DirectoryStore(home / "store"), nobody, spool) as edge:
            await play(Night(plan), edge, home / "truth")
            await edge.drained()

    asyncio.run(take())
    return plan, home / "store", home / "crds"


@pytest.fixture(scope="session")
def processor() -> Processor:
    return Processor(2)


#: What has nothing but the array API standard, and CuPy where it is installed; for tests that hold them to NumPy.
OTHER_LIBRARIES = ["array_api_strict", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=["numpy", *OTHER_LIBRARIES])
def xp(request: pytest.FixtureRequest) -> ModuleType:
    """Every library on whose arrays the code shall work."""
    if request.param == "cupy":
        pytest.importorskip("cupy")
    return importlib.import_module(request.param)


def on_host(array: Any) -> NDArray[Any]:
    return np.asarray(array.get() if hasattr(array, "get") else array)


@pytest.fixture
async def bench(exposure: tuple[ObservationPlan, Path, Path], processor: Processor, tmp_path: Path) -> Bench:
    """A store of its own with the exposure's reads."""
    import shutil

    plan, source, crds = exposure
    shutil.copytree(source, tmp_path / "store")
    store = DirectoryStore(tmp_path / "store")
    events = [event async for event in replay(store, plan) if isinstance(event, ExposureEvent)]
    local = open_references(crds)
    threads = ThreadPoolExecutor(2)

    def new_handlers(
        room: Room | None = None,
        exact_reads: int = EXACT_READS,
        grow_saturation: bool = False,
        references: References = local,
    ) -> DetectorHandlers:
        room = room or Room(DEFAULT_BYTES, tmp_path)
        return DetectorHandlers(Workshop(store, references, threads, processor, room, exact_reads, grow_saturation))

    return Bench(store, plan, tuple(events), local, new_handlers)


@pytest.fixture
def without_reads() -> Callable[[Bench, Path, Sequence[int]], None]:
    """Removes reads from the store, as if they had not been written yet."""

    def remove(bench: Bench, root: Path, positions: Sequence[int]) -> None:
        for position in positions:
            (root / bench.reads[position].object.key).unlink()

    return remove
