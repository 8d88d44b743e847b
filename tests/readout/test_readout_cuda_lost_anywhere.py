"""A device that fails at any of the calls that are made to it, for good or full for once: the frames stay the same."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.gpu.cases import differences
from tests.readout.ramps import detector

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.cuda import journal
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import Device, DeviceFull
from irisdrs.readout.estimation import EXACT_READS, estimation_of
from irisdrs.readout.ring import Room
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.observation import Sampling

SHAPE = (2, 4)
CALIBRATIONS = [detector(SHAPE, gain=gain) for gain in (2.0, 3.0)]

#: Of all calls, every so many fail, one after another in exposures of their own; a prime meets every kind of call.
EVERY = 29


class FailingDevice(Device):
    """A device that counts what is asked of it, and fails from a certain call on, or is full at that one alone."""

    def __init__(self, fails_at: int, *, full: bool) -> None:
        self.calls, self._fails_at, self._full = -1_000_000, fails_at, full  # it is there
        super().__init__()
        self.calls = 0

    def _called(self) -> None:
        self.calls += 1
        if self._full and self.calls == self._fails_at:
            raise DeviceFull("no room for that")
        if not self._full and self.calls >= self._fails_at:
            raise RuntimeError("[CUresult.CUDA_ERROR_LAUNCH_FAILED] it is gone")

    def _counted(self, found: Any, *names: str) -> Any:
        for name in names:
            setattr(found, name, self._counting(getattr(found, name)))
        return found

    def _counting(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self._called()
            return work(*arguments, **named)

        return counted

    @contextmanager
    def here(self) -> Iterator[None]:
        self._called()
        with super().here():
            yield

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self._called()
        return self._counted(super().empty(shape, dtype), "copy_to_device", "copy_to_host")

    def stream(self) -> Any:
        self._called()
        return self._counted(super().stream(), "synchronize")

    def event(self) -> Any:
        self._called()
        return self._counted(super().event(), "record", "wait", "synchronize")

    def launch(self, kernel: Kernel, shape: tuple[int, int], stream: Any, *arguments: Any) -> None:
        self._called()
        super().launch(kernel, shape, stream, *arguments)

    def _pin(self, size: int) -> NDArray[np.uint8]:
        self._called()
        return super()._pin(size)


def exposures(backend: CudaBackend | Processor, folder: Path, mode: Mode, exact_reads: int) -> list[RateFrame]:
    """Two detectors in turns, after an exposure that was aborted: pictures of both, and their frames."""
    reads = 2 if mode is Mode.CDS else 4
    sampling = Sampling(mode=mode, reads=reads, ramps=2, read_time_s=0.72, shape=SHAPE)
    estimation = estimation_of(sampling, exact_reads)
    room, times = Room(10**6, folder), sampling.read_times_s
    rates = np.array([[0, 10, 300, 9000], [50, 70, 20000, 4]])
    ramp = [(3000 + rates * time_s + np.arange(4) % 3).astype(np.uint16) for time_s in times]
    aborted, *builders = (
        begin_frame(backend, room, calibration, sampling, estimation, live_step=2)
        for calibration in (CALIBRATIONS[0], *CALIBRATIONS)
    )
    aborted.fold(1, ramp[0], times[0])
    del aborted
    frames = []
    for number in (1, 2):
        for read, time_s in zip(ramp, times, strict=True):
            for builder in builders:
                builder.fold(number, read + np.uint16(number), time_s)
        frames += [builder.live() for builder in builders]
    return frames + [builder.close() for builder in builders]


@pytest.mark.parametrize("full", [False, True], ids=["lost", "full"])
@pytest.mark.parametrize(("mode", "exact_reads"), [(Mode.CDS, 0), (Mode.UTR, EXACT_READS), (Mode.UTR, 0)])
def test_wherever_a_device_fails_the_frames_are_those_of_the_processor(
    processor: Processor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, exact_reads: int, full: bool
) -> None:
    monkeypatch.setattr(journal, "MOST_ENTRIES", 3)  # a copy of the planes is under way now and then
    expected = exposures(processor, tmp_path, mode, exact_reads)
    healthy = FailingDevice(10**9, full=full)
    backend = CudaBackend(healthy, Processor(1), print)
    exposures(backend, tmp_path, mode, exact_reads)
    backend.shutdown()
    assert healthy.calls > 200
    for fails_at in range(1, healthy.calls, EVERY):
        said = list[str]()
        backend = CudaBackend(FailingDevice(fails_at, full=full), Processor(1), said.append)
        found = exposures(backend, tmp_path, mode, exact_reads)
        for frame, other in zip(found, expected, strict=True):
            assert differences(frame, other) == [], fails_at
        assert backend.is_lost is not full, fails_at
        assert len(said) <= 1, said
        backend.shutdown()
