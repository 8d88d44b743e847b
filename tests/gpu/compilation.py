"""Compiles all kernels for an H200 as they are launched, on a machine without one: `python -m tests.gpu.compilation`.

Needs numba-cuda with its compiler (libNVVM), and no driver. Writes what it found as JSON.
"""

# ruff: noqa: T201 (it tells what it finds)
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numpy.typing import DTypeLike, NDArray
from tests.gpu.cases import EVEN, SHAPE, calibration_of, cases, fits, fold_ramps, ramp_of

from irisdrs.readout.backend import Processor
from irisdrs.readout.cuda.backend import CudaBackend
from irisdrs.readout.cuda.compilation import COMPILES, Kernel, cuda
from irisdrs.readout.cuda.device import Device
from irisdrs.readout.cuda.memory import PinnedPool

_typeof: Any = numba.typeof

#: Compute capability of an H200.
CAPABILITY = (9, 0)


@dataclass(frozen=True)
class Compiled:
    """A kernel as it is compiled for one set of types.

    Attributes
    ----------
    kernel : str
    contracted : int
        Products and sums of float32 that are rounded together.
    registers, spilled_bytes : int, optional
        Of each thread, if the assembler (ptxas) is there.
    """

    kernel: str
    contracted: int
    registers: int | None
    spilled_bytes: int | None


class Memory(np.ndarray[Any, Any]):
    """Host memory that takes the place of a device's."""

    def copy_to_device(self, source: NDArray[Any], stream: object) -> None:
        self[...] = source

    def copy_to_host(self, destination: NDArray[Any], stream: object) -> None:
        destination[...] = self


class Nothing:
    """A stream, and an event, in which nothing happens."""

    def synchronize(self) -> None:
        return None

    def record(self, stream: object) -> None:
        return None

    def wait(self, stream: object) -> None:
        return None


class Compiler(Device):
    """A device that compiles what is launched, and does not run it."""

    compute_capability = CAPABILITY

    def __init__(self) -> None:
        self.name = "compiler"
        self.pinned = PinnedPool(lambda size: np.zeros(size, np.uint8))
        self.found: dict[tuple[object, ...], Compiled] = {}

    @contextmanager
    def here(self) -> Iterator[None]:
        yield

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> Memory:
        return np.zeros(shape, dtype).view(Memory)

    def stream(self) -> Nothing:
        return Nothing()

    event = stream

    def launch(self, kernel: Kernel, shape: tuple[int, int], stream: Any, *arguments: Any) -> None:
        types = tuple(_typeof(_plain(argument)) for argument in arguments)
        if (kernel, types) not in self.found:
            ptx, _ = cuda.compile(kernel.py_func, types, device=False, abi="numba", cc=CAPABILITY)
            self.found[kernel, types] = _looked_at(kernel.py_func.__name__, ptx)


def compile_all() -> list[Compiled]:
    """Compile every kernel that the cases of `tests.gpu.cases` launch."""
    # A function that a kernel calls is compiled for the device of the thread.
    cuda.dispatcher.get_current_device = Compiler
    device = Compiler()
    said = list[str]()
    backend = CudaBackend(device, Processor(1), said.append)
    for case in cases():
        state = fold_ramps(backend, calibration_of(SHAPE), case)
        backend.live(state, step=2)
        backend.close(state)
    for settings in fits().values():
        backend.fit(ramp_of(SHAPE, EVEN, 1), calibration_of(SHAPE), np.array(EVEN), settings)
    backend.shutdown()
    if said:
        raise RuntimeError(said[0])
    return list(device.found.values())


def _plain(argument: Any) -> Any:
    """An argument as numba shall take its type."""
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return type(argument)(*(_plain(part) for part in argument))
    if isinstance(argument, tuple):
        return tuple(_plain(part) for part in argument)
    return argument.view(np.ndarray) if isinstance(argument, Memory) else argument


def _looked_at(name: str, ptx: str) -> Compiled:
    contracted = len(re.findall(r"\bfma\.rn\.f32", ptx))
    assembler = shutil.which("ptxas") or _wheel_assembler()
    if assembler is None:
        return Compiled(name, contracted, None, None)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [assembler, "-arch=sm_90", "-v", str(source), "-o", str(Path(folder) / "kernel.cubin")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = re.search(r"Used (\d+) registers", told)
    spilled = re.findall(r"(\d+) bytes spill", told)
    return Compiled(name, contracted, int(registers[1]) if registers else None, sum(map(int, spilled)))


def _wheel_assembler() -> str | None:
    """The assembler of NVIDIA's packages."""
    spec = find_spec("nvidia")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = [path for folder in folders for path in sorted(Path(folder).glob("*/bin/ptxas"))]
    return str(found[0]) if found else None


def main() -> int:
    """Print what was compiled; 2 where nothing can be."""
    if not COMPILES:
        print("There is no compiler for CUDA: pip install 'numba-cuda[cu12]'.", file=sys.stderr)
        return 2
    print(json.dumps([asdict(found) for found in compile_all()], indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
