"""A step asks CRDS for its references, and what it makes says which context chose them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.testing.references import HEADER, write_reference, write_references

RUN_A_STEP = """
import json, sys
import numpy as np
from irisdrs.shared.data.models import ImageModel
from irisdrs.shared.steps.iris_step import IrisStep

class LookStep(IrisStep):
    class_alias = "gain_scale"
    reference_file_types = ["gain"]
    def process(self, source):
        image = self.image(source)
        self.found = self.get_reference_file(image, "gain")
        return self.complete(image)

image = ImageModel(data=np.ones((4, 4), "f4"))
for path, value in json.loads(sys.argv[1]).items():
    node = image
    *groups, name = path.split(".")
    for group in groups:
        node = getattr(node, group)
    setattr(node, name, float(value) if name == "integration_time" else value)
step = LookStep(**json.loads(sys.argv[2]))
result = step.run(image)
used = result.meta.ref_file
print(json.dumps([step.found, used.gain.name, used.crds.context_used]))
"""


def run(cache: Path, parameters: dict[str, str], **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if "CRDS" not in name}
    environment = client_environment(cache) | environment
    script = cache.with_name("step.py")  # stpipe looks at the source of a step
    script.write_text(RUN_A_STEP)
    arguments = [json.dumps(HEADER), json.dumps(parameters)]
    return subprocess.run(
        [sys.executable, script, *arguments], env=kept | environment, cwd=cache, capture_output=True, text=True
    )


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    build_context(tmp_path / "cache", write_references(tmp_path))
    build_context(tmp_path / "cache", [write_reference(tmp_path / "better.fits", "gain", DESCRIP="better")])
    return tmp_path / "cache"


@pytest.mark.parametrize(("asked", "number"), [({}, 2), ({"CRDS_CONTEXT": "tmt_0001.pmap"}, 1)])
def test_the_context_that_chose_the_references_is_recorded(cache: Path, asked: dict[str, str], number: int) -> None:
    done = run(cache, {}, **asked)
    assert done.returncode == 0, done.stderr
    name = f"tmt_iris_gain_000{number}.fits"
    path = str(Cache(cache).references / name)
    assert json.loads(done.stdout) == [path, f"crds://{name}", f"tmt_000{number}.pmap"]


def test_what_was_given_by_hand_was_chosen_by_no_context(cache: Path, tmp_path: Path) -> None:
    done = run(cache, {"override_gain": str(tmp_path / "better.fits")})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [str(tmp_path / "better.fits"), "crds://better.fits", None]


@pytest.mark.parametrize("form", ["{outside}", "../{name}"])
def test_a_mapping_that_names_a_file_elsewhere_gives_none(cache: Path, tmp_path: Path, form: str) -> None:
    outside = write_reference(tmp_path / "tmt_iris_gain_0002.fits", "gain")
    mapping = Cache(cache).mappings / "tmt_iris_gain_0002.rmap"
    mapping.chmod(0o644)
    named = form.format(outside=outside, name=outside.name)
    mapping.write_text(mapping.read_text().replace("'tmt_iris_gain_0002.fits'", f"'{named}'"))
    done = run(cache, {}, CRDS_IGNORE_MAPPING_CHECKSUM="1")
    assert done.returncode != 0
    assert "which is no name of a" in done.stderr, done.stderr
