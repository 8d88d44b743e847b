"""After warming up, a device compiles nothing for what the service folds and fits: reads would wait for it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numba
import pytest
from tests.gpu.cases import EVEN, calibration_of, ramp_of, with_kernels

from irisdrs.readout.backend import Processor
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.cuda import kernels, sum_kernels
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import Device
from irisdrs.readout.estimation import EXACT_READS, estimation_of
from irisdrs.readout.ring import Room
from irisdrs.readout.warming import warm_up
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.window import Window

_typeof: Callable[[object], object] = numba.typeof

WHOLE = calibration_of((24, 48))


class Listening(Device):
    """A device that runs nothing, and remembers which kernels it would have compiled, and for which types."""

    def __init__(self) -> None:
        super().__init__()
        self.compiled: set[tuple[str, str]] = set()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        found = super().empty(shape, dtype)
        found[...] = 0
        return found

    def launch(self, kernel: Kernel, shape: tuple[int, int], stream: Any, *arguments: Any) -> None:
        self.compiled.add((kernel.fn.__name__, str(_typeof(self._as_numpy(arguments)))))

    def _as_numpy(self, argument: Any) -> Any:
        if isinstance(argument, tuple):
            parts = (self._as_numpy(part) for part in argument)
            return type(argument)(*parts) if hasattr(argument, "_fields") else tuple(parts)
        return self.plain(argument)


@pytest.fixture(scope="module")
def warm() -> Iterator[tuple[Listening, CudaBackend]]:
    """A device that may not fail, and what has been warmed up on it."""
    device, said = Listening(), list[str]()
    backend = CudaBackend(device, Processor(1), said.append)
    warm_up(backend)
    yield device, backend
    backend.shutdown()
    assert said == []


def test_warming_up_compiles_every_kernel(warm: tuple[Listening, CudaBackend]) -> None:
    device, _ = warm
    known = vars(kernels) | vars(sum_kernels)
    written = {name for name, found in known.items() if hasattr(found, "fn")}
    assert {"fit", "thin", "add_linear"} < written
    assert {name for name, _ in device.compiled} == written


@pytest.mark.parametrize("grow_saturation", [False, True])
@pytest.mark.parametrize(
    "calibration", [WHOLE, with_kernels(WHOLE), WHOLE.cut(Window.at((3, 5), (12, 17)))], ids=["mean", "sirs", "window"]
)
def test_nothing_is_compiled_for_the_frames_of_the_service(
    warm: tuple[Listening, CudaBackend], tmp_path: Path, calibration: Calibration, grow_saturation: bool
) -> None:
    device, backend = warm
    before = set(device.compiled)
    for mode, exact_reads in [(mode, EXACT_READS) for mode in Mode] + [(Mode.UTR, 0)]:
        reads = {Mode.SINGLE: 1, Mode.CDS: 2}.get(mode, 5)
        sampling = Sampling(
            mode=mode,
            reads=reads,
            ramps=2,
            read_time_s=0.72,
            shape=(calibration.gain.shape[0], calibration.gain.shape[1]),
            group_reads=2 if mode is Mode.MCDS else 1,
        )
        estimation = estimation_of(sampling, exact_reads, grow_saturation=grow_saturation)
        for step in (1, 2, 3):
            builder = begin_frame(backend, Room(10**7, tmp_path), calibration, sampling, estimation, live_step=step)
            for ramp in (1, 2):
                for time_s, read in zip(EVEN, ramp_of(sampling.shape, EVEN[:reads], ramp), strict=False):
                    builder.fold(ramp, read, time_s)
                builder.live()
            builder.close()
    assert device.compiled == before
