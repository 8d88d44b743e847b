"""Versions of events: what readers forgive, and how a major version reads the one before."""

import json
from datetime import UTC, date, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from irisdrs.archive.reconciliation.announcements import plan_at
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.port import ParkingReason
from irisdrs.shared.bus.topology import QUEUES, readout_queue
from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.dead_letters.letters import Selection
from irisdrs.shared.dead_letters.office import DeadLetters
from irisdrs.shared.errors import BadMessage, CorruptObject
from irisdrs.shared.events import (
    Event,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    ObservationStarted,
    ReadWritten,
    decode,
    encode,
)
from irisdrs.shared.events.metadata import from_metadata, to_metadata
from irisdrs.shared.events.registry import EVENT_TYPES, READERS, readers_of
from irisdrs.shared.events.sampled import Sampled
from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.keys import exposure_prefix, fact_key, observation_key
from irisdrs.shared.store.port import JSON, StoredObject
from irisdrs.shared.testing.bus_contract import next_of
from irisdrs.shared.testing.replay import replay

PLANNED = next(event for event in EXAMPLES if isinstance(event, ObservationStarted))
FRAME = next(event for event in EXAMPLES if isinstance(event, FrameReady))
READ = next(event for event in EXAMPLES if isinstance(event, ReadWritten))


class DomeMoved(Event):
    """Version 1: an angle in degrees, about an opening that is counted."""

    entity_verb = "dome.moved"
    area = "test"

    opening: int
    angle_deg: float

    @property
    def subject(self) -> str:
        return str(self.opening)


class DomeMoved2(DomeMoved):
    """Version 2: two angles, and the night belongs to the subject."""

    version = 2

    angle_deg: tuple[float, float]  # type: ignore[assignment]
    night: date = date(2034, 8, 1)

    @classmethod
    def from_previous(cls, data: dict[str, object]) -> dict[str, object]:
        return data | {"angle_deg": [data["angle_deg"], 0.0]}

    @property
    def subject(self) -> str:
        return f"{self.night}/{self.opening}"


class DomeMoved3(DomeMoved2):
    """Version 3."""

    version = 3

    @classmethod
    def from_previous(cls, data: dict[str, object]) -> dict[str, object]:
        return data


NEW_READERS = readers_of([DomeMoved2])


def told(event: Event, **changes: object) -> bytes:
    """A message, with some of its attributes changed."""
    return json.dumps(json.loads(encode(event, "test")) | changes).encode()


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: event.told_as)
def test_fields_of_a_newer_minor_version_are_ignored_at_every_depth(event: Event) -> None:
    def enrich(part: object) -> object:
        if isinstance(part, list):
            return [enrich(one) for one in part]
        if not isinstance(part, dict):
            return part
        return {name: enrich(value) for name, value in part.items()} | {"newer": {"a": [1]}}

    message = json.loads(encode(event, "test"))
    free = {"references", "step_versions", "quality"}  # names of these are data, not fields
    kept = {name: value for name, value in message["data"].items() if name in free}
    message["data"] = enrich(message["data"]) | kept  # type: ignore[operator]
    envelope, read = decode(json.dumps(message | {"newerextension": "x"}).encode())
    assert read == event
    assert envelope.id == event.event_id
    assert not hasattr(envelope, "newerextension")


def test_building_an_event_refuses_unknown_fields_at_every_depth() -> None:
    facts: Any = PLANNED.model_dump(mode="json")
    with pytest.raises(ValidationError, match="newer"):
        ObservationStarted.model_validate(facts | {"newer": 1})
    with pytest.raises(ValidationError, match=r"plan\.sampling\.newer"):
        facts["plan"]["sampling"]["newer"] = 1
        ObservationStarted.model_validate_json(json.dumps(facts))


def test_a_known_field_that_does_not_fit_is_refused_all_the_same() -> None:
    data = json.loads(encode(FRAME, "test"))["data"]
    with pytest.raises(BadMessage, match="reads_used"):
        decode(told(FRAME, data=data | {"reads_used": -1, "newer": 1}))
    with pytest.raises(BadMessage, match="specversion"):
        decode(told(FRAME, specversion="2.0"))


def test_objects_of_a_newer_minor_version_are_announced() -> None:
    metadata = to_metadata(FRAME.model_dump(mode="json") | {"newer": {"a": 1}})
    assert from_metadata(FrameReady, StoredObject(FRAME.object, metadata)) == FRAME


async def test_the_edges_marks_of_a_newer_minor_version_are_told_again(tmp_path: Any) -> None:
    store = DirectoryStore(tmp_path)
    plan = PLANNED.plan.model_dump(mode="json")
    richer = plan | {"observer": "nobody", "sampling": plan["sampling"] | {"newer": 1}}
    key = observation_key(PLANNED.plan.night, PLANNED.plan.observation)
    await store.put(key, json.dumps(richer).encode(), media_type=JSON)
    (key,) = await store.keys("observations/")
    found = await plan_at(store, key)
    assert [event async for event in replay(store, found)] == [PLANNED]


def test_every_event_is_read_in_its_version_and_the_one_before() -> None:
    assert set(READERS.values()) == set(EVENT_TYPES.values())
    assert all(kind.version == 1 for kind in EVENT_TYPES.values()) == (READERS == EVENT_TYPES)
    assert {name.rpartition(".")[2] for name in readers_of([DomeMoved3])} == {"v2", "v3"}


def test_the_version_before_is_read_as_this_one_under_the_id_that_it_was_told_with() -> None:
    envelope, event = decode(encode(DomeMoved(opening=7, angle_deg=30.0), "test"), NEW_READERS)
    assert event == DomeMoved2(opening=7, angle_deg=(30.0, 0.0))
    assert envelope.type.endswith(".v1")
    assert envelope.id != event.event_id
    again = DomeMoved2(opening=7, angle_deg=(30.0, 1.0))
    assert decode(encode(again, "test"), NEW_READERS)[1] == again


def test_the_version_before_keeps_the_check_of_its_id() -> None:
    message = told(DomeMoved(opening=7, angle_deg=30.0), subject="8")
    with pytest.raises(BadMessage, match="the id is not the one"):
        decode(message, NEW_READERS)


def test_data_that_are_not_of_the_version_before_are_refused() -> None:
    message = told(DomeMoved(opening=7, angle_deg=30.0), data={"opening": 7})
    with pytest.raises(BadMessage, match="angle_deg"):
        decode(message, NEW_READERS)


def test_a_later_version_is_refused_with_the_remedy() -> None:
    message = encode(DomeMoved3(opening=7, angle_deg=(30.0, 0.0)), "test")
    with pytest.raises(BadMessage, match="reads up to version 2") as refused:
        decode(message, NEW_READERS)
    assert "Upgrade this service, then re-drive" in refused.value.remedy


def test_a_version_before_the_one_before_is_refused_with_the_remedy() -> None:
    message = encode(DomeMoved(opening=7, angle_deg=30.0), "test")
    with pytest.raises(BadMessage, match="reads no version before 2") as refused:
        decode(message, readers_of([DomeMoved3]))
    assert "the release before" in refused.value.remedy


def test_an_event_that_nobody_knows_is_refused() -> None:
    with pytest.raises(BadMessage, match="Unknown event type"):
        decode(encode(DomeMoved(opening=7, angle_deg=30.0), "test"))


def test_what_lies_in_the_store_is_read_as_this_version_or_as_the_one_before() -> None:
    new = DomeMoved2(opening=7, angle_deg=(30.0, 0.0))
    assert DomeMoved2.at_rest({"opening": 7, "angle_deg": 30.0}) == new
    assert DomeMoved2.at_rest({"opening": 7, "angle_deg": [30.0, 0.0]}) == new
    with pytest.raises(ValidationError):
        DomeMoved.at_rest({"opening": 7})


def test_an_object_of_neither_version_is_damaged() -> None:
    with pytest.raises(CorruptObject):
        from_metadata(DomeMoved2, StoredObject(FRAME.object, {"opening": "7"}))


def test_a_version_that_does_not_say_how_to_read_the_one_before_is_no_version() -> None:
    class Forgetful(DomeMoved):
        version = 2

    with pytest.raises(TypeError, match="no from_previous of its own"):
        readers_of([Forgetful])
    with pytest.raises(TypeError, match=r"another class read .*dome\.moved\.v1"):
        readers_of([DomeMoved, DomeMoved2])


def test_the_time_of_an_event_is_told_in_both_scales() -> None:
    envelope, _ = decode(encode(READ, "test"))
    told_tai = datetime.fromisoformat(envelope.timetai).replace(tzinfo=UTC)
    assert (told_tai - envelope.time).total_seconds() == 37


def of_the_release(part: Any) -> Any:
    """Facts as the release wrote them: it knew no groups of reads."""
    if isinstance(part, list):
        return [of_the_release(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {name: of_the_release(value) for name, value in part.items() if name != "group_reads"}


def as_version_2(event: Event) -> bytes:
    """As a later release tells it that tells no version 1 any more."""
    later = event.cloud_type(2)
    return told(event, type=later, id=event.id_of(later, event.subject))


SAMPLED = [event for event in EXAMPLES if isinstance(event, Sampled)]


def in_mode(event: FrameReady, mode: SamplingMode) -> FrameReady:
    return event.model_copy(update={"sampling_mode": mode})


def test_a_fact_is_told_as_the_oldest_version_that_can_say_it() -> None:
    told_as = {mode: in_mode(FRAME, mode).told_version for mode in SamplingMode}
    assert told_as == {
        SamplingMode.SINGLE: 2,
        SamplingMode.CDS: 1,
        SamplingMode.MCDS: 2,
        SamplingMode.UTR: 1,
    }
    for event in SAMPLED:
        message = json.loads(encode(event, "test"))
        assert message["type"] == event.cloud_type(event.told_version)
        assert message["id"] == event.event_id == event.id_of(message["type"], event.subject)


@pytest.mark.parametrize("event", SAMPLED, ids=lambda event: event.told_as)
def test_one_fact_told_as_two_versions_is_one_event(event: Event) -> None:
    envelope, read = decode(as_version_2(event))
    assert envelope.type.endswith(".v2")
    assert read == decode(encode(event, "test"))[1] == event
    assert read.event_id == event.event_id


@pytest.mark.parametrize("event", SAMPLED, ids=lambda event: event.told_as)
def test_version_1_does_not_say_what_only_version_2_can(event: Event) -> None:
    first = event.cloud_type(1)
    message = told(event, type=first, id=event.id_of(first, event.subject))
    if event.told_version == 1:
        assert decode(message)[1] == event
    else:
        with pytest.raises(BadMessage, match=r"says what only .*\.v2 can say"):
            decode(message)


@pytest.mark.parametrize("event", [event for event in SAMPLED if event.told_version == 1], ids=lambda one: one.told_as)
def test_what_the_release_told_and_stored_is_read_as_the_same_fact(event: Event) -> None:
    facts = of_the_release(event.model_dump(mode="json"))
    assert "group_reads" not in json.dumps(facts)
    assert decode(told(event, data=facts))[1] == event
    assert type(event).at_rest(facts) == event
    if event.announces:
        assert from_metadata(type(event), StoredObject(event.announces, to_metadata(facts))) == event


async def test_an_observation_that_the_release_stored_is_told_again_under_the_same_ids(tmp_path: Any) -> None:
    store = DirectoryStore(tmp_path)
    plan, (exposure, *_) = PLANNED.plan, PLANNED.plan.exposure_ids()
    started = next(event for event in EXAMPLES if isinstance(event, ExposureStarted))
    ended = next(event for event in EXAMPLES if isinstance(event, ExposureEnded))
    for key, facts in (
        (observation_key(plan.night, plan.observation), plan),
        (fact_key(plan.night, exposure, "started"), started),
        (fact_key(plan.night, exposure, "ended"), ended),
    ):
        await store.put(key, json.dumps(of_the_release(facts.model_dump(mode="json"))).encode(), media_type=JSON)
    metadata = to_metadata(of_the_release(READ.model_dump(mode="json")))
    put = await store.put(f"{exposure_prefix(plan.night, exposure)}0001/00008-a.fits", b"a read", metadata=metadata)
    (key,) = await store.keys("observations/")
    again = [event async for event in replay(store, await plan_at(store, key))]
    assert again == [PLANNED, started, READ.model_copy(update={"object": put.stored.ref}), ended]
    assert [event.told_version for event in again] == [1, 1, 1, 1]
    assert [event.event_id for event in again[:2]] == [PLANNED.event_id, started.event_id]


async def test_copies_of_a_fact_in_two_versions_are_one_dead_letter_that_nobody_announces_again(tmp_path: Any) -> None:
    bus = MemoryBus()
    office = DeadLetters(bus, DirectoryStore(tmp_path), QUEUES)
    queue = next(queue for queue in QUEUES if queue.name == readout_queue(Detector.IMG1))
    for body in (encode(READ, "edge"), as_version_2(READ)):
        await bus.publish(READ.routing_key, body, mandatory=True)
        async with bus.consume(queue) as deliveries:
            await (await next_of(deliveries)).park(ParkingReason("CorruptObject", "truncated"))
    (letter,) = await office.waiting(Selection(type="ReadWritten"))
    assert await office.held() == {READ.event_id} == {letter.event_id}
    await office.discard([letter.id], "ada", "it is damaged")
    assert await bus.parked(queue) == []
    assert await office.held() == {READ.event_id}
    bus.close()
