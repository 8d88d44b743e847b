"""Kernels are compiled for a device without one: what they need of it, and that they round as the processor does."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

#: Registers of a thread with which a multiprocessor has half of its threads at work: enough to hide the memory's delay.
#: The fit computes more than it waits.
MOST_REGISTERS = {"fit": 128}


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason="needs a compiler for CUDA: pip install 'numba-cuda[cu12]'")
def test_every_kernel_compiles_for_an_h200_without_contractions_and_without_spilling() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.gpu.compilation"],
        env=os.environ | {"NUMBA_ENABLE_CUDASIM": "0"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    folds = {"fold_linear", "fold_segments", "fold_sums"}
    adds = {"add_linear", "add_segments", "add_combination"}
    assert {one["kernel"] for one in found} == folds | adds | {"close", "fit", "grow", "thin"}
    for one in found:
        assert one["contracted"] == 0, one
        if one["registers"] is not None:
            assert one["registers"] <= MOST_REGISTERS.get(one["kernel"], 64) and one["spilled_bytes"] == 0, one
