"""JSON Schema (2020-12) of every event as it travels: the CloudEvents envelope with the data of that event."""

from collections.abc import Iterable, Iterator

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from irisdrs.shared.events.envelope import Envelope
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.sampled import VERSION_1_MODES, Sampled
from irisdrs.shared.identifiers import SamplingMode

#: A JSON document.
Document = dict[str, object]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

#: How AsyncAPI names the dialect.
SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"


class _TolerantSchema(GenerateJsonSchema):
    """The schema that readers go by: unknown fields do no harm, whatever the classes say to who builds them."""

    def generate(self, schema: object, mode: JsonSchemaMode = "validation") -> JsonSchemaValue:
        made = super().generate(schema, mode)  # type: ignore[arg-type]
        for part in (made, *made.get("$defs", {}).values()):
            if part.get("additionalProperties") is False:
                del part["additionalProperties"]
        return made

    def field_title_should_be_set(self, schema: object) -> bool:
        return False  # it would repeat the field's name


def told(kinds: Iterable[type[Event]]) -> Iterator[tuple[type[Event], int]]:
    """Events with each of the versions that they are told as: a message each."""
    for kind in kinds:
        for version in kind.told_versions():
            yield kind, version


def message_name(kind: type[Event], version: int | None = None) -> str:
    """Name of an event's message, of this version or of another: ``frame.ready.v1``."""
    return f"{kind.entity_verb}.v{version or kind.version}"


def message_schema(kind: type[Event], version: int | None = None) -> Document:
    """JSON Schema of the messages that tell an event, as this version or as another one that it is told as."""
    envelope = Envelope.model_json_schema(schema_generator=_TolerantSchema)
    data = kind.model_json_schema(schema_generator=_TolerantSchema)
    definitions = data.pop("$defs", {})
    if version == 1 and issubclass(kind, Sampled):
        definitions[SamplingMode.__name__]["enum"] = [str(mode) for mode in VERSION_1_MODES]
    cloud_type = kind.cloud_type(version)
    return {
        "$schema": DIALECT,
        "$id": f"urn:{cloud_type}",
        "title": kind.__name__,
        "description": data["description"],
        "type": "object",
        "properties": envelope["properties"] | {"type": _is(envelope["properties"]["type"], cloud_type), "data": data},
        "required": envelope["required"],
        "$defs": definitions,
    }


def _is(schema: Document, cloud_type: str) -> Document:
    return schema | {"const": cloud_type}
