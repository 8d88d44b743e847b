"""Warming up loads every kernel that a frame needs, and says when it must compile them first."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from irisdrs.readout.backend import Processor
from irisdrs.readout.sampling.close import close_combination_rows, close_linear_rows, close_rows, close_segment_rows
from irisdrs.readout.sampling.coadd import add_combination_rows, add_rows, add_segment_rows
from irisdrs.readout.sampling.fold import first_rows, fold_rows, fold_segment_rows, fold_sum_rows
from irisdrs.readout.sampling.growth import grow_rows
from irisdrs.readout.sampling.ramp_fit import fit_rows
from irisdrs.readout.warming import warm_up


def test_the_kernels_are_compiled_for_the_types_of_real_reads() -> None:
    processor = Processor(1)
    warm_up(processor)
    kernels = (
        first_rows,
        fold_rows,
        fold_segment_rows,
        fold_sum_rows,
        grow_rows,
        add_rows,
        add_segment_rows,
        add_combination_rows,
        close_rows,
        close_linear_rows,
        close_segment_rows,
        close_combination_rows,
        fit_rows,
    )
    compiled = [len(kernel.signatures) for kernel in kernels]
    warm_up(processor)
    processor.shutdown()
    assert compiled == [len(kernel.signatures) for kernel in kernels]
    assert all(compiled)


def test_a_warm_process_compiles_nothing_for_its_first_frames(exposure: Any, tmp_path: Path) -> None:
    plan, store, crds = exposure
    shutil.copytree(store, tmp_path / "store")
    command = [sys.executable, "-m", "tests.readout.first_frame"]
    command += [str(tmp_path / "store"), str(crds), plan.model_dump_json()]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warm, after = json.loads(done.stdout.splitlines()[-1])
    assert warm == after
    for kernel in ("ramp_fit.fit_rows", "fold.fold_rows", "fold.fold_sum_rows", "close.close_combination_rows"):
        assert warm[f"irisdrs.readout.sampling.{kernel}"] == 1


def test_compiling_is_said_once_and_loading_is_not(tmp_path: Path) -> None:
    (tmp_path / "kernel.py").write_text("from numba import njit\n@njit(cache=True)\ndef f(x): return x + 1\n")
    code = (
        "from irisdrs.readout.compiling import saying_so\nfrom kernel import f\nsaid = []\n"
        "with saying_so(said.append):\n    f(1), f(2), f(2.0)\nprint(len(said), *said)"
    )
    for expected in ("1 Compiling the kernels", "0"):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.strip().startswith(expected), "the second time they are on the disk"
