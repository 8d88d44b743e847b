"""Speed of the exact fit beside stcal: ``python bench_readout_fit.py [--reads 100] [--rows 512] [--json FILE]``.

One noisy ramp of 4096 columns, without cosmic rays and with 1% of the pixels hit. All are timed in turns in one
process, so that they share what else the machine does; figures are pixel-reads per CPU second, ratios are medians of
pairs. The goals are for two threads on a quiet machine: likelihood with jumps 90 times stcal's LIKELY, and 6 s for 100
reads of 4096 x 4096; that is 45 times, and 140 million pixel-reads, per CPU second.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import argparse
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from stcal.ramp_fitting.ramp_fit import ramp_fit_data
from stcal.ramp_fitting.ramp_fit_class import RampData

from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.readout.fitting import Estimator, FitSettings, JumpTest
from irisdrs.shared.instrument import DETECTOR_SIZE, READ_TIME_S
from irisdrs.shared.quality import Quality

GAIN, NOISE, RATE, PEDESTAL = 2.0, 8.0, 40.0, 5000.0
#: A thread takes so many rows at a time: fewer than twice as many leave one idle.
BAND_ROWS = 256
#: stcal takes 70 s for a million pixels of 30 reads: it gets a few.
PEER_PIXELS = 4096
REPEATS = 5


def simulate(reads: int, rows: int, columns: int) -> NDArray[np.uint16]:
    """A ramp of Poisson counts and read noise."""
    rng = np.random.default_rng(5)
    ramp = np.empty((reads, rows, columns), np.uint16)
    signal = np.zeros((rows, columns))
    for k in range(reads):
        signal += rng.poisson(RATE * GAIN * READ_TIME_S, (rows, columns)) / GAIN
        ramp[k] = np.rint(PEDESTAL + signal + rng.normal(0, NOISE, (rows, columns)))
    return ramp


def hit(ramp: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """The same ramp with a jump of 500 DN at any read in 1% of the pixels."""
    rng = np.random.default_rng(6)
    found = ramp.copy()
    for y, x in np.argwhere(rng.random(ramp.shape[1:]) < 0.01):
        found[rng.integers(1, len(ramp)) :, y, x] += 500
    return found


def detector(shape: tuple[int, int]) -> Calibration:
    """References with all five terms of linearity."""
    flags, ones = np.zeros(shape, np.uint32), np.ones(shape, np.float32)
    coefficients = np.zeros((6, *shape), np.float32)
    coefficients[1:] = np.array([1, 1e-7, 1e-12, 1e-17, 1e-22], np.float32)[:, None, None]
    return calibrate_for(
        mask=flags,
        coefficients=coefficients,
        coefficients_dq=flags,
        saturation=60000 * ones,
        saturation_dq=flags,
        gain=np.float32(GAIN) * ones,
        read_noise=np.float32(NOISE) * ones,
    )


def stcal_fit(ramp: NDArray[np.uint16], algorithm: str) -> Callable[[], object]:
    """The fit of the first pixels by stcal. Its input is float32, its read noise that of a difference."""
    pixels = ramp[:, :1, :PEER_PIXELS].astype(np.float32)[None]
    shape = pixels.shape[2:]

    def work() -> object:
        data = RampData()
        data.set_arrays(
            pixels.copy(), np.zeros(pixels.shape, np.uint8), np.zeros(shape, np.uint32), np.zeros(shape, np.float32)
        )
        data.set_meta("IRIS", READ_TIME_S, READ_TIME_S, 0, 1, 0)
        data.set_dqflags({flag.name: int(flag) for flag in Quality} | {"CHARGELOSS": 128})
        noise, gain = (np.full(shape, value, np.float32) for value in (np.sqrt(2) * NOISE, GAIN))
        return ramp_fit_data(data, False, noise, gain, algorithm, "optimal", "none")

    return work


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Print pixel-reads per CPU second, and ratios to stcal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--reads", type=int, default=100)
    parser.add_argument("--rows", type=int, default=2 * BAND_ROWS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    clean = simulate(options.reads, options.rows, DETECTOR_SIZE)
    struck = hit(clean)
    calibration = detector(clean.shape[1:])
    times = np.arange(1, options.reads + 1) * READ_TIME_S
    processor = Processor(2)
    offsets = np.zeros((options.reads, DETECTOR_SIZE), np.float32)

    def fit(ramp: NDArray[np.uint16], estimator: Estimator, test: JumpTest) -> Callable[[], object]:
        settings = FitSettings(estimator=estimator, jump_test=test)
        return lambda: processor.fit(ramp, calibration, times, settings, column_offset=offsets)

    works = {
        "likelihood": (fit(clean, Estimator.LIKELIHOOD, JumpTest.NONE), clean.size),
        "likelihood, jumps": (fit(clean, Estimator.LIKELIHOOD, JumpTest.LIKELIHOOD), clean.size),
        "likelihood, jumps, 1% hit": (fit(struck, Estimator.LIKELIHOOD, JumpTest.LIKELIHOOD), clean.size),
        "Fixsen weights, jumps": (fit(clean, Estimator.FIXSEN, JumpTest.LIKELIHOOD), clean.size),
        "stcal LIKELY": (stcal_fit(clean, "LIKELY"), PEER_PIXELS * options.reads),
        "stcal OLS_C": (stcal_fit(clean, "OLS_C"), PEER_PIXELS * options.reads),
    }
    for work, _ in works.values():
        work()  # kernels are compiled, pages are touched
    seconds = {name: [] for name in works}  # type: dict[str, list[float]]
    walls = {name: [] for name in works}  # type: dict[str, list[float]]
    for _ in range(REPEATS):
        for name, (work, size) in works.items():
            start = time.perf_counter()
            seconds[name].append(cpu_seconds(work) / size)
            walls[name].append((time.perf_counter() - start) / size)
    processor.shutdown()
    figures = {}
    for name in works:
        to_likely, to_ols = (
            float(np.median(np.array(seconds[peer]) / np.array(seconds[name])))
            for peer in ("stcal LIKELY", "stcal OLS_C")
        )
        figures[name] = {
            "mpr_per_cpu_s": 1e-6 / float(np.median(seconds[name])),
            "mpr_per_s": 1e-6 / float(np.median(walls[name])),
            "to_likely": to_likely,
            "to_ols_c": to_ols,
        }
        print(
            f"{name:26s} {figures[name]['mpr_per_cpu_s']:8.1f} Mpr/CPU s  {figures[name]['mpr_per_s']:8.1f} Mpr/s"
            f"  {to_likely:7.1f} x LIKELY {to_ols:7.1f} x OLS_C"
        )
    whole = DETECTOR_SIZE**2 * options.reads * 1e-6 / figures["likelihood, jumps"]["mpr_per_s"]
    print(f"with jumps, {options.reads} reads of {DETECTOR_SIZE}^2: {whole:.1f} s on 2 threads (goal for 100: 6 s)")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory {peak_mb:.0f} MB, ring {clean.nbytes / 1e6:.0f} MB")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
