"""Time of one full-size read of the simulator on one core: ``NUMBA_NUM_THREADS=1 python bench_simulator_read.py``.

Photons, cosmic rays, full well, linearity, pedestal, noise and quantisation of 4096 x 4096 pixels; goal: 1.5 s.
"""

# ruff: noqa: T201 (a benchmark prints its figures)

import resource
import sys
import time

import numba
import numpy as np

from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType, SamplingMode
from irisdrs.shared.instrument import DETECTOR_SIZE, READ_TIME_S
from irisdrs.shared.observation import Sampling
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.exposure import Scene, electron_rate, expose
from irisdrs.simulator.projection import Pointing
from irisdrs.simulator.sky import star_field

GOAL_S = 1.5


def main(size: int = DETECTOR_SIZE, reads: int = 4) -> None:
    """Print the CPU time of the rate image and of each read; fail above the goal."""
    numba.set_num_threads(1)
    detector, target = DetectorTruth(Detector.IMG1, (size, size)), Pointing(150.0, 2.0)
    exposure = ExposureId("2034B-007-123", Detector.IMG1, ExposureType.SCI, 1)
    sampling = Sampling(mode=SamplingMode.UTR, reads=reads, ramps=1, read_time_s=READ_TIME_S, shape=(size, size))
    small = DetectorTruth(Detector.IMG2, (64, 64))  # compiles, or loads, the kernels
    for _ in expose(small, np.full(small.shape, 50.0, np.float32), sampling, exposure, 1):
        pass

    start = time.process_time()
    rate = electron_rate(detector, Scene(star_field(1, target), target, "H"))
    print(f"rate image {size} x {size}: {time.process_time() - start:.2f} s")
    taken = []
    start = time.process_time()
    for _ in expose(detector, rate, sampling, exposure, 1):
        taken.append(time.process_time() - start)
        start = time.process_time()
    later = float(np.median(taken[1:]))
    print(f"first read with the detector's planes: {taken[0]:.2f} s; each later read: {later:.2f} s (goal {GOAL_S} s)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if later > GOAL_S:
        sys.exit(f"a read takes {later:.2f} s of one core, more than {GOAL_S} s")


if __name__ == "__main__":
    main()
