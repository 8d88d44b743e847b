"""Compiles the kernels of the tests once, before their processes would each do it: `python -m tests.kernels`.

With NUMBA_ENABLE_CUDASIM=1; what is compiled stays in numba's cache.
"""

import tempfile
from datetime import date
from pathlib import Path

import numpy as np
from tests.gpu.cases import EVEN, SHAPE, calibration_of, ramp_of

from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.device import Device
from irisdrs.readout.warming import warm_up
from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.exposure import Scene, electron_rate, expose
from irisdrs.simulator.night import TARGET, plan_observation
from irisdrs.simulator.sky import star_field


def main() -> None:
    """Compile those of the readout, of a simulated device, and of the simulator."""
    processor = Processor(1)
    warm_up(processor)
    # Compiled functions have another form there: the scratch memory of a device's threads is not contiguous.
    CudaBackend(Device(), processor, print).fit(ramp_of(SHAPE, EVEN, 1), calibration_of(SHAPE), np.array(EVEN))
    processor.shutdown()
    simulate()


def simulate() -> None:
    """References and reads of one small detector."""
    plan = plan_observation(night=date(2034, 8, 1), crds_context="", size=64, reads=2, detectors=(Detector.IMG1,))
    with tempfile.TemporaryDirectory() as folder:
        prepare_references(plan, Path(folder), 0)
    truth = DetectorTruth(Detector.IMG1, plan.sampling.shape, 0)
    rate = electron_rate(truth, Scene(star_field(0, TARGET), TARGET, plan.filter))
    for _ in expose(truth, rate, plan.sampling, ExposureId(plan.observation, Detector.IMG1, ExposureType.SCI, 1), 0):
        pass


if __name__ == "__main__":
    main()
