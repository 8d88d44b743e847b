"""JSON Schema (2020-12) of every event as it travels: the CloudEvents envelope with the data of that event."""

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from irisdrs.shared.events.envelope import Envelope
from irisdrs.shared.events.event import Event

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


def message_name(kind: type[Event]) -> str:
    """Name of an event's message: ``frame.ready.v1``."""
    return f"{kind.entity_verb}.v{kind.version}"


def message_schema(kind: type[Event]) -> Document:
    """JSON Schema of the messages that tell an event."""
    envelope = Envelope.model_json_schema(schema_generator=_TolerantSchema)
    data = kind.model_json_schema(schema_generator=_TolerantSchema)
    definitions = data.pop("$defs", {})
    return {
        "$schema": DIALECT,
        "$id": f"urn:{kind.cloud_type()}",
        "title": kind.__name__,
        "description": data["description"],
        "type": "object",
        "properties": envelope["properties"] | {"type": _is(envelope["properties"]["type"], kind), "data": data},
        "required": envelope["required"],
        "$defs": definitions,
    }


def _is(schema: Document, kind: type[Event]) -> Document:
    return schema | {"const": kind.cloud_type()}
