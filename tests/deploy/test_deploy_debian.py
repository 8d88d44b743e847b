"""Debian packages: installed by root where they are missing, named to everybody else, never touched otherwise."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "debian-packages"
NOBODY = 65534

Run = Callable[..., subprocess.CompletedProcess[str]]

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="Only Debian has Debian packages.")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="Only root installs packages.")


@pytest.fixture
def calls(tmp_path: Path) -> Path:
    """What is asked of an `apt-get` that only takes note: the machine's own must be left alone."""
    noted = tmp_path / "calls"
    command = tmp_path / "bin" / "apt-get"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >>{noted}\n')
    command.chmod(0o755)
    return noted


@pytest.fixture
def run(calls: Path) -> Run:
    def run_script(
        *packages: str, python: str = sys.executable, path: str = os.environ["PATH"], user: int | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the script; from standard input, so that nobody can run what lies in a folder closed to others."""
        return subprocess.run(
            ["/bin/sh", "-s", "--", *packages],
            input=SCRIPT.read_text(encoding="utf-8"),
            env={"PATH": f"{calls.parent / 'bin'}:{path}", "PYTHON": python},
            cwd="/",
            user=user,
            capture_output=True,
            text=True,
            check=False,
        )

    return run_script


@needs_dpkg
@pytest.mark.parametrize("packages", [(), ("python3-venv",), ("python3-venv", "dpkg")])
def test_nothing_is_done_where_nothing_is_missing(run: Run, calls: Path, packages: tuple[str, ...]) -> None:
    done = run(*packages)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not calls.exists()


@needs_dpkg
@needs_root
def test_root_installs_what_is_missing_and_only_that(run: Run, calls: Path) -> None:
    done = run("dpkg", "python3-venv", "iris-no-such-package", python="/bin/false")
    assert done.returncode == 0, done.stderr
    update, install = calls.read_text().splitlines()
    assert update.endswith("update")
    assert install.endswith("install --yes --no-install-recommends python3-venv iris-no-such-package")


@needs_dpkg
def test_others_are_told_what_to_install(run: Run, calls: Path) -> None:
    done = run("python3-venv", python="/bin/false", user=NOBODY if os.geteuid() == 0 else None)
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv" in done.stderr
    assert not calls.exists()


def test_systems_without_apt_are_told_what_to_install(run: Run, calls: Path, tmp_path: Path) -> None:
    (calls.parent / "bin" / "apt-get").unlink()
    (tmp_path / "bin" / "id").symlink_to(str(shutil.which("id")))
    done = run("python3-venv", python="/bin/false", path="")
    assert done.returncode == 1
    assert "python3-venv (its name in Debian)" in done.stderr
