"""What `make chaos` writes down: the last run of each seed."""

import json
from pathlib import Path

from tests.chaos.cases import CASES
from tests.chaos.performance import Outcome
from tests.chaos.results import write
from tests.chaos.verdict import Verdict

CASE = CASES[0]
CLEAN = Verdict()
HELD = Outcome(CASE, CLEAN, 1.25, 20.0, ())
MISSED = Outcome(CASE, CLEAN, None, 20.0, ("recovery took 120 s",))


def test_runs_of_several_seeds_stand_beside_each_other(tmp_path: Path) -> None:
    write([MISSED, HELD], tmp_path, seed=2, seconds=120.0)
    write([HELD], tmp_path, seed=1, seconds=60.0)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.index("## Seed 1") < text.index("## Seed 2")
    assert text.count(f"| {CASE.name} | {CASE.injected} | 0 | 0 | 0 | 0 | 0 | 1.2 | held |") == 2
    assert f"| {CASE.name} | {CASE.injected} | 0 | 0 | 0 | 0 | 0 | never | missed |" in text
    assert "1 of 2 cases hold their goal. 2 minutes" in text
    assert f"- **{CASE.name}**: recovery took 120 s." in text


def test_a_run_takes_the_place_of_the_one_before_with_its_seed(tmp_path: Path) -> None:
    write([MISSED], tmp_path, seed=1, seconds=60.0)
    write([HELD], tmp_path, seed=1, seconds=60.0)
    (run,) = json.loads((tmp_path / "RESULTS.json").read_text())["runs"]
    assert [case["problems"] for case in run["cases"]] == [[]]
    assert "missed" not in (tmp_path / "RESULTS.md").read_text()
