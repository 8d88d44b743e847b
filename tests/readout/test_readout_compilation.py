"""Kernels that numba keeps are those of all their sources."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from irisdrs.readout import compilation

CALLER = """
from arithmetic.compilation import kernel
from arithmetic.sampling.callee import g

@kernel
def f(x): return g(x)
"""
CALLEE = """
from arithmetic.compilation import kernel

@kernel
def g(x): return x + {number}
"""
CALL = """
from numba.core.event import RecordingListener, install_listener
from arithmetic.sampling.caller import f

heard = RecordingListener()
with install_listener("numba:run_pass", heard):
    print(f(1), len(heard.buffer) > 0)
"""


@pytest.mark.parametrize("chosen", [False, True])
def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(tmp_path: Path, chosen: bool) -> None:
    package = tmp_path / "arithmetic"
    (package / "sampling").mkdir(parents=True)
    shutil.copy(compilation.__file__, package)
    (package / "sampling" / "caller.py").write_text(CALLER)
    environment = os.environ | ({"NUMBA_CACHE_DIR": str(tmp_path / "kept")} if chosen else {})
    said = []
    for number in (1, 1, 2, 2):
        (package / "sampling" / "callee.py").write_text(CALLEE.format(number=number))
        done = subprocess.run(
            [sys.executable, "-B", "-c", CALL],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout.strip())
    assert said == ["2 True", "2 False", "3 True", "3 False"], "what it gives, and whether it was compiled"
