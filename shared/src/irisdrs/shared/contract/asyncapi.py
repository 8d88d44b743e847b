"""The AsyncAPI 3.0 document: which service sends and receives which messages, on which exchanges and queues.

Source: AsyncAPI 3.0.0, and its AMQP bindings 0.3.0.
"""

from collections.abc import Iterator
from importlib import metadata

from irisdrs.shared.bus.declarations import EXCHANGES
from irisdrs.shared.bus.topology import PRODUCERS, QUEUES, Queue, binding_key, exchange_of
from irisdrs.shared.contract.examples import example_message
from irisdrs.shared.contract.schemas import SCHEMA_FORMAT, Document, message_name, told
from irisdrs.shared.events.envelope import CONTENT_TYPE
from irisdrs.shared.events.event import Event, ExposureEvent
from irisdrs.shared.events.facts import ProcessingFailed
from irisdrs.shared.identifiers import Detector

#: Folder of the schemas, beside the document.
SCHEMAS = "schemas"

_BINDING = "0.3.0"

_DETECTOR: Document = {"description": "Detector", "enum": [str(detector) for detector in Detector]}
_SERVICE: Document = {
    "description": "Service whose handler failed",
    "enum": sorted({queue.service for queue in QUEUES}),
}


def document() -> Document:
    """The whole document; its messages refer to the JSON Schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "IRIS Data Reduction System",
            "version": metadata.version("irisdrs-shared"),
            "description": "Facts and jobs on the bus. Pixels travel through the object store only.",
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": {
            "broker": {
                "host": "{broker}",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "RabbitMQ, as IRIS_AMQP_URL names it",
                "variables": {"broker": {"default": "localhost:5672", "description": "Host and port"}},
                "security": [{"$ref": "#/components/securitySchemes/login"}],
            }
        },
        "channels": dict(_event_channels()) | dict(_queue_channels()),
        "operations": dict(_sends()) | dict(_receives()),
        "components": {
            "messages": {message_name(*each): _message(*each) for each in told(PRODUCERS)},
            "securitySchemes": {"login": {"type": "userPassword"}},
        },
    }


def _message(kind: type[Event], version: int) -> Document:
    name = message_name(kind, version)
    return {
        "name": kind.cloud_type(version),
        "title": kind.__name__,
        "summary": (kind.__doc__ or "").strip().partition("\n")[0],
        "contentType": CONTENT_TYPE,
        "payload": {"schemaFormat": SCHEMA_FORMAT, "schema": {"$ref": f"./{SCHEMAS}/{name}.json"}},
        "examples": [{"name": kind.__name__, "payload": example_message(kind, version)}],
    }


def _event_channels() -> Iterator[tuple[str, Document]]:
    """Where events are told: a routing key of an exchange each; versions of one event share it."""
    for kind, version in told(PRODUCERS):
        exchange = exchange_of(binding_key(kind))
        address, parameters = kind.topic(), dict[str, Document]()
        if issubclass(kind, ExposureEvent):
            address, parameters = f"{address}.{{detector}}", {"detector": _DETECTOR}
        elif kind is ProcessingFailed:
            address, parameters = "iris.{service}.processing.failed", {"service": _SERVICE}
        yield (
            message_name(kind, version),
            {
                "address": address,
                "title": kind.__name__,
                **({"parameters": parameters} if parameters else {}),
                "messages": _channel_messages(message_name(kind, version)),
                "bindings": {
                    "amqp": {
                        "is": "routingKey",
                        "exchange": {
                            "name": exchange,
                            "type": EXCHANGES[exchange],
                            "durable": True,
                            "autoDelete": False,
                        },
                        "bindingVersion": _BINDING,
                    }
                },
            },
        )


def _queue_channels() -> Iterator[tuple[str, Document]]:
    """Where events are taken."""
    for queue in QUEUES:
        yield (
            queue.name,
            {
                "address": queue.name,
                "title": f"What {queue.service} takes" + (f" of {queue.detector}" if queue.detector else ""),
                "messages": _channel_messages(*_names(queue)),
                "bindings": {
                    "amqp": {
                        "is": "queue",
                        "queue": {"name": queue.name, "durable": True, "exclusive": False, "autoDelete": False},
                        "bindingVersion": _BINDING,
                    }
                },
            },
        )


def _sends() -> Iterator[tuple[str, Document]]:
    for kind, version in told(PRODUCERS):
        name = message_name(kind, version)
        for producer in PRODUCERS[kind]:
            yield (
                f"{producer}.tells.{name}",
                _operation("send", name, producer, name)
                | {
                    "bindings": {
                        "amqp": {"deliveryMode": 2, "mandatory": kind.mandatory, "bindingVersion": _BINDING},
                    }
                },
            )


def _receives() -> Iterator[tuple[str, Document]]:
    for queue in QUEUES:
        yield (
            f"{queue.service}.takes.{queue.name}",
            _operation("receive", queue.name, queue.service, *_names(queue))
            | {"bindings": {"amqp": {"ack": True, "bindingVersion": _BINDING}}, "x-iris": _how(queue)},
        )


def _names(queue: Queue) -> Iterator[str]:
    """Names of the messages that a queue takes."""
    return (message_name(*each) for each in told(queue.takes))


def _operation(action: str, channel: str, service: str, *messages: str) -> Document:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel}"},
        "tags": [{"name": service}],
        "messages": [{"$ref": f"#/channels/{channel}/messages/{name}"} for name in messages],
    }


def _channel_messages(*messages: str) -> Document:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in messages}


def _how(queue: Queue) -> Document:
    return {"lane": queue.lane, "prefetch": queue.prefetch, "single_active": queue.single_active}
