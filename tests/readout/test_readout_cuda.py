"""What a CUDA device folds: the frames of the processor, bit for bit. The device is numba's simulator."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from tests.gpu.cases import (
    EVEN,
    SHAPE,
    UNEVEN,
    Case,
    calibration_of,
    cases,
    differences,
    digest,
    fits,
    fold_ramps,
    ramp_of,
    with_kernels,
)
from tests.gpu.speed import measure

from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.builders import begin_frame
from irisdrs.readout.calibration import Calibration
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.device import Device
from irisdrs.readout.estimation import EXACT_READS, estimation_of
from irisdrs.readout.fitting import Estimator, FitSettings
from irisdrs.readout.ring import Room
from irisdrs.readout.sampling import optimal
from irisdrs.readout.sampling.options import FoldOptions
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

GOLDEN = json.loads((Path(__file__).parents[1] / "gpu" / "golden.json").read_text())
CALIBRATION = calibration_of(SHAPE)
CASES = {case.name: case for case in cases()}


@pytest.fixture(scope="module")
def device() -> Device:
    return Device()


@pytest.fixture
def backend(device: Device) -> Iterator[CudaBackend]:
    """A device that may not fail."""
    said = list[str]()
    backend = CudaBackend(device, Processor(2), said.append)
    yield backend
    backend.shutdown()
    assert said == []


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_device_makes_the_frame_and_the_previews_of_the_processor(
    backend: CudaBackend, processor: Processor, case: Case
) -> None:
    state, expected = fold_ramps(backend, CALIBRATION, case), fold_ramps(processor, CALIBRATION, case)
    for step in (1, 3):
        live = backend.live(state, Quality.DROPOUT, step)
        assert differences(live, processor.live(expected, Quality.DROPOUT, step)) == []
    frame = backend.close(state, Quality.DROPOUT)
    assert differences(frame, processor.close(expected, Quality.DROPOUT)) == []
    assert np.count_nonzero(frame.data) > 100 or case.mode is Mode.SINGLE


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_the_frames_are_those_of_every_other_machine(processor: Processor, case: Case) -> None:
    frame = processor.close(fold_ramps(processor, CALIBRATION, case))
    assert digest(frame) == GOLDEN[case.name]


@pytest.mark.parametrize("name", list(fits()))
def test_a_device_fits_what_the_processor_fits(backend: CudaBackend, processor: Processor, name: str) -> None:
    times, reads = UNEVEN if name == "fixsen" else EVEN, ramp_of(SHAPE, UNEVEN, 5)
    found = backend.fit(reads, CALIBRATION, np.array(times), fits()[name])
    expected = processor.fit(reads, CALIBRATION, np.array(times), fits()[name])
    assert differences(found, expected) == []
    assert digest(expected) == GOLDEN[f"fit-{name}"]
    assert np.count_nonzero(expected.rate) > 100


@pytest.mark.parametrize("sent", [10, 9, 0])
def test_reads_that_were_sent_ahead_are_those_that_are_fitted(
    backend: CudaBackend, processor: Processor, sent: int
) -> None:
    ahead = backend.ahead(len(EVEN), SHAPE)
    assert ahead is not None
    for seed in (5, 6):  # the ring is used again
        reads = ramp_of(SHAPE, EVEN, seed)
        for read in reads[:sent]:
            ahead.take(read)
        found = backend.fit(reads, CALIBRATION, np.array(EVEN), ahead=ahead)
        ahead.clear()
        assert differences(found, processor.fit(reads, CALIBRATION, np.array(EVEN))) == []


@pytest.mark.parametrize("name", ["cds", "saturation-grows", "jumps", "optimal"])
def test_offsets_of_stripes_are_subtracted_there_as_here(backend: CudaBackend, processor: Processor, name: str) -> None:
    calibration, case = with_kernels(CALIBRATION), CASES[name]
    state, expected = fold_ramps(backend, calibration, case), fold_ramps(processor, calibration, case)
    assert differences(backend.live(state, step=3), processor.live(expected, step=3)) == []
    frame = backend.close(state)
    assert differences(frame, processor.close(expected)) == []
    plain = processor.close(fold_ramps(processor, CALIBRATION, case))
    assert np.count_nonzero(frame.data != plain.data) > 100


@pytest.mark.parametrize("name", ["likelihood", "likelihood-all", "fixsen"])
def test_differences_of_stripes_are_those_of_the_processor(
    backend: CudaBackend, processor: Processor, name: str
) -> None:
    calibration, reads, times = with_kernels(CALIBRATION), ramp_of(SHAPE, EVEN, 5), np.array(EVEN)
    found = backend.fit(reads, calibration, times, fits()[name])
    expected = processor.fit(reads, calibration, times, fits()[name])
    assert differences(found, expected) == []
    assert np.count_nonzero(expected.rate != processor.fit(reads, CALIBRATION, times, fits()[name]).rate) > 100


@pytest.mark.parametrize("calibration", [CALIBRATION, with_kernels(CALIBRATION)], ids=["mean", "kernels"])
@pytest.mark.parametrize("exact_reads", [EXACT_READS, 0])
def test_the_service_makes_the_same_frame_on_either(
    backend: CudaBackend, processor: Processor, tmp_path: Path, exact_reads: int, calibration: Calibration
) -> None:
    sampling = Sampling(mode=Mode.UTR, reads=4, ramps=2, read_time_s=0.72, shape=SHAPE)

    def frames(chosen: CudaBackend | Processor) -> tuple[RateFrame, RateFrame]:
        estimation = estimation_of(sampling, exact_reads)
        builder = begin_frame(chosen, Room(10**6, tmp_path), calibration, sampling, estimation, live_step=2)
        for number in (1, 2):
            times = sampling.read_times_s[: 5 - number]  # one read never came
            for time_s, read in zip(times, ramp_of(SHAPE, times, number), strict=True):
                builder.fold(number, read, time_s)
        return builder.live(), builder.close()

    for found, expected in zip(frames(backend), frames(processor), strict=True):
        assert differences(found, expected) == []


def test_ramps_of_one_read_and_groups_that_do_not_fit_are_the_processors(
    backend: CudaBackend, processor: Processor
) -> None:
    reads = ramp_of(SHAPE, EVEN, 5)
    found = backend.fit(reads[:1], CALIBRATION, np.array(EVEN[:1]))
    assert differences(found, processor.fit(reads[:1], CALIBRATION, np.array(EVEN[:1]))) == []
    with pytest.raises(ValueError, match="two groups of 9"):
        backend.fit(reads, CALIBRATION, np.array(EVEN), FitSettings(Estimator.FOWLER, fowler_reads=9))


def test_exposures_of_several_detectors_are_folded_in_turns(device: Device, processor: Processor) -> None:
    case = CASES["cds"]
    backend = CudaBackend(device, Processor(2), print)
    calibrations = [calibration_of(SHAPE, seed) for seed in range(3)]

    def take(number: int) -> RateFrame:
        return backend.close(fold_ramps(backend, calibrations[number], case, seed=number))

    with ThreadPoolExecutor(3) as threads:
        frames = list(threads.map(take, range(3)))
    for number, frame in enumerate(frames):
        expected = processor.close(fold_ramps(processor, calibrations[number], case, seed=number))
        assert differences(frame, expected) == []
    backend.shutdown()


def test_a_window_is_folded_as_it_lies_on_the_detector(backend: CudaBackend, processor: Processor) -> None:
    calibration, case = CALIBRATION.cut(Window.at((3, 5), (7, 11))), CASES["least-squares"]
    frame = backend.close(fold_ramps(backend, calibration, case, ramps=1))
    assert differences(frame, processor.close(fold_ramps(processor, calibration, case, ramps=1))) == []


def test_weights_of_reads_stay_on_the_host_in_a_window_of_their_shape(
    backend: CudaBackend, processor: Processor
) -> None:
    case = CASES["optimal"]
    calibration = CALIBRATION.cut(Window.at((5, 6), (optimal.SUMS, len(case.times_s))))
    frames = []
    for chosen in (backend, processor):
        state = chosen.open(calibration, case.mode, 5.0, case.options)
        for time_s, read in zip(case.times_s[:-1], ramp_of(calibration.gain.shape, case.times_s, 1), strict=False):
            chosen.fold(state, read, time_s)
        frames.append((chosen.live(state, step=2), chosen.close(state)))
    for found, expected in zip(*frames, strict=True):
        assert differences(found, expected) == []


def test_an_exposure_without_a_read_has_an_empty_frame(backend: CudaBackend, processor: Processor) -> None:
    state = backend.open(CALIBRATION, Mode.UTR, 1.0)
    backend.end_ramp(state)
    assert differences(backend.live(state), processor.live(processor.open(CALIBRATION, Mode.UTR, 1.0))) == []
    frame = backend.close(state)
    assert differences(frame, processor.close(processor.open(CALIBRATION, Mode.UTR, 1.0))) == []


def test_what_cannot_be_folded_is_refused_and_costs_nothing(backend: CudaBackend, processor: Processor) -> None:
    case = CASES["cds"]
    state = fold_ramps(backend, CALIBRATION, case)
    read = ramp_of(SHAPE, case.times_s, 1)[0]
    with pytest.raises(ValueError, match="after one at"):
        backend.fold(state, read, case.times_s[-1])
    with pytest.raises(ValueError, match="references"):
        backend.fold(state, read[:-1], case.times_s[-1] + 1)
    with pytest.raises(ValueError, match="uint8"):
        backend.fold(state, read.astype(np.uint8), case.times_s[-1] + 1)
    expected = processor.close(fold_ramps(processor, CALIBRATION, case))
    assert differences(backend.close(state), expected) == []
    with pytest.raises(Fatal, match="Two groups"):
        backend.open(CALIBRATION, Mode.MCDS, 1.0, FoldOptions(planned_times_s=(1.0, 2.0), group_reads=2))


def test_memory_is_given_back_and_a_frame_keeps_its_own(processor: Processor) -> None:
    device, case = Device(), CASES["cds"]
    backend = CudaBackend(device, Processor(1), print)
    first = backend.close(fold_ramps(backend, CALIBRATION, case, seed=1))
    kept = device.bytes_in_use
    second = backend.close(fold_ramps(backend, CALIBRATION, case, seed=2))
    # the references stay: threshold, five terms, gain, noise, flags
    assert kept == device.bytes_in_use == SHAPE[0] * SHAPE[1] * (2 + 5 * 4 + 4 + 4 + 4)
    for seed, frame in ((1, first), (2, second)):
        assert differences(frame, processor.close(fold_ramps(processor, CALIBRATION, case, seed=seed))) == []
    pinned = device.pinned.bytes
    del first
    backend.close(fold_ramps(backend, CALIBRATION, case, seed=3))
    assert device.pinned.bytes == pinned
    backend.shutdown()
    assert device.bytes_in_use == 0


def test_a_picture_leaves_no_references_on_the_device(tmp_path: Path) -> None:
    device = Device()
    backend = CudaBackend(device, Processor(1), print)
    sampling = Sampling(mode=Mode.UTR, reads=3, ramps=1, read_time_s=0.72, shape=SHAPE)
    for exposure in range(6):
        room, estimation = Room(10**6, tmp_path), estimation_of(sampling)
        builder = begin_frame(backend, room, CALIBRATION, sampling, estimation, live_step=2)
        for time_s, read in zip(sampling.read_times_s, ramp_of(SHAPE, sampling.read_times_s, exposure), strict=True):
            builder.fold(1, read, time_s)
        builder.live()
        builder.close()
        assert device.bytes_in_use == SHAPE[0] * SHAPE[1] * 34  # those of the detector, for its next exposure
    backend.shutdown()


def test_an_exposure_that_is_given_up_leaves_its_memory_at_once(backend: CudaBackend, device: Device) -> None:
    backend.close(fold_ramps(backend, CALIBRATION, CASES["jumps"]))
    kept, pinned = device.bytes_in_use, device.pinned.bytes
    gc.collect()
    gc.disable()  # an exposure of four detectors is gigabytes: nobody waits for the collector
    try:
        for _ in range(3):
            fold_ramps(backend, CALIBRATION, CASES["jumps"])
            assert device.bytes_in_use == kept
    finally:
        gc.enable()
    assert device.pinned.bytes == pinned


def test_pinned_memory_is_taken_anew_by_windows_of_any_size(processor: Processor) -> None:
    device, case = Device(), CASES["jumps"]
    backend = CudaBackend(device, Processor(1), print)
    for _ in range(2):
        found = backend.close(fold_ramps(backend, CALIBRATION, case))  # beside the frame before
    pinned = device.pinned.bytes
    for rows in range(5, 13):
        calibration = CALIBRATION.cut(Window.at((0, 0), (rows, 9)))
        found = backend.close(fold_ramps(backend, calibration, case))
        assert differences(found, processor.close(fold_ramps(processor, calibration, case))) == []
    assert device.pinned.bytes == pinned
    backend.shutdown()


def test_speed_can_be_measured(backend: CudaBackend, device: Device) -> None:
    figures = asdict(measure(backend, device, size=8, reads=2, repeats=1))
    assert all(value > 0 for value in figures.values())


@pytest.mark.gpu
def test_a_device_makes_the_bits_of_the_processor_and_those_that_are_recorded(tmp_path: Path) -> None:
    done = _talk_to_devices("--size", "512", "--reads", "10", "--json", str(tmp_path / "gpu.json"))
    if done.returncode == 2:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"] and found["driver"] and not found["simulated"]


def test_without_a_device_nothing_is_measured() -> None:
    if Path("/proc/driver/nvidia").exists():
        pytest.skip("this machine may have a device")
    done = _talk_to_devices()
    assert done.returncode == 2
    assert done.stderr.startswith("Nothing was compared or measured: ")
    assert not done.stdout


def _talk_to_devices(*arguments: str) -> subprocess.CompletedProcess[str]:
    """What `make gpu` does, without the simulator."""
    return subprocess.run(
        [sys.executable, "-m", "tests.gpu", *arguments],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
