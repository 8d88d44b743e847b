"""Services of several versions on one bus: the release before, this one, a newer one that only adds, and a stranger."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from irisdrs.shared.bus.dispatch import Dispatcher
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.port import Bus
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import ARCHIVE, QUEUES
from irisdrs.shared.contract import files
from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.contract.schemas import Document, message_name
from irisdrs.shared.events import Event, ExposedEvent, ExposureEvent, FrameReduced, ReadWritten, decode, encode
from irisdrs.shared.events.registry import readers_of
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Facts
from irisdrs.shared.service import Service
from irisdrs.shared.store.port import ObjectRef

QUEUE = next(queue for queue in QUEUES if queue.name == ARCHIVE)
RELEASED = files.read(Path(__file__).parents[2] / "shared" / "contract" / files.RELEASED)
SOON_S = 60.0

#: Exposures of each event that each version tells.
EXPOSURES = range(100, 110)


@pytest.fixture(params=["memory", "rabbitmq"])
async def bus(request: pytest.FixtureRequest) -> AsyncIterator[Bus]:
    if request.param == "memory":
        memory = MemoryBus((QUEUE,))
        yield memory
        memory.close()
    else:
        rabbitmq = RabbitMQBus(request.getfixturevalue("amqp_url"), queues=(QUEUE,))
        await rabbitmq.open()
        yield rabbitmq
        await rabbitmq.close()


def events() -> list[Event]:
    """What the archive takes: the example of each event, of several exposures."""
    taken = [event for event in EXAMPLES if type(event) in QUEUE.takes]
    assert {type(event) for event in taken} == set(QUEUE.takes)
    of_exposures = [event for event in taken if isinstance(event, ExposureEvent)]
    return taken + [event.model_copy(update={"exposure": n}) for event in of_exposures for n in EXPOSURES]


def name_of(event: Event) -> str:
    """Name of the message that tells an event."""
    return message_name(type(event), event.told_version)


def of_this_version(event: Event) -> bytes:
    return encode(event, "test")


def of_the_release_before(event: Event) -> bytes:
    """As a service of the last release tells it: with the fields of the frozen schema, and no others."""
    schema: Any = RELEASED.schemas[name_of(event)]
    return json.dumps(_only(json.loads(encode(event, "test")), schema, schema["$defs"])).encode()


def _only(value: Any, schema: Any, definitions: Document) -> Any:
    if "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in schema:
        fields = schema["properties"]
        return {name: _only(one, fields[name], definitions) for name, one in value.items() if name in fields}
    if isinstance(value, list) and "items" in schema:
        return [_only(one, schema["items"], definitions) for one in value]
    return value


def of_the_next_minor_version(event: Event) -> bytes:
    """With one more field in the envelope, in the data and in what they hold."""
    message = json.loads(encode(event, "test"))
    message["data"] |= {"newer": 1.5}
    for name in ("plan", "sampling", "object"):
        if name in message["data"]:
            message["data"][name] |= {"newer": ["x"]}
    return json.dumps(message | {"newerextension": "x"}).encode()


def of_the_next_major_version(event: Event) -> bytes:
    """What no service of this version can read."""
    message = json.loads(encode(event, "test"))
    message["type"] = event.cloud_type(event.version + 1)
    message["id"] = event.id_of(message["type"], event.subject)
    return json.dumps(message).encode()


@asynccontextmanager
async def archive(bus: Bus, handled: list[Event], **options: Any) -> AsyncIterator[None]:
    """A service that takes note of what it is given."""

    async def handle(event: Event) -> Sequence[Event]:
        handled.append(event)
        return []

    readers = options.get("readers")
    kinds = set(readers.values()) if readers else QUEUE.takes
    dispatcher = Dispatcher(bus, Service("archive", {ARCHIVE: dict.fromkeys(kinds, handle)}), **options)
    running = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        dispatcher.stop()
        await asyncio.wait_for(running, SOON_S)


async def all_told(handled: list[Event], expected: int) -> None:
    async with asyncio.timeout(SOON_S):
        while len(handled) < expected:
            await asyncio.sleep(0.01)


async def tell(bus: Bus, messages: Sequence[tuple[Event, Callable[[Event], bytes]]]) -> None:
    for event, told in messages:
        await bus.publish(event.routing_key, told(event), mandatory=True)


async def test_three_versions_are_handled_and_the_future_is_parked(bus: Bus) -> None:
    facts = events()
    versions = (of_the_release_before, of_this_version, of_the_next_minor_version)
    messages = [
        (event, told)
        for event in facts
        for told in versions
        if told is not of_the_release_before or name_of(event) in RELEASED.schemas
    ]
    assert len(messages) == 3 * len(facts) - sum(event.told_version == 2 for event in facts)
    future = [(event, of_the_next_major_version) for event in facts[:3]]
    shuffled = [*messages, *future]
    random.Random(20340801).shuffle(shuffled)
    handled: list[Event] = []
    async with archive(bus, handled):
        await tell(bus, shuffled)
        await all_told(handled, len(messages))
        async with asyncio.timeout(SOON_S):
            while len(parked := await bus.parked(QUEUE)) < len(future):
                await asyncio.sleep(0.01)
    assert _facts(handled) == _facts([event for event, _ in messages])
    assert {json.loads(one.body)["subject"] for one in parked} == {event.subject for event, _ in future}
    assert len(parked) == len(future)
    for one in parked:
        assert one.reason.error_class == "BadMessage"
        assert "this service reads up to version 2" in one.reason.message
        assert "Upgrade this service, then re-drive" in one.reason.message


def _facts(told: Sequence[Event]) -> list[str]:
    return sorted(event.model_dump_json() for event in told)


class FrameReduced2(FrameReduced):
    """A next major version: says when the budget ends instead of when it begins."""

    version = 2

    photons_end: None = None  # type: ignore[assignment]
    reduced_by: datetime

    @classmethod
    def from_previous(cls, data: dict[str, Any]) -> dict[str, Any]:
        began = datetime.fromisoformat(str(data["photons_end"]))
        rest = {name: value for name, value in data.items() if name != "photons_end"}
        return rest | {"reduced_by": (began + timedelta(seconds=30)).isoformat()}


async def test_a_service_of_the_next_major_version_takes_both(bus: Bus) -> None:
    old = next(event for event in EXAMPLES if isinstance(event, FrameReduced))
    facts = old.model_dump() | {"photons_end": None, "reduced_by": datetime(2034, 8, 1, 5, 30, 42, 250_000, UTC)}
    new = FrameReduced2.model_validate(facts)
    handled: list[Event] = []
    async with archive(bus, handled, readers=readers_of([FrameReduced2])):
        await tell(bus, [(old, of_the_release_before), (new, of_this_version), (old, of_the_next_minor_version)])
        await all_told(handled, 3)
    assert handled == [new, new, new]
    assert await bus.parked(QUEUE) == []


class ReleasedMode(StrEnum):
    """The sampling modes of the release."""

    CDS = "CDS"
    UTR = "UTR"


class ReleasedSampling(Facts):
    """How an exposure is read out, as the release knows it."""

    mode: ReleasedMode
    reads: int
    ramps: int
    read_time_s: float
    shape: tuple[int, int]


class ReleasedRead(ExposedEvent):
    """`ReadWritten` of the release."""

    entity_verb = "read.written"
    area = "readout"

    ramp: int
    read: int
    read_time_s: float
    sampling: ReleasedSampling
    object: ObjectRef

    @property
    def subject(self) -> str:
        return f"{self.exposure_id}/{self.ramp:04d}/{self.read:05d}"


@pytest.mark.parametrize("event", [event for event in EXAMPLES if event.told_version == 1], ids=name_of)
def test_the_release_before_understands_whatever_it_could_have_said_itself(event: Event) -> None:
    message = json.loads(of_this_version(event))
    jsonschema.validate(message, RELEASED.schemas[name_of(event)], jsonschema.Draft202012Validator)
    known: Any = RELEASED.asyncapi["components"]
    assert message["id"] == known["messages"][name_of(event)]["examples"][0]["payload"]["id"]


async def test_a_service_of_the_release_before_parks_only_the_modes_that_it_does_not_know(bus: Bus) -> None:
    known, new = (event for event in EXAMPLES if isinstance(event, ReadWritten))
    assert (known.sampling.mode, new.sampling.mode) == (SamplingMode.UTR, SamplingMode.MCDS)
    handled: list[Event] = []
    async with archive(bus, handled, readers=readers_of([ReleasedRead])):
        await tell(bus, [(new, of_this_version), (known, of_this_version), (known, of_the_release_before)])
        await all_told(handled, 2)
        async with asyncio.timeout(SOON_S):
            while not (parked := await bus.parked(QUEUE)):
                await asyncio.sleep(0.01)
    assert [event.event_id for event in handled] == [known.event_id] * 2
    (letter,) = parked
    assert "this service reads up to version 1" in letter.reason.message
    assert "Upgrade this service, then re-drive" in letter.reason.message
    assert decode(letter.body)[1] == new, "the upgraded service reads it"
