"""Whether a device makes, bit for bit, the frames that the processor makes, and those that all machines have made."""

import json
from pathlib import Path

import numpy as np
from tests.gpu.cases import EVEN, SHAPE, UNEVEN, calibration_of, cases, differences, digest, fits, fold_ramps, ramp_of

from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend

#: SHA-256 of frames and fits of `tests.gpu.cases`.
GOLDEN: dict[str, str] = json.loads(Path(__file__).with_name("golden.json").read_text())


def compare(backend: CudaBackend, processor: Processor, shape: tuple[int, int] = SHAPE) -> dict[str, list[str]]:
    """In what each frame and each fit differs: from the processor's, and, in the usual shape, from the recorded one."""
    calibration, found = calibration_of(shape), dict[str, list[str]]()
    for case in cases():
        state, other = fold_ramps(backend, calibration, case), fold_ramps(processor, calibration, case)
        said = differences(backend.live(state, step=2), processor.live(other, step=2))
        frame = backend.close(state)
        said += differences(frame, processor.close(other))
        found[case.name] = said + _unlike(case.name, digest(frame), shape)
    for name, settings in fits().items():
        reads, times = ramp_of(shape, UNEVEN, 5), np.array(times_of(name))
        fit = backend.fit(reads, calibration, times, settings)
        said = differences(fit, processor.fit(reads, calibration, times, settings))
        found[f"fit-{name}"] = said + _unlike(f"fit-{name}", digest(fit), shape)
    return found


def times_of(fit: str) -> tuple[float, ...]:
    """Times of the reads that are fitted so."""
    return UNEVEN if fit == "fixsen" else EVEN


def _unlike(name: str, found: str, shape: tuple[int, int]) -> list[str]:
    return [] if shape != SHAPE or found == GOLDEN[name] else ["it is not the one that is recorded"]
