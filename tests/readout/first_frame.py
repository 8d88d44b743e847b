"""How many forms of each kernel there are after warming up, and after the first real frames, as JSON.

``python -m tests.readout.first_frame STORE CRDS PLAN``: a process of its own, in which no test has called a kernel yet.
"""

# ruff: noqa: T201 (a command prints its result)

import asyncio
import json
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numba.core.registry import CPUDispatcher
from tests.readout.ramps import cadence, detector

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.backend import Processor
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.estimation import EXACT_READS, estimation_of
from irisdrs.readout.handlers import DetectorHandlers
from irisdrs.readout.preview import Turn, step_for
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.warming import warm_up
from irisdrs.readout.workshop import Workshop
from irisdrs.shared.events import ExposureEvent, FrameReady
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import ObservationPlan, Sampling
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.replay import replay

#: As wide as a frame of which a picture takes every second pixel.
WIDE = (64, 4096)


def forms() -> dict[str, int]:
    """Compiled forms of every kernel of the readout."""
    modules = [module for name, module in sys.modules.items() if name.startswith("irisdrs.readout.")]
    return {
        f"{kernel.py_func.__module__}.{kernel.py_func.__name__}": len(kernel.signatures)
        for module in modules
        for kernel in vars(module).values()
        if isinstance(kernel, CPUDispatcher)
    }


async def expose(store_dir: Path, crds: Path, plan: ObservationPlan, processor: Processor, exact_reads: int) -> None:
    """Hand a stored exposure to new handlers, and look at every read."""
    store = DirectoryStore(store_dir)
    with ThreadPoolExecutor(2) as threads, tempfile.TemporaryDirectory() as folder:
        room = Room(DEFAULT_BYTES, Path(folder))
        handlers = DetectorHandlers(Workshop(store, open_references(crds), threads, processor, room, exact_reads))
        handlers._preview_turn = Turn(interval_s=0.0)
        frames = []
        async for event in replay(store, plan):
            if isinstance(event, ExposureEvent):
                answers = await handlers.handlers()[type(event)](event)
                frames += [answer for answer in answers if isinstance(answer, FrameReady)]
        (frame,) = frames
        (store_dir / frame.object.key).unlink()


def wide_frame(processor: Processor, mode: SamplingMode, exact_reads: int) -> None:
    """A frame of which a picture takes every second pixel, and whose ring is a file."""
    sampling = Sampling(mode=mode, reads=3, ramps=2, read_time_s=0.72, shape=WIDE)
    with tempfile.TemporaryDirectory() as folder:
        builder = begin_frame(
            processor,
            Room(0, Path(folder)),
            detector(WIDE, border=4),
            sampling,
            estimation_of(sampling, exact_reads),
            step_for(WIDE),
        )
        for ramp in (1, 2):
            for k, time_s in enumerate(cadence(3)):
                builder.fold(ramp, np.full(WIDE, 5000 + 30 * k, np.uint16), float(time_s))
                builder.live()
        builder.close()


def main() -> None:
    """Warm up, make frames in every way that the service knows, and say what was compiled."""
    store_dir, crds = Path(sys.argv[1]), Path(sys.argv[2])
    plan = ObservationPlan.model_validate_json(sys.argv[3])
    processor = Processor(2)
    warm_up(processor)
    warm = forms()
    for exact_reads in (EXACT_READS, 0):
        asyncio.run(expose(store_dir, crds, plan, processor, exact_reads))
    for mode, exact_reads in ((SamplingMode.CDS, 0), (SamplingMode.UTR, EXACT_READS), (SamplingMode.UTR, 0)):
        wide_frame(processor, mode, exact_reads)
    processor.shutdown()
    print(json.dumps([warm, forms()]))


if __name__ == "__main__":
    main()
