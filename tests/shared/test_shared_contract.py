"""The event contract as it is committed: what the code makes, valid, and unbroken since the last release."""

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.cli import app
from irisdrs.shared.contract import files
from irisdrs.shared.contract.compatibility import Contract
from irisdrs.shared.contract.examples import EXAMPLES, example_message
from irisdrs.shared.contract.schemas import message_schema, told
from irisdrs.shared.events import Event, FrameReady, decode, encode
from irisdrs.shared.events.registry import EVENT_TYPES

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "shared" / "contract"
ASYNCAPI_SCHEMA = REPOSITORY / "tests" / "contract" / "asyncapi-3.0.0.schema.json"


def test_the_committed_contract_is_the_one_of_the_code() -> None:
    committed = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*.json")}
    made = files.files(files.current())
    current = {name for name in committed if not name.startswith(files.RELEASED)}
    assert current == made.keys(), "run `make contract`"
    differing = [name for name, text in made.items() if (FOLDER / name).read_text(encoding="utf-8") != text]
    assert differing == [], "run `make contract`"


def test_the_contract_of_the_last_release_is_not_broken() -> None:
    assert [str(one) for one in files.broken(files.read(FOLDER / files.RELEASED), files.current())] == []


def test_version_1_of_an_event_that_says_a_sampling_mode_has_the_modes_of_the_release_and_version_2_has_all() -> None:
    schemas: Any = files.current().schemas
    said = {name: schema["$defs"]["SamplingMode"]["enum"] for name, schema in schemas.items() if _says_a_mode(schema)}
    assert len(said) == 16
    for name, modes in said.items():
        assert modes == (["CDS", "UTR"] if name.endswith(".v1") else ["SINGLE", "CDS", "MCDS", "UTR"])


def _says_a_mode(schema: Any) -> bool:
    return "SamplingMode" in schema["$defs"]


def test_the_document_is_valid_asyncapi() -> None:
    jsonschema.validate(files.current().asyncapi, json.loads(ASYNCAPI_SCHEMA.read_text(encoding="utf-8")))


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = json.loads((FOLDER / files.ASYNCAPI).read_text(encoding="utf-8"))

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if isinstance(part.get("$ref"), str) else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    found = references(document)
    assert len(found) > len(EVENT_TYPES)
    for reference in found:
        if reference.startswith("#/"):
            part = document
            for step in reference.removeprefix("#/").split("/"):
                part = part[step]
        else:
            assert (FOLDER / reference).is_file()


def test_the_document_names_who_tells_and_who_takes() -> None:
    document = json.loads((FOLDER / files.ASYNCAPI).read_text(encoding="utf-8"))
    operations = document["operations"]
    names = ("frame.ready.v1", "frame.ready.v2")
    assert operations["calibrate.takes.iris.q.calibrate.realtime"]["messages"] == [
        {"$ref": f"#/channels/iris.q.calibrate.realtime/messages/{name}"} for name in names
    ]
    for name in names:
        assert operations[f"readout.tells.{name}"]["action"] == "send"
        assert document["channels"][name]["address"] == "iris.readout.frame.ready.{detector}"
    assert {queue.name for queue in QUEUES} <= document["channels"].keys()


@pytest.mark.parametrize("name", files.current().schemas)
def test_every_schema_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(files.current().schemas[name])


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.told_as)
def test_what_is_told_fits_its_schema_and_is_read_again(event: Event) -> None:
    schema = message_schema(type(event), event.told_version)
    message = encode(event, "test")
    sent = json.loads(message)
    jsonschema.validate(sent, schema, jsonschema.Draft202012Validator)
    example = example_message(type(event), event.told_version)
    jsonschema.validate(example, schema, jsonschema.Draft202012Validator)
    assert decode(message)[1] == event
    sent["data"][min(sent["data"])] = {"not": "this"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(sent, schema, jsonschema.Draft202012Validator)


def test_every_event_has_an_example_of_each_version_that_it_is_told_as() -> None:
    expected = sorted(kind.cloud_type(version) for kind, version in told(EVENT_TYPES.values()))
    assert sorted(event.told_as for event in EXAMPLES) == expected


def test_the_command_prints_the_document() -> None:
    printed = CliRunner().invoke(app, ["topology", "--asyncapi"]).output
    assert printed == (FOLDER / files.ASYNCAPI).read_text(encoding="utf-8")


def test_the_command_writes_the_contract_anywhere(tmp_path: Path) -> None:
    stale = tmp_path / "schemas" / "frame.eaten.v1.json"
    stale.parent.mkdir()
    stale.write_text("{}", encoding="utf-8")
    assert CliRunner().invoke(app, ["topology", "--contract", str(tmp_path)]).exit_code == 0
    assert files.files(files.read(tmp_path)) == files.files(files.current())
    assert not stale.exists()
    assert not (tmp_path / files.RELEASED).exists()


def test_releasing_freezes_the_contract(tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["topology", "--contract", str(tmp_path), "--release"]).exit_code == 0
    assert files.files(files.read(tmp_path / files.RELEASED)) == files.files(files.current())
    assert CliRunner().invoke(app, ["topology", "--release"]).exit_code == 2


def test_a_contract_that_breaks_the_released_one_is_not_written(tmp_path: Path) -> None:
    shutil.copytree(FOLDER / files.RELEASED, tmp_path / files.RELEASED)
    path = tmp_path / files.RELEASED / "schemas" / "frame.ready.v1.json"
    schema = json.loads(path.read_text(encoding="utf-8"))
    schema["properties"]["data"]["properties"]["observer"] = {"type": "string"}
    path.write_text(json.dumps(schema), encoding="utf-8")
    for release in ([], ["--release"]):
        result = CliRunner().invoke(app, ["topology", "--contract", str(tmp_path), *release])
        assert isinstance(result.exception, files.BrokenContract)
        assert "frame.ready.v1.data.observer: the field was removed or renamed" in str(result.exception)
        assert "next major version" in result.exception.remedy
    assert not (tmp_path / files.ASYNCAPI).exists()
    assert json.loads(path.read_text(encoding="utf-8")) == schema


def test_an_id_that_is_made_of_other_parts_breaks_the_contract() -> None:
    released = files.read(FOLDER / files.RELEASED)
    text = json.dumps(released.asyncapi)
    known = example_message(FrameReady, 1)["id"]
    other = Contract(released.schemas, json.loads(text.replace(str(known), "11111111-2222-5333-8444-555555555555")))
    assert any(
        one.where == "frame.ready.v1" and "the id is not the one of its data" in one.what
        for one in files.broken(other, files.current())
    )
