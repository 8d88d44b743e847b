"""The `crds` command knows TMT wherever the distribution is installed, and only for those who ask for TMT."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.testing.references import CARDS, write_certifiable, write_reference, write_references

pytestmark = pytest.mark.peers

SHARED = Path(__file__).parents[2] / "shared"

#: What an interpreter does at its start in an environment with this distribution and all that it needs.
START = "import site, sys; site.addsitedir(sys.argv[1]); sys.path.append(sys.argv[2]); del sys.argv[:2]; import runpy; "


def python(code: str, site: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "CRDS" not in name and name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-S", "-c", START + code, str(site), sysconfig.get_path("purelib"), *map(str, arguments)],
        env=kept | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", params=["build_wheel", "build_editable"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install ./shared` and `pip install -e ./shared` put beside other packages."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp(request.param)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    source = Path(shutil.copytree(SHARED, folder / "shared", ignore=ignored))
    code = f"from setuptools import build_meta; build_meta.{request.param}({str(folder)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    assert (folder / "site" / "irisdrs_crds.pth").is_file()
    return folder / "site"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("startup")
    build_context(folder / "cache", write_references(folder))
    return folder / "cache"


def crds(site: Path, cache: Path, command: str, *arguments: object) -> str:
    code = f"runpy.run_module('crds.{command}', run_name='__main__')"
    done = python(code, site, *arguments, **client_environment(cache))
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_the_command_lists_certifies_and_assigns(site: Path, cache: Path, tmp_path: Path) -> None:
    assert "Effective Context = 'tmt_0001.pmap'" in crds(site, cache, "list", "--status")
    assert "tmt_iris_rectmat_0001.rmap" in crds(site, cache, "list", "--mappings")
    assert "tmt_iris_gain_0001.fits" in crds(site, cache, "list", "--references")
    assert "0 errors" in crds(site, cache, "certify", write_certifiable(tmp_path / "sky.fits", "sky"))
    assert "0 errors" in crds(site, cache, "certify", "crds://tmt_0001.pmap", "--dont-recurse-mappings")
    found = crds(site, cache, "matches", "--files", "tmt_iris_flat_0001.fits")
    assert "META.INSTRUMENT.FILTER='KS' META.INSTRUMENT.PUPIL='CLEAR'" in found
    exposure = write_reference(
        tmp_path / "read.fits",
        "",
        **CARDS["dark"],
        **{"DATE-OBS": "2034-08-01", "TIME-OBS": "05:04:03.000", "OBSMODE": "IMG"},
    )
    said = crds(site, cache, "bestrefs", "--files", exposure, "--types", "gain", "dark", "rectmat", "--print-new")
    assert "tmt_iris_dark_0001.fits" in said
    assert "tmt_iris_gain_0001.fits" in said


KNOWN = (
    "import crds; from crds.core import constants; "
    "print('tmt' in constants.ALL_OBSERVATORIES, 'irisdrs.shared.crds' in sys.modules, "
    "[finder for finder in sys.meta_path if 'irisdrs' in repr(finder)])"
)


@pytest.mark.parametrize("environment", [{}, {"CRDS_OBSERVATORY": "jwst"}, {"CRDS_OBSERVATORY": "hst"}])
def test_who_works_for_another_observatory_keeps_the_client_as_it_is(site: Path, environment: dict[str, str]) -> None:
    assert python(KNOWN, site, **environment).stdout == "False False []\n"


def test_the_finder_steps_aside_when_crds_is_there(site: Path) -> None:
    assert python(KNOWN, site, CRDS_OBSERVATORY="tmt").stdout == "True True []\n"


def test_what_does_not_import_crds_is_left_alone(site: Path) -> None:
    code = "import json; print({'crds', 'irisdrs.shared', 'numpy'} & set(sys.modules))"
    assert python(code, site, CRDS_OBSERVATORY="tmt").stdout == "set()\n"
