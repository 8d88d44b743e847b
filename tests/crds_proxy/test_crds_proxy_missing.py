"""Which calibrations are missing for tonight's plan."""

import asyncio
import json
import shutil
from datetime import datetime
from pathlib import Path

import pytest
from tests.crds_proxy.published import IN_2020, publish
from typer.testing import CliRunner, Result

from irisdrs.crds_proxy.cli import app
from irisdrs.crds_proxy.missing import types_asked_for
from irisdrs.shared.crds.cache import Cache
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.crds.parameters import BY_PATH
from irisdrs.shared.crds.reference_types import reference_types
from irisdrs.shared.errors import Fatal, MissingReference
from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.testing.references import CARDS, write_reference
from irisdrs.shared.testing.small_observation import header_of, small_plan

#: The small plan is 3 reads of 0.72 s through H with the imager.
SUITS: dict[str, dict[str, str | float]] = {"dark": {"RAMPINTT": 2.16}, "flat": {"FILTER": "H"}}


def references(folder: Path, detector: str, useafter: str = "2030-01-01T00:00:00") -> list[Path]:
    return [
        write_reference(
            folder / f"{kind}_{detector}.fits",
            kind,
            **SUITS.get(kind, {}) | {"DETECTOR": detector, "USEAFTER": useafter},
        )
        for kind in CARDS
    ]


def ask(plan: ObservationPlan, folder: Path, *options: str) -> Result:
    (folder / "plan.json").write_text(plan.model_dump_json())
    arguments = ["missing", str(folder / "plan.json"), "--cache", str(folder / "cache"), *options]
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


PLAN = small_plan(reads=3, detectors=(Detector.IMG1, Detector.IMG2))


def test_nothing_is_missing_where_everything_is_there(tmp_path: Path) -> None:
    build_context(tmp_path / "cache", references(tmp_path, "IMG1") + references(tmp_path, "IMG2"))
    answer = ask(PLAN, tmp_path)
    assert answer.exit_code == 0
    assert answer.stdout == "0 of 14 references are missing for 2034B-007-123 under tmt_0001.pmap.\n"


def test_what_a_setting_asks_for_besides_is_asked_for(tmp_path: Path) -> None:
    there = references(tmp_path, "IMG1") + references(tmp_path, "IMG2")
    kernels = write_reference(tmp_path / "refpix.fits", "refpix", DETECTOR="IMG1")
    build_context(tmp_path / "cache", [*there, kernels])
    answer = ask(PLAN, tmp_path, "--also", "refpix")
    assert answer.exit_code == 1
    assert "1 of 16 references are missing" in answer.stdout
    assert answer.stdout.splitlines()[1].split()[:3] == ["IMG2", "refpix", "DETECTOR=IMG2"]
    assert ask(PLAN, tmp_path, "--also", "nothing").exit_code == 2


async def test_a_host_with_an_empty_cache_asks_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    build_context(data / "crds", references(tmp_path, "IMG1") + references(tmp_path, "IMG2"))
    cache = Cache(data / "crds")
    await publish(DirectoryStore(data / "store"), cache, IN_2020)
    shutil.rmtree(cache.root)
    monkeypatch.setenv("IRIS_DATA_DIR", str(data))
    (tmp_path / "plan.json").write_text(PLAN.model_dump_json())
    arguments = ["missing", str(tmp_path / "plan.json")]
    answer = await asyncio.to_thread(CliRunner().invoke, app, arguments, catch_exceptions=False)
    assert answer.stdout == "0 of 14 references are missing for 2034B-007-123 under tmt_0001.pmap.\n"


def test_a_host_without_data_is_left_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRIS_DATA_DIR", str(tmp_path / "data"))
    (tmp_path / "plan.json").write_text(PLAN.model_dump_json())
    with pytest.raises(Fatal, match="There is no folder"):
        CliRunner().invoke(app, ["missing", str(tmp_path / "plan.json")], catch_exceptions=False)
    assert not (tmp_path / "data").exists()


def test_what_is_missing_is_named_with_its_configuration(tmp_path: Path) -> None:
    some = [path for path in references(tmp_path, "IMG2") if path.name != "dark_IMG2.fits"]
    build_context(tmp_path / "cache", references(tmp_path, "IMG1") + some)
    build_context(
        tmp_path / "cache", [write_reference(tmp_path / "x.fits", "dark", **CARDS["dark"] | {"DETECTOR": "IMG2"})]
    )
    answer = ask(PLAN, tmp_path)
    assert answer.exit_code == 1
    first, row = answer.stdout.splitlines()
    assert first == "1 of 14 references are missing for 2034B-007-123 under tmt_0002.pmap."
    assert row.split()[:6] == ["IMG2", "dark", "DETECTOR=IMG2", "SAMPMODE=UTR", "RAMPINTT=2.16", "SARRMODE=FULL"]
    assert row.endswith("SARRMODE=FULL  No match found")

    told = json.loads(ask(PLAN, tmp_path, "--json", "--context", "tmt_0001.pmap").stdout)
    assert (told["context"], told["asked"]) == ("tmt_0001.pmap", 14)
    assert [(each["detector"], each["type"]) for each in told["missing"]] == [("IMG2", "dark")]


def test_calibrations_of_the_night_itself_count_unless_a_time_is_given(tmp_path: Path) -> None:
    plan = small_plan(reads=3)
    build_context(tmp_path / "cache", references(tmp_path, "IMG1", f"{plan.night}T09:00:00"))
    assert ask(plan, tmp_path).exit_code == 0
    answer = ask(plan, tmp_path, "--at", f"{plan.night}T08:59:59", "--json")
    assert (answer.exit_code, len(json.loads(answer.stdout)["missing"])) == (1, 7)


def test_a_file_that_is_absent_is_missing_too(tmp_path: Path) -> None:
    build_context(tmp_path / "cache", references(tmp_path, "IMG1"))
    (tmp_path / "cache/references/tmt/iris/tmt_iris_mask_0001.fits").unlink()
    answer = ask(small_plan(reads=3), tmp_path)
    assert answer.exit_code == 1
    assert "tmt_iris_mask_0001.fits is absent" in answer.stdout.splitlines()[1]


def test_a_context_that_is_unknown_is_an_error_and_not_an_answer(tmp_path: Path) -> None:
    build_context(tmp_path / "cache", references(tmp_path, "IMG1"))
    with pytest.raises(MissingReference, match=r"tmt_0009\.pmap"):
        ask(PLAN, tmp_path, "--context", "tmt_0009.pmap")
    (tmp_path / "no.json").write_text("{}")
    with pytest.raises(Fatal, match="is no plan of an observation"):
        CliRunner().invoke(app, ["missing", str(tmp_path / "no.json")], catch_exceptions=False)


@pytest.mark.parametrize("detector", Detector)
def test_a_plan_asks_what_its_reads_will_ask(detector: Detector) -> None:
    plan = small_plan(reads=3, detectors=(detector,))
    header = header_of(plan, ExposureId(plan.observation, detector, ExposureType.SCI, 1), 1)
    assert plan.crds_parameters(detector, ExposureType.SCI, header.started_at) == header.crds_parameters()


def test_the_types_are_those_that_the_services_ask_for() -> None:
    from irisdrs.calibrate.job import REFERENCE_TYPES as REDUCED
    from irisdrs.readout.calibration import REFERENCE_TYPES as READ_OUT

    assert set(types_asked_for(Detector.IMG3)) == {*REDUCED, *READ_OUT}
    assert set(types_asked_for(Detector.IFS)) == set(READ_OUT)
    asked = {kind for detector in Detector for kind in types_asked_for(detector)}
    assert all("EXPTYPE" not in {BY_PATH[key].keyword for key in reference_types()[kind].keys} for kind in asked)


def test_times_are_utc() -> None:
    assert (
        small_plan().crds_parameters(Detector.IMG1, ExposureType.SKY, datetime(2034, 8, 1, 5, 6, 7, 891999))[
            "meta.observation.time"
        ]
        == "05:06:07.891"
    )
