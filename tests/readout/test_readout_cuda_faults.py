"""Devices that are missing, full or lost, or on which a kernel cannot run: it is said why, and there is a frame."""

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numba.core.errors import TypingError
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs
from tests.gpu.cases import EVEN, SHAPE, Case, calibration_of, cases, differences, fold_ramps, ramp_of, with_kernels

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda import choice, journal
from irisdrs.readout.cuda import device as device_module
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.choice import backend_for
from irisdrs.readout.cuda.compilation import Kernel
from irisdrs.readout.cuda.device import Device, DeviceFull
from irisdrs.readout.main import ReadoutSettings, compose, figures_of
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.service import Platform
from irisdrs.shared.store.directory import DirectoryStore

CALIBRATION = calibration_of(SHAPE)
JUMPS = next(case for case in cases() if case.name == "jumps")
#: Many short ramps: what the journal holds ends in the middle of one.
SHORT = Case("short", Mode.UTR, (1.0, 2.0, 3.0), FoldOptions())
LONG = Case("long", Mode.UTR, EVEN, FoldOptions())


class FaultyDevice(Device):
    """A device that fails for good at a certain launch."""

    def __init__(self, launches: int, problem: Exception) -> None:
        super().__init__()
        self.launches, self._problem = launches, problem

    def launch(self, kernel: Kernel, shape: tuple[int, int], stream: Any, *arguments: Any) -> None:
        self.launches -= 1
        if self.launches < 0:
            raise self._problem
        super().launch(kernel, shape, stream, *arguments)


class FullDevice(Device):
    """A device that is full at a certain allocation from now on, once; 0 for none."""

    def __init__(self, allocations: int) -> None:
        super().__init__()
        self.allocations = allocations

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.allocations -= 1
        if self.allocations == 0:
            raise DeviceFull("no room for that")
        return super().empty(shape, dtype)


class LateDevice(Device):
    """A device whose copies to the host come when somebody waits, and that is full once."""

    def __init__(self) -> None:
        self._under_way: list[Callable[[], object]] = []
        self.full_at = 0
        super().__init__()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        self.full_at -= 1
        if self.full_at == 0:
            raise DeviceFull("no room for that")
        found = super().empty(shape, dtype)
        copy = found.copy_to_host

        def copy_late(destination: NDArray[Any], stream: Any) -> None:
            # A device knows the address alone: it does not keep the memory for whoever wanted it.
            address = SimpleNamespace(__array_interface__=destination.__array_interface__)
            self._under_way.append(partial(np.copyto, np.asarray(address), copy()))

        found.copy_to_host = copy_late
        return found

    def stream(self) -> Any:
        found = super().stream()
        found.synchronize = self.wait
        return found

    def wait(self) -> None:
        while self._under_way:
            self._under_way.pop(0)()


@pytest.fixture
def said() -> list[str]:
    return []


def frame_of(backend: CudaBackend | Processor, case: Case, ramps: int = 2) -> Any:
    return backend.close(fold_ramps(backend, CALIBRATION, case, ramps))


@pytest.mark.parametrize("wanted", ["0", "-1", "1e9", "most of it", ""])
def test_memory_that_is_no_number_of_bytes_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("IRIS_READOUT_DEVICE_BYTES", wanted)
    with pytest.raises(ValueError, match="device_bytes"):
        ReadoutSettings()


@pytest.mark.parametrize("launches", [0, 7, 10, 20])
def test_a_device_that_is_lost_in_a_ramp_costs_no_read(processor: Processor, said: list[str], launches: int) -> None:
    problem = RuntimeError("[CUresult.CUDA_ERROR_ILLEGAL_ADDRESS] Call to cuCtxSynchronize failed")
    backend = CudaBackend(FaultyDevice(launches, problem), Processor(1), said.append)
    assert differences(frame_of(backend, JUMPS), frame_of(processor, JUMPS)) == []
    assert backend.is_lost
    assert len(said) == 1 and "CUDA_ERROR_ILLEGAL_ADDRESS" in said[0] and "failed" in said[0]
    # nothing is asked of it any more
    assert differences(frame_of(backend, SHORT), frame_of(processor, SHORT)) == []
    assert len(said) == 1
    backend.shutdown()


@pytest.mark.parametrize("launches", [0, 1, 7, 12, 13])
def test_what_the_reference_pixels_have_changed_since_the_first_read_outlives_the_device(
    processor: Processor, said: list[str], launches: int
) -> None:
    calibration = with_kernels(CALIBRATION)
    backend = CudaBackend(FaultyDevice(launches, RuntimeError("gone")), Processor(1), said.append)
    found, expected = fold_ramps(backend, calibration, JUMPS), fold_ramps(processor, calibration, JUMPS)
    assert differences(backend.close(found), processor.close(expected)) == []
    assert len(said) == 1
    backend.shutdown()


def test_a_lost_device_is_left_alone_by_the_exposures_of_all_detectors(processor: Processor, said: list[str]) -> None:
    device = FaultyDevice(10**6, RuntimeError("gone"))
    backend = CudaBackend(device, Processor(1), said.append)
    states = [fold_ramps(backend, CALIBRATION, case) for case in (SHORT, JUMPS, LONG)]
    device.launches = 0
    backend.end_ramp(states[0])
    device.launches = 10**6  # it is back, but who would trust it?
    for state, case in zip(states, (SHORT, JUMPS, LONG), strict=True):
        expected = processor.close(fold_ramps(processor, CALIBRATION, case))
        assert differences(backend.close(state), expected) == []
    assert device.launches == 10**6
    assert len(said) == 1
    backend.shutdown()


def test_what_was_dropped_is_given_back_in_the_context_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator drops nothing: this is a driver of numba-cuda, as far as it is asked."""
    device, told = Device(), list[str]()

    class Context:
        def __enter__(self) -> None:
            told.append("begin")

        def __exit__(self, *_: object) -> None:
            told.append("end")

    arrays, others = (SimpleNamespace(clear=partial(told.append, what)) for what in ("arrays", "streams"))
    context = SimpleNamespace(memory_manager=SimpleNamespace(deallocations=arrays), deallocations=others)
    driver = SimpleNamespace(gpus=[Context()], current_context=lambda: context)
    monkeypatch.setattr(device_module, "cuda", driver)
    monkeypatch.setattr(device_module, "COMPILES", True)
    with device.here():
        told.append("work")
    assert told == ["begin", "arrays", "streams", "work", "end"]


@pytest.mark.parametrize("launches", [30, 46])
def test_what_is_lost_is_no_more_than_the_reads_since_the_last_copy(
    processor: Processor, said: list[str], launches: int
) -> None:
    ramps = 12
    assert ramps * (len(SHORT.times_s) + 1) > journal.MOST_ENTRIES + 10
    backend = CudaBackend(FaultyDevice(launches, RuntimeError("gone")), Processor(1), said.append)
    assert differences(frame_of(backend, SHORT, ramps), frame_of(processor, SHORT, ramps)) == []
    assert len(said) == 1
    backend.shutdown()


def test_a_device_that_is_lost_while_somebody_looks_costs_nothing(processor: Processor, said: list[str]) -> None:
    device = FaultyDevice(10**6, RuntimeError("gone"))
    backend = CudaBackend(device, Processor(1), said.append)
    state, expected = fold_ramps(backend, CALIBRATION, SHORT), fold_ramps(processor, CALIBRATION, SHORT)
    device.launches = 0
    assert differences(backend.live(state, step=2), processor.live(expected, step=2)) == []
    assert differences(backend.close(state), processor.close(expected)) == []
    assert len(said) == 1
    backend.shutdown()


def test_what_comes_late_from_a_full_device_is_not_written_over_the_reads_of_another_detector(
    processor: Processor, said: list[str]
) -> None:
    device = LateDevice()
    backend = CudaBackend(device, Processor(1), said.append)
    one = fold_ramps(backend, CALIBRATION, SHORT)
    device.full_at = 6  # planes of the ramp are on their way by then, of the sums none
    backend.live(one, step=2)
    assert len(said) == 1 and "full" in said[0]
    other = fold_ramps(backend, CALIBRATION, LONG, ramps=1)  # takes all the memory that was given back
    device.wait()
    device.full_at = 1  # the processor goes on from the reads that the host has kept
    expected = fold_ramps(processor, CALIBRATION, LONG, ramps=1)
    assert differences(backend.live(other, step=2), processor.live(expected, step=2)) == []
    assert len(said) == 2
    backend.shutdown()


@pytest.mark.parametrize("allocations", [1, 12, 25])
def test_a_full_device_is_asked_again_for_the_next_exposure(
    processor: Processor, said: list[str], allocations: int
) -> None:
    backend = CudaBackend(FullDevice(allocations), Processor(1), said.append)
    expected = frame_of(processor, JUMPS)
    assert differences(frame_of(backend, JUMPS), expected) == []
    assert len(said) == 1 and "full" in said[0] and "no room for that" in said[0]
    assert not backend.is_lost
    assert differences(frame_of(backend, JUMPS), expected) == []
    assert len(said) == 1
    backend.shutdown()


def test_references_that_nobody_uses_make_room_for_the_exposure_after_the_one_that_found_none(
    processor: Processor, said: list[str]
) -> None:
    one, other = calibration_of(SHAPE, 1), calibration_of(SHAPE, 2)
    pixels = SHAPE[0] * SHAPE[1]
    device = Device(limit_bytes=2 * 34 * pixels + 40 * pixels)
    backend = CudaBackend(device, Processor(1), said.append)
    backend.close(fold_ramps(backend, one, SHORT))
    expected = processor.close(fold_ramps(processor, other, SHORT))
    for _ in range(2):
        assert differences(backend.close(fold_ramps(backend, other, SHORT)), expected) == []
    assert len(said) == 1 and "full" in said[0]
    assert device.bytes_in_use == 34 * pixels
    backend.shutdown()


def test_references_that_somebody_uses_stay_where_they_are(processor: Processor, said: list[str]) -> None:
    device = FullDevice(0)
    backend = CudaBackend(device, Processor(1), said.append)
    state = fold_ramps(backend, CALIBRATION, SHORT)
    device.allocations = 1
    backend.open(calibration_of(SHAPE, 2), SHORT.mode, 2.0)
    used = device.bytes_in_use
    assert len(said) == 1
    assert differences(frame_of(backend, SHORT), frame_of(processor, SHORT)) == []
    assert device.bytes_in_use == used  # they were not sent again
    assert differences(backend.close(state), frame_of(processor, SHORT)) == []
    backend.shutdown()


def test_the_memory_of_a_device_is_bounded(processor: Processor, said: list[str]) -> None:
    pixels = SHAPE[0] * SHAPE[1]
    device = Device(limit_bytes=40 * pixels)  # the references fit
    backend = CudaBackend(device, Processor(1), said.append)
    assert differences(frame_of(backend, SHORT), frame_of(processor, SHORT)) == []
    assert len(said) == 1 and f"of {40 * pixels} bytes" in said[0]
    assert device.bytes_in_use == 0
    backend.shutdown()


def test_a_kernel_that_does_not_compile_is_said_and_costs_no_frame(processor: Processor, said: list[str]) -> None:
    backend = CudaBackend(FaultyDevice(0, TypingError("no such function on this target")), Processor(1), said.append)
    assert differences(frame_of(backend, SHORT), frame_of(processor, SHORT)) == []
    assert "TypingError: no such function on this target" in said[0]
    backend.shutdown()


def test_reads_that_somebody_writes_over_are_not_lost(processor: Processor, said: list[str]) -> None:
    backend = CudaBackend(FaultyDevice(3, RuntimeError("gone")), Processor(1), said.append)
    state = backend.open(CALIBRATION, Mode.UTR, 2.0)
    expected = processor.open(CALIBRATION, Mode.UTR, 2.0)
    read: NDArray[Any] = ramp_of(SHAPE, SHORT.times_s, 3)[0].copy()
    for time_s, taken in zip((1.0, 2.0, 3.0, 4.0), ramp_of(SHAPE, (1.0, 2.0, 3.0, 4.0), 3), strict=True):
        read[...] = taken
        backend.fold(state, read, time_s)
        processor.fold(expected, taken, time_s)
    read[...] = 0
    assert differences(backend.close(state), processor.close(expected)) == []
    backend.shutdown()


def test_a_ramp_that_cannot_be_fitted_there_is_fitted_here(processor: Processor, said: list[str]) -> None:
    reads, times = ramp_of(SHAPE, EVEN, 5), np.array(EVEN)
    expected = processor.fit(reads, CALIBRATION, times)
    for device in (FullDevice(15), FaultyDevice(0, RuntimeError("gone"))):
        backend = CudaBackend(device, Processor(1), said.append)
        assert differences(backend.fit(reads, CALIBRATION, times), expected) == []
        backend.shutdown()
    assert len(said) == 2 and "full" in said[0] and "gone" in said[1]


def test_reads_that_could_not_be_sent_ahead_are_fitted_all_the_same(processor: Processor, said: list[str]) -> None:
    reads, times = ramp_of(SHAPE, EVEN, 5), np.array(EVEN)
    backend = CudaBackend(Device(), Processor(1), said.append)
    ahead = backend.ahead(4, SHAPE)  # there are more
    assert ahead is not None
    for read in reads:
        ahead.take(read)
    found = backend.fit(reads, CALIBRATION, times, ahead=ahead)
    assert differences(found, processor.fit(reads, CALIBRATION, times)) == []
    assert said == []
    backend.shutdown()
    full = CudaBackend(FullDevice(1), Processor(1), said.append)
    assert full.ahead(4, SHAPE) is None
    assert "full" in said[0]
    full.shutdown()


@pytest.mark.parametrize("wanted", ["auto", "cpu"])
def test_without_a_device_nothing_is_said_unless_one_was_asked_for(
    processor: Processor, said: list[str], wanted: str
) -> None:
    assert backend_for(wanted, processor, said.append) is processor
    assert said == []


def test_a_device_that_is_asked_for_is_used(processor: Processor, said: list[str]) -> None:
    assert isinstance(backend_for("cuda", processor, said.append), CudaBackend)
    assert isinstance(backend_for("cuda:0", processor, said.append), CudaBackend)
    assert said == []


def test_a_device_that_is_asked_for_and_absent_is_said(processor: Processor, said: list[str]) -> None:
    assert backend_for("cuda:3", processor, said.append) is processor
    assert said == [
        "IRIS_DEVICE is cuda:3, but this machine has 1 CUDA device, numbered from 0. "
        "The processor computes instead: the same frames, later."
    ]


def test_a_driver_that_cannot_be_used_is_said(
    processor: Processor, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Driver:
        @property
        def gpus(self) -> None:
            raise ImportError("Error at driver init:\n\nCUDA driver version is insufficient (803)")

    monkeypatch.setattr(choice, "cuda", Driver())
    assert backend_for("cuda", processor, said.append) is processor
    assert "CUDA driver version is insufficient (803)" in said[0] and "\n" not in said[0]


@pytest.mark.parametrize("wanted", ["auto", "cuda"])
def test_a_machine_without_cuda_computes_all_the_same(wanted: str) -> None:
    """In a process without the simulator."""
    program = (
        "from irisdrs.readout.backend import Processor\n"
        "from irisdrs.readout.cuda.choice import backend_for\n"
        f"print(type(backend_for({wanted!r}, Processor(1), print)).__name__)\n"
    )
    found = _run(program, NUMBA_ENABLE_CUDASIM="0")
    *said, backend = found.splitlines()
    if backend == "Processor":
        assert len(said) == (wanted == "cuda")
    else:
        assert backend == "CudaBackend"  # this machine has a device


def test_it_needs_numba_and_numpy_and_nothing_else() -> None:
    program = (
        "import sys\n"
        "class Nothing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        allowed = {'numpy', 'numba', 'llvmlite', 'irisdrs', 'tests', *sys.stdlib_module_names}\n"
        "        if name.partition('.')[0] not in allowed and path is None:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Nothing())\n"
        "from irisdrs.readout.cuda.choice import backend_for\n"
        "from tests.gpu import __main__, compilation\n"
        "print('pydantic' in sys.modules, 'structlog' in sys.modules)\n"
    )
    assert _run(program) == "False False"


def test_metrics_show_memory_and_loss(said: list[str]) -> None:
    device = FaultyDevice(10**6, RuntimeError("gone"))
    backend = CudaBackend(device, Processor(1), said.append)
    registry = CollectorRegistry()
    for collector in figures_of(backend):
        registry.register(collector)
    state = fold_ramps(backend, CALIBRATION, SHORT)
    assert registry.get_sample_value("iris_device_bytes") == device.bytes_in_use > 0
    assert registry.get_sample_value("iris_device_pinned_bytes") == device.pinned.bytes > 0
    assert registry.get_sample_value("iris_device_lost") == 0
    device.launches = 0
    backend.close(state)
    assert registry.get_sample_value("iris_device_lost") == 1
    backend.shutdown()


@pytest.mark.parametrize(("wanted", "found"), [("cuda", "simulator"), ("auto", "the processor")])
async def test_the_log_says_where_pixels_are_computed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, wanted: str, found: str
) -> None:
    monkeypatch.setenv("IRIS_DEVICE", wanted)
    references = open_references(tmp_path / "crds")
    with ThreadPoolExecutor(1) as threads, capture_logs() as logs:
        service = compose(Platform(DirectoryStore(tmp_path), references, tmp_path, tmp_path, threads))
        await service.close()
    assert [(log["event"], log["device"]) for log in logs] == [("pixels are computed here", found)]


@pytest.mark.parametrize("wanted", ["gpu", "cuda:", "cuda:x", "CPU", "CUDA:0", "cuda:-1", "cuda:0 ", ""])
def test_a_device_that_nobody_knows_is_refused(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("IRIS_DEVICE", wanted)
    with pytest.raises(ValueError, match="IRIS_DEVICE"):
        ReadoutSettings()


def _run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
