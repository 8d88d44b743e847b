"""The genuine, unforked `crds` client and stpipe know TMT after `register()`, in a process that users could start."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.parameters import BY_PATH, matching_parameters
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.testing.references import CARDS, FURTHER_CARDS, HEADER, write_reference, write_references

ASK_THE_CLIENT = """
import json, sys
from irisdrs.shared.crds import register
register(); register()
import crds
from crds.core import constants
header, context = json.loads(sys.argv[1]), sys.argv[2]
types = json.loads(sys.argv[3])
from stpipe import crds_client
print(json.dumps({
    "observatories": constants.ALL_OBSERVATORIES.count("tmt"),
    "paths": crds.getreferences(header, reftypes=types, context=context, observatory="tmt"),
    "names": crds.getrecommendations(header, reftypes=types, context=context, observatory="tmt"),
    "default": crds_client.get_context_used("tmt"),
    "stpipe": crds_client.get_multiple_reference_paths(header, types, "tmt"),
}))
"""


TYPES = json.dumps(list(CARDS))


def in_new_process(code: str, *arguments: str, **environment: str) -> str:
    kept = {name: value for name, value in os.environ.items() if "CRDS" not in name}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=kept | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.peers
def test_the_client_and_stpipe_find_every_type(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = build_context(cache, write_references(tmp_path))
    newer = write_reference(tmp_path / "newer.fits", "gain", USEAFTER="2033-01-01T00:00:00")
    second = build_context(cache, [newer])
    before = sorted(path for path in cache.rglob("*"))

    answer = json.loads(in_new_process(ASK_THE_CLIENT, json.dumps(HEADER), first, TYPES, **client_environment(cache)))

    folder = cache / "references" / "tmt" / "iris"
    expected = {kind: str(folder / f"tmt_iris_{kind}_0001.fits") for kind in CARDS}
    assert answer["observatories"] == 1
    assert answer["paths"] == expected
    assert answer["names"] == {kind: Path(path).name for kind, path in expected.items()}
    assert answer["default"] == second
    assert answer["stpipe"] == expected | {"gain": str(folder / "tmt_iris_gain_0002.fits")}
    assert sorted(path for path in cache.rglob("*")) == before


def test_importing_the_package_changes_nothing() -> None:
    out = in_new_process(
        "import os, sys; before = dict(os.environ); import irisdrs.shared.crds, irisdrs.shared.crds.names;"
        "print(dict(os.environ) == before, 'crds' in sys.modules)"
    )
    assert out.split() == ["True", "False"]


@pytest.mark.peers
def test_a_path_is_all_that_a_process_must_set(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    build_context(cache, write_references(tmp_path))
    answer = json.loads(
        in_new_process(ASK_THE_CLIENT, json.dumps(HEADER), "tmt_0001.pmap", TYPES, CRDS_PATH=str(cache))
    )
    assert answer["default"] == "tmt_0001.pmap"
    assert answer["stpipe"] == answer["paths"]
    assert len(answer["paths"]) == len(CARDS)


@pytest.mark.peers
def test_the_user_may_choose_another_server() -> None:
    out = in_new_process(
        "from irisdrs.shared.crds import register; register()\n"
        "from crds.client import api; print(api.get_crds_server())",
        CRDS_SERVER_URL="http://127.0.0.1:8081",
    )
    assert out.strip() == "http://127.0.0.1:8081"


@pytest.mark.parametrize("kind", sorted(reference_types()))
def test_every_key_of_every_type_has_a_fits_keyword(kind: str) -> None:
    described = reference_types()[kind]
    chosen_by = {**CARDS, **FURTHER_CARDS}[kind]
    keys = described.keys
    if described.divider is not None:
        keys = described.applying_keys(str(chosen_by[BY_PATH[described.divider].keyword]))
    assert {BY_PATH[key].keyword for key in (*keys, *described.extra_keys)} == set(chosen_by)


def test_header_names_become_paths_and_numbers_are_rounded() -> None:
    assert matching_parameters({"detector": "IMG2", "meta.exposure.integration_time": 5.7600000001, "OTHER": 1}) == {
        "META.INSTRUMENT.DETECTOR": "IMG2",
        "META.EXPOSURE.INTEGRATION_TIME": "5.76",
        "OTHER": "1",
    }
