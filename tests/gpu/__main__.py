"""What `make gpu` does on a machine with a CUDA device: parity with the processor, then speed.

It needs NumPy, numba and numba-cuda, and nothing else: `python -m tests.gpu --json gpu.json`. The exit status is 0 when
every frame has the processor's bits, 1 when one has not, 2 where there is no device.
"""

# ruff: noqa: T201 (it tells what it finds)
import argparse
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from tests.gpu.cases import SHAPE
from tests.gpu.parity import compare
from tests.gpu.speed import measure

from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.choice import NoDevice, found_device
from irisdrs.readout.cuda.compilation import SIMULATED, cuda
from irisdrs.readout.cuda.device import Device

#: On an H200-class device.
GOALS = {
    "read_ms": ("at most", 1.2),
    "kernel_of_bandwidth": ("at least", 0.6),
    "reads_per_s": ("at least", 500.0),
    "close_ms": ("at most", 12.0),
    "fit_ms": ("at most", 25.0),
}


def main() -> int:
    """Compare, measure, tell."""
    options = _options()
    try:
        device = found_device(options.device)
    except NoDevice as problem:
        print(f"Nothing was compared or measured: {problem}.", file=sys.stderr)
        return 2
    said = list[str]()
    processor, backend = Processor(), CudaBackend(device, Processor(), said.append)
    parity = compare(backend, processor)
    if not SIMULATED:
        parity |= {f"{name}-512": found for name, found in compare(backend, processor, (500, 512)).items()}
    for name, found in parity.items():
        print(f"{name:32} {'; '.join(found) or 'the same bits'}")
    # A simulated device has no speed.
    figures = {} if SIMULATED else asdict(measure(backend, device, options.size, options.reads))
    for name, value in figures.items():
        goal = f"goal: {GOALS[name][0]} {GOALS[name][1]}" if name in GOALS else ""
        print(f"{name:32} {value:.4g} {goal}")
    for message in said:
        print(message)
    report = _described(device) | {
        "shape": [options.size, options.size],
        "reads": options.reads,
        "parity": {name: found or "the same bits" for name, found in parity.items()},
        "figures": figures,
        "failures": said,
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=2) + "\n")
    processor.shutdown()
    backend.shutdown()
    return 1 if said or any(parity.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", type=int, default=0, help="number of the device")
    parser.add_argument("--size", type=int, default=4096, help="rows and columns of what is measured")
    parser.add_argument("--reads", type=int, default=100, help="reads of a ramp of what is measured")
    parser.add_argument("--json", type=Path, help="file for the figures")
    return parser.parse_args()


def _described(device: Device) -> dict[str, Any]:
    """Device, driver, versions and date."""
    versions = {"numpy": np.__version__, "numba": numba.__version__}
    driver = Path("/proc/driver/nvidia/version")
    found: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.name,
        "simulated": SIMULATED,
        "parity_shape": list(SHAPE),
        "versions": versions,
    }
    if not SIMULATED:
        versions["numba-cuda"] = version("numba-cuda")
        versions["cuda"] = ".".join(map(str, cuda.runtime.get_version()))
        found["driver"] = driver.read_text().splitlines()[0] if driver.exists() else "unknown"
        found["cuda_of_driver"] = ".".join(map(str, cuda.cudadrv.driver.get_version()))
        found["compute_capability"] = list(cuda.gpus[device.number].compute_capability)
    return found


if __name__ == "__main__":
    sys.exit(main())
