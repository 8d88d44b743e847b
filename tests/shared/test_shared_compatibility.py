"""What may change in the contract inside a major version, and what may not: one case for each kind of change."""

import copy
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, create_model

from irisdrs.shared.contract import files
from irisdrs.shared.contract.compatibility import Contract, breaks, schema_breaks
from irisdrs.shared.contract.schemas import Document


class Colour(StrEnum):
    RED = "red"
    GREEN = "green"


class MoreColours(StrEnum):
    RED = "red"
    GREEN = "green"
    BLUE = "blue"


class Part(BaseModel):
    size: int


class RicherPart(Part):
    note: str = ""


class StricterPart(Part):
    note: str


def schema(**fields: Any) -> Document:
    """JSON Schema of a model with these fields."""
    return dict(create_model("Sample", **fields).model_json_schema())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"a": int}, {"a": int, "b": (int, 3)}),
        ({"a": int}, {"a": int, "b": (Annotated[str | None, Field(pattern="^x$")], None)}),
        ({"a": int}, {"a": Annotated[int, Field(description="now with words", examples=[1])]}),
        ({"part": Part}, {"part": RicherPart}),
        ({"parts": tuple[Part, ...]}, {"parts": tuple[RicherPart, ...]}),
        ({"parts": dict[str, Part]}, {"parts": dict[str, RicherPart]}),
        ({"part": (Part | None, None)}, {"part": (RicherPart | None, None)}),
        ({"a": int, "b": str}, {"b": str, "a": int}),
    ],
)
def test_additions_that_nobody_needs_pass(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert schema_breaks("sample", schema(**old), schema(**new)) == []


@pytest.mark.parametrize(
    ("old", "new", "where", "what"),
    [
        ({"a": int, "b": int}, {"a": int}, "sample.b", "removed or renamed"),
        ({"a": int, "b": (int, 1)}, {"a": int}, "sample.b", "removed or renamed"),
        ({"a": int}, {"a": int, "b": int}, "sample.b", "a new field is required"),
        ({"a": (int, 1)}, {"a": int}, "sample.a", "became required"),
        ({"a": int}, {"a": (int, 1)}, "sample.a", "became optional"),
        ({"a": (int, 1)}, {"a": (int, 2)}, "sample.a", "default was 1 and is 2"),
        ({"a": int}, {"a": float}, "sample.a", "type was 'integer' and is 'number'"),
        ({"a": int}, {"a": str}, "sample.a", "type was 'integer' and is 'string'"),
        ({"a": int}, {"a": int | None}, "sample.a", "anyOf was not limited"),
        ({"a": int}, {"a": Annotated[int, Field(ge=0)]}, "sample.a", "minimum was not limited and is 0"),
        ({"a": Annotated[int, Field(ge=0)]}, {"a": int}, "sample.a", "minimum was 0 and is not limited"),
        ({"a": Annotated[int, Field(le=9)]}, {"a": Annotated[int, Field(le=8)]}, "sample.a", "maximum was 9 and is 8"),
        ({"a": str}, {"a": Annotated[str, Field(max_length=8)]}, "sample.a", "maxLength was not limited and is 8"),
        ({"a": str}, {"a": Annotated[str, Field(pattern="^x$")]}, "sample.a", "pattern was not limited and is '^x$'"),
        ({"a": Colour}, {"a": MoreColours}, "sample.a", "blue may be told now: services of the version before"),
        ({"a": MoreColours}, {"a": Colour}, "sample.a", "blue may no longer be told: this version would park"),
        ({"a": Colour}, {"a": str}, "sample.a", "enum was ['red', 'green'] and is not limited"),
        ({"a": Literal["x"]}, {"a": Literal["y"]}, "sample.a", "const was 'x' and is 'y'"),
        ({"part": Part}, {"part": StricterPart}, "sample.part.note", "a new field is required"),
        ({"part": RicherPart}, {"part": Part}, "sample.part.note", "removed or renamed"),
        ({"parts": tuple[Part, ...]}, {"parts": tuple[StricterPart, ...]}, "sample.parts[].note", "required"),
        ({"parts": dict[str, Part]}, {"parts": dict[str, StricterPart]}, "sample.parts[].note", "required"),
        ({"a": tuple[int, str]}, {"a": tuple[int, int]}, "sample.a[1]", "type was 'string' and is 'integer'"),
        ({"a": tuple[int, int]}, {"a": tuple[int, int, int]}, "sample.a", "prefixItems was"),
        ({"part": (Part | None, None)}, {"part": (StricterPart | None, None)}, "sample.part[0].note", "required"),
    ],
)
def test_everything_else_breaks_and_says_where(old: dict[str, Any], new: dict[str, Any], where: str, what: str) -> None:
    found = schema_breaks("sample", schema(**old), schema(**new))
    assert any(one.where == where and what in one.what for one in found), [str(one) for one in found]


@pytest.fixture
def contract() -> Contract:
    return files.current()


def test_a_contract_does_not_break_itself_and_may_get_new_events(contract: Contract) -> None:
    fewer = {name: one for name, one in contract.schemas.items() if name != "frame.reduced.v1"}
    assert breaks(contract, contract) == []
    assert breaks(Contract(fewer, contract.asyncapi), contract) == []


def test_an_event_that_was_removed_breaks_the_contract(contract: Contract) -> None:
    fewer = {name: one for name, one in contract.schemas.items() if name != "frame.reduced.v1"}
    (found,) = breaks(contract, Contract(fewer, contract.asyncapi))
    assert (found.where, "the event was removed" in found.what) == ("frame.reduced.v1", True)


def test_the_next_major_version_may_replace_an_event_and_the_one_after_may_not(contract: Contract) -> None:
    def replaced_by(name: str) -> Contract:
        schemas = dict(contract.schemas)
        schemas[name] = {**schemas.pop("frame.reduced.v1"), "required": ["everything else"]}
        return Contract(schemas, contract.asyncapi)

    assert breaks(contract, replaced_by("frame.reduced.v2")) == []
    assert [one.where for one in breaks(contract, replaced_by("frame.reduced.v3"))] == ["frame.reduced.v1"]


@pytest.mark.parametrize("part", ["routing key", "exchange"])
def test_an_event_that_is_told_elsewhere_breaks_the_contract(contract: Contract, part: str) -> None:
    moved: Any = copy.deepcopy(contract.asyncapi)
    channel = moved["channels"]["frame.ready.v1"]
    if part == "exchange":
        channel["bindings"]["amqp"]["exchange"]["name"] = "iris.work"
    else:
        channel["address"] = "iris.calibrate.frame.ready.{detector}"
    (found,) = breaks(contract, Contract(contract.schemas, moved))
    assert (found.where, part in found.what) == ("frame.ready.v1", True)
