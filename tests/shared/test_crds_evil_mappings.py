"""No mapping makes a context load that names a file outside the cache, calls something, or exhausts the process."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from irisdrs.shared.crds import client_environment
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.library import Library
from irisdrs.shared.crds.mapping_text import MAX_BYTES, MAX_DEPTH, check_mapping_text
from irisdrs.shared.crds.mappings import load_context, write_reference_mapping
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import Fatal
from irisdrs.shared.testing.references import HEADER, write_references

GAIN = "tmt_iris_gain_0001.rmap"
IMAP = "tmt_iris_0001.imap"
PMAP = "tmt_0001.pmap"
FILE = "tmt_iris_gain_0001.fits"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evil")
    build_context(folder / "cache", write_references(folder))
    return folder / "cache"


@pytest.fixture
def cache(built: Path, tmp_path: Path) -> Cache:
    shutil.copytree(built, tmp_path / "cache")
    return Cache(tmp_path / "cache")


def rewrite(path: Path, before: str, after: str) -> None:
    """Replace text of a mapping, and its checksum by the right one: who writes evil mappings can compute it."""
    text = path.read_text(encoding="utf-8")
    assert before in text
    lines = text.replace(before, after).splitlines(keepends=True)
    counted = "".join(line for line in lines if "sha1sum" not in line)
    checksum = hashlib.sha1(counted.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    path.chmod(0o644)
    path.write_text("".join(f"    'sha1sum' : '{checksum}',\n" if "sha1sum" in line else line for line in lines))


#: A mapping, text in it, what it is replaced by.
EVIL = {
    "an absolute name": (GAIN, f"'{FILE}'", "'/etc/passwd'"),
    "a name above the folder": (GAIN, f"'{FILE}'", f"'../../{FILE}'"),
    "a name in a folder": (GAIN, f"'{FILE}'", f"'x/{FILE}'"),
    "a name that would be an address": (GAIN, f"'{FILE}'", "'crds://x.fits'"),
    "a name of another system": (GAIN, f"'{FILE}'", "'..\\\\x.fits'"),
    "a name in escapes": (GAIN, f"'{FILE}'", "'\\x2fetc\\x2fpasswd'"),
    "a name in two parts": (GAIN, f"'{FILE}'", "'tmt_iris' '/../x.fits'"),
    "a name in bytes": (GAIN, f"'{FILE}'", "b'x.fits'"),
    "a name of a program": (GAIN, f"'{FILE}'", "'x.sh'"),
    "no name": (GAIN, f"'{FILE}'", "''"),
    "a mapping as a reference": (GAIN, f"'{FILE}'", "'tmt_iris_gain_0001.rmap'"),
    "two names": (GAIN, f"'{FILE}'", "('tmt_iris_gain_0001.fits', '/etc/passwd')"),
    "names in a mapping of their own": (GAIN, f"'{FILE}'", "{'x': '/etc/passwd'}"),
    "a number": (GAIN, f"'{FILE}'", "7"),
    "an imap outside": (PMAP, f"'{IMAP}'", "'../../../tmt_iris_0001.imap'"),
    "an rmap outside": (IMAP, f"'{GAIN}'", "'/tmp/tmt_iris_gain_0001.rmap'"),
    "an imap that is a reference": (PMAP, f"'{IMAP}'", f"'{FILE}'"),
    "itself": (PMAP, f"'{IMAP}'", f"'{PMAP}'"),
    "another observatory": (GAIN, "'observatory' : 'TMT'", "'observatory' : 'JWST'"),
    "another instrument": (GAIN, "'instrument' : 'IRIS'", "'instrument' : 'NIRCAM'"),
    "a parent outside": (GAIN, "'derived_from' : 'NONE'", "'derived_from' : '../../x.rmap'"),
    "code": (GAIN, f"'{FILE}'", "__import__('os').system('true')"),
    "an attribute": (GAIN, f"'{FILE}'", "Match.__class__"),
    "a lambda": (GAIN, f"'{FILE}'", "(lambda: 'x.fits')()"),
    "a comprehension": (GAIN, f"'{FILE}'", "[x for x in (1, 2)]"),
    "an import": (GAIN, "header = {", "import os\nheader = {"),
    "a dunder": (GAIN, "header = {", "__builtins__ = {}\nheader = {"),
    "arithmetic": (GAIN, f"'{FILE}'", "'x' * 9999999999"),
    "a selector that is not used": (GAIN, "UseAfter(", "Bracket("),
    "hooks": (GAIN, "'instrument' :", "'hooks' : {'precondition_header': '__loader__'},\n    'instrument' :"),
    "a schema elsewhere": (GAIN, "'instrument' :", "'schema_uri' : 'http://x/y',\n    'instrument' :"),
    "a rule with an attribute": (GAIN, "'always'", '"META.__class__"'),
    "a rule that calls": (GAIN, "'always'", "\"open('/etc/passwd')\""),
    "a rule that negates without end": (GAIN, "'always'", f"'{'-' * 1900}1'"),
    "a rule that is long": (GAIN, "'always'", f"'{'not ' * 5000}True'"),
    "a rule that counts": (GAIN, "'always'", "'9**9**9**9'"),
    "deep brackets": (GAIN, f"'{FILE}'", "(" * 100_000 + ")" * 100_000),
    "deep braces": (GAIN, "'instrument' :", "'x' : " + "{1:" * 50 + "2" + "}" * 50 + ",\n    'instrument' :"),
    "many signs": (GAIN, f"'{FILE}'", "-" * 100_000 + "1"),
    "another section": (GAIN, "header = {", "other = 1\nheader = {"),
    "an f-string": (GAIN, f"'{FILE}'", "f'{1}'"),
    "nothing at all": (GAIN, "selector = Match({", "selektor = Match({"),
    "a line that goes on": (GAIN, "header = {", "header = \\\n{"),
    "a null": (GAIN, "header = {", "header\0 = {"),
}


@pytest.mark.parametrize("case", EVIL)
def test_an_evil_mapping_makes_its_context_refused(cache: Cache, case: str) -> None:
    name, before, after = EVIL[case]
    rewrite(cache.mappings / name, before, after)
    started = time.process_time()
    with pytest.raises(Fatal) as refused:
        load_context(cache.mappings, PMAP)
    assert refused.value.remedy
    assert time.process_time() - started < 20.0
    with pytest.raises(Fatal):
        Library({}, cache.root, PMAP).choose(HEADER, ["gain"])


def test_a_mapping_that_was_not_touched_is_loaded(cache: Cache) -> None:
    rewrite(cache.mappings / GAIN, "'NONE'", "'tmt_iris_gain_0000.rmap'")
    assert load_context(cache.mappings, PMAP).reference_names()


def test_a_huge_mapping_is_refused_before_it_is_read(cache: Cache) -> None:
    mapping = cache.mappings / GAIN
    mapping.chmod(0o644)
    with mapping.open("r+b") as file:
        file.truncate(1 << 40)  # a hole: no such memory
    with pytest.raises(Fatal, match=f"whole context is refused: it has more than {MAX_BYTES} bytes"):
        load_context(cache.mappings, PMAP)


def test_a_mapping_that_is_no_text_is_refused(cache: Cache) -> None:
    (cache.mappings / GAIN).chmod(0o644)
    (cache.mappings / GAIN).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Fatal, match="it is no text"):
        load_context(cache.mappings, PMAP)


def test_what_mappings_of_any_type_say_is_let_through(tmp_path: Path) -> None:
    for name, kind in reference_types().items():
        values = tuple("N/A" if number % 2 else "*" for number in range(len(kind.keys)))
        file = f"tmt_iris_{name}_0001"
        write_reference_mapping(tmp_path, f"{file}.rmap", "", kind, {(values, "2030-01-01 00:00:00"): f"{file}.fits"})
        check_mapping_text((tmp_path / f"{file}.rmap").read_text(), name)


def test_comments_and_nesting_up_to_the_limit_are_let_through() -> None:
    deep = "{'x' : " * (MAX_DEPTH - 1) + "1" + "}" * (MAX_DEPTH - 1)
    check_mapping_text(f'# why\nheader = {{"x": {deep}}}\ncomment = """it is\nso"""\nselector = {{}}\n', "x.pmap")


ASK_THE_CLIENT = """
import json, sys
from irisdrs.shared.crds import register
register()
import crds
try:
    print(crds.getreferences(json.loads(sys.argv[1]), reftypes=["gain"], context="tmt_0001.pmap", observatory="tmt"))
except Exception as error:
    print("refused:", error)
"""


@pytest.mark.peers
@pytest.mark.parametrize("hooks", ["", "'hooks' : {'precondition_header': 'none'},\n    "])
@pytest.mark.parametrize("named", ["{outside}", "../outside.fits"])
def test_a_plain_client_hands_out_no_other_file_either(cache: Cache, tmp_path: Path, named: str, hooks: str) -> None:
    outside = tmp_path / "outside.fits"
    outside.write_bytes((cache.references / FILE).read_bytes())
    environment = {name: value for name, value in os.environ.items() if "CRDS" not in name}

    def answer() -> str:
        done = subprocess.run(
            [sys.executable, "-c", ASK_THE_CLIENT, json.dumps(HEADER)],
            env=environment | client_environment(cache.root),
            cwd=cache.root,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(cache.references / FILE) in answer()
    rewrite(cache.mappings / GAIN, f"'{FILE}'", f"'{named.format(outside=outside)}'")
    if hooks:
        rewrite(cache.mappings / GAIN, "'instrument' :", f"{hooks}'instrument' :")
    assert "which is no name of a CRDS file" in answer()
