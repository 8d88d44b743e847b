"""Kernels are compiled for a device without one: what they need of it, and that they round as the processor does."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import unavailable

ROOT = Path(__file__).parents[2]

#: Where there is a compiler (`deploy/cuda-requirements.txt`). Nothing of ours is installed there.
PYTHON = Path(sys.prefix) / "cuda" / "bin" / "python"

#: Registers of a thread with which a multiprocessor has half of its threads at work: enough to hide the memory's delay.
#: The fit computes more than it waits.
MOST_REGISTERS = {"fit": 128}


def test_every_kernel_compiles_for_an_h200_without_contractions_and_without_spilling() -> None:
    found = json.loads(_run("-m", "tests.gpu.compilation"))
    folds = {"fold_linear", "fold_segments", "fold_sums"}
    adds = {"add_linear", "add_segments", "add_combination"}
    assert {one["kernel"] for one in found} == folds | adds | {"close", "fit", "grow", "thin"}
    for one in found:
        assert one["contracted"] == 0, one
        assert one["registers"] <= MOST_REGISTERS.get(one["kernel"], 64) and one["spilled_bytes"] == 0, one


def test_compiling_for_a_device_is_said(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text(
        "from numba import cuda, float32\n"
        "def f(x): x[0] = x[0] + 1\n"
        "def ptx(): return cuda.compile(f, (float32[::1],), device=False, abi='numba', cc=(9, 0))\n"
    )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from irisdrs.readout.compiling import saying_so\nfrom kernel import ptx\nsaid = []\n"
        "with saying_so(said.append):\n    ptx(), ptx()\n"
        "ptx()\nprint(len(said), *said)"
    )
    assert _run("-c", program).startswith("1 Compiling the kernels")


def test_what_is_dropped_of_a_device_waits_for_a_thread_that_has_its_context() -> None:
    """numba's queue of what was dropped, which it clears by itself after ten."""
    program = (
        "from numba.cuda.cudadrv import driver\n"
        "driver._logger = driver.make_logger()\n"  # as the first use of a device does
        "import irisdrs.readout.cuda.compilation\n"
        "dropped, given_back = driver._PendingDeallocs(capacity=1000 * 10**6), []\n"
        "for size in [10**6] * 1000: dropped.add_item(given_back.append, size, size)\n"
        "print(len(given_back))\n"
        "dropped.clear()\n"
        "print(len(given_back))\n"
    )
    assert _run("-c", program).split() == ["0", "1000"]


def _run(*arguments: str) -> str:
    """What a process with a compiler, and without the simulator, prints."""
    if not PYTHON.exists():
        unavailable(f"There is no compiler for CUDA in {PYTHON.parents[1]}: `make test` installs one.")
    sources = os.pathsep.join(str(ROOT / source) for source in ("shared/src", "services/readout/src"))
    done = subprocess.run(
        [PYTHON, *arguments],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0", "PYTHONPATH": sources},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
