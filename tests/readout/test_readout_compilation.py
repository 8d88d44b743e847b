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


def called(folder: Path, environment: dict[str, str]) -> str:
    """What the kernel gives, and whether it was compiled."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", CALL], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Two kernels, one of which calls the other."""
    package = tmp_path / "arithmetic"
    (package / "sampling").mkdir(parents=True)
    shutil.copy(compilation.__file__, package)
    (package / "sampling" / "caller.py").write_text(CALLER)
    (package / "sampling" / "callee.py").write_text(CALLEE.format(number=1))
    return package


@pytest.mark.parametrize("place", ["arithmetic", "chosen", "user"])
def test_a_kernel_is_compiled_anew_when_one_that_it_calls_has_changed(package: Path, place: str) -> None:
    folder = package.parent
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "user")}
    if place == "chosen":
        environment["NUMBA_CACHE_DIR"] = str(folder / "chosen")
    elif place == "user":
        (package / "sampling" / "__pycache__").touch()  # as a folder that cannot be written to: root may run this
    said = []
    for number in (1, 1, 2, 2):
        (package / "sampling" / "callee.py").write_text(CALLEE.format(number=number))
        said.append(called(folder, environment))
    assert said == ["2 True", "2 False", "3 True", "3 False"]
    assert {path.relative_to(folder).parts[0] for path in folder.rglob("*.nbi")} == {place}


def test_a_kernel_is_compiled_anew_when_the_way_in_which_all_are_has_changed(package: Path) -> None:
    said = [called(package.parent, dict(os.environ))]
    with (package / "compilation.py").open("a") as file:
        file.write("\n# Other options.\n")
    said.append(called(package.parent, dict(os.environ)))
    assert said == ["2 True", "2 True"]
