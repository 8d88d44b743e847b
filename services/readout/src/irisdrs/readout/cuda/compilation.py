"""What we have numba do: kernels compute bit for bit what the processor computes, memory is given back when told."""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numba
import numba.cuda
from numba.core import config

#: `numba.cuda`, for which there are no types: that of the simulator, of numba-cuda, or of numba itself.
cuda: Any = numba.cuda

#: Whether kernels are run as Python, thread by thread (NUMBA_ENABLE_CUDASIM=1): for tests on machines without a device.
SIMULATED = bool(vars(config)["ENABLE_CUDASIM"])

#: Whether kernels can be compiled for devices: numba's own `numba.cuda` is no longer maintained.
COMPILES = not SIMULATED and find_spec("numba_cuda") is not None

#: A kernel: `kernel[grid, block, stream](*arguments)`.
Kernel = Any


def kernel(function: Callable[..., None]) -> Kernel:
    """Compile a function for the device when it is first launched."""
    if SIMULATED or not COMPILES:
        return cuda.jit(function)
    # Linked with its functions as one piece of code, in which no product is contracted with a sum.
    return cuda.jit(function, lto=False, cache=True)


def round_every_operation() -> None:
    """Have every product and every sum rounded by itself, as the processor does it.

    A device otherwise contracts a product and a sum to one operation, which rounds once: no pixel would then have the
    bits that the processor gives it, and some that are at the limit of a jump test would lose another read. The kernels
    wait for memory, not for arithmetic. numba-cuda has no option for libNVVM's `-fma`; a test looks into what it
    compiles.
    """
    nvvm: Any = numba.cuda.cudadrv.nvvm
    compile_ir = nvvm.compile_ir

    def compile_uncontracted(llvmir: Any, **options: Any) -> Any:
        return compile_ir(llvmir, **({"fma": False} | options))

    nvvm.compile_ir = compile_uncontracted


def give_back_when_told() -> None:
    """Have numba keep what was dropped of a device until `Device.here` gives it back.

    It otherwise gives memory, streams and events back in whichever thread has dropped a few of them: in the event loop,
    which would wait for the device, or where garbage is collected. The driver may refuse it there, for the thread has
    no context, and what it refuses is never given back.
    """
    settings = cuda.core.config
    settings.CUDA_DEALLOCS_COUNT = sys.maxsize
    settings.CUDA_DEALLOCS_RATIO = 1.0  # of the device's memory


if COMPILES:
    round_every_operation()
    give_back_when_told()
