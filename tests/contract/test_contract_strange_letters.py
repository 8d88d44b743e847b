"""Dead letters that nobody of this system has written: each is listed, and none stands in the way of the others."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aio_pika
import httpx
import pytest
from aio_pika.abc import HeadersType
from fastapi import FastAPI
from tests.contract.test_contract_dead_letters import ALL, BROKEN, IMG1, USED, park, read, take

from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.dead_letters.letters import Action, Decision
from irisdrs.shared.dead_letters.office import PREFIX, DeadLetters
from irisdrs.shared.dead_letters.web import dead_letter_routes
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events import decode, encode
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import JSON


def changed(**fields: object) -> bytes:
    """The telling of a read with other fields in its envelope."""
    return json.dumps({**json.loads(encode(read(1), "edge")), **fields}).encode()


#: Texts by what is strange about them.
STRANGE = {
    "an endless version": changed(type="org.tmt.iris.drs.frame.ready.v" + "9" * 5000),
    "digits that are none": changed(type="org.tmt.iris.drs.frame.ready.v²"),
    "an endless number": changed(data={"ramp": 0}).replace(b'"ramp": 0', b'"ramp": ' + b"9" * 5000),
    "deep data": changed(data={"ramp": 0}).replace(b'"ramp": 0', b'"ramp": ' + b"[" * 190 + b"]" * 190),
    "no number": changed(data={"ramp": 0}).replace(b'"ramp": 0', b'"ramp": NaN'),
    "half a surrogate pair": changed(subject="\ud800", id="\udfff", correlationid="\ud800", type="\ud800"),
    "a surrogate and nothing else": b'{"subject":"\\ud800"}',
    "control characters": changed(subject="\x1b[2J\x00", type="\x07"),
    "a mark at its beginning": b"\xef\xbb\xbf{}",
}


@pytest.fixture
async def bus() -> AsyncIterator[MemoryBus]:
    bus = MemoryBus()
    yield bus
    bus.close()


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE.keys())
def test_a_strange_message_is_a_bad_one(body: bytes) -> None:
    with pytest.raises(BadMessage):
        decode(body)


@pytest.mark.parametrize("body", STRANGE.values(), ids=STRANGE.keys())
async def test_a_strange_letter_hinders_no_other(bus: MemoryBus, tmp_path: Path, body: bytes) -> None:
    office = DeadLetters(bus, DirectoryStore(tmp_path), USED)
    await park(bus, body, BROKEN, IMG1)
    await park(bus, encode(read(2), "edge"), BROKEN, IMG1)
    letters = await office.waiting(ALL)
    assert len(letters) == 2
    assert read(2).event_id in await office.held()
    ids = [letter.id for letter in letters]
    assert (await office.redrive(ids, "ada")).moved == ids
    assert (await take(bus, IMG1, 2))[0] == body
    await park(bus, body, BROKEN, IMG1)
    (again,) = await office.waiting(ALL)
    await office.discard([again.id], "ada", "strange")
    for decision in await office.decided(ALL):
        assert Decision.model_validate_json(decision.model_dump_json()) == decision
    assert {decision.letter.id for decision in await office.decided(ALL)} == {*ids, again.id}


async def test_half_a_surrogate_pair_is_shown_escaped(bus: MemoryBus, tmp_path: Path) -> None:
    await park(bus, STRANGE["half a surrogate pair"], BROKEN, IMG1)
    (letter,) = await DeadLetters(bus, DirectoryStore(tmp_path), USED).waiting(ALL)
    assert (letter.subject, letter.event_id) == (r"\ud800", r"\udfff")


async def test_a_discard_counts_though_an_earlier_clock_was_fast(bus: MemoryBus, tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    office = DeadLetters(bus, store, USED)
    await park(bus, encode(read(1), "edge"), BROKEN, IMG1)
    (letter,) = await office.waiting(ALL)
    soon = datetime.now(UTC) + timedelta(minutes=5)
    redriven = Decision(action=Action.REDRIVE, by="ada", at=soon, reason="", letter=letter)
    other = redriven.model_copy(update={"letter": letter.model_copy(update={"id": "0" * 12})})  # parked before
    for decision in (redriven, other):
        key = f"{PREFIX}{decision.letter.id}-001.json"
        await store.put(key, decision.model_dump_json().encode(), media_type=JSON)
    await office.discard([letter.id], "grace", "hopeless")
    assert read(1).event_id in await office.held()
    decided = {one.letter.id: one for one in await office.decided(ALL)}
    assert (decided[letter.id].by, decided[letter.id].at) == ("grace", soon + timedelta(microseconds=1))
    assert [one.by for one in (await office.show(letter.id)).decisions] == ["ada", "grace"]


async def test_a_time_without_a_zone_is_utc(bus: MemoryBus, tmp_path: Path) -> None:
    app = FastAPI()
    app.include_router(dead_letter_routes(DeadLetters(bus, DirectoryStore(tmp_path), USED)))
    await park(bus, b"{}", BROKEN, IMG1)
    far = "9999-12-31T23:59:59-23:59"
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://iris") as client:
        for query, found in {"since=2026-01-01": 1, "until=2026-01-01T00:00:00": 0, f"until={far}": 1}.items():
            answer = await client.get(f"/bus/dead-letters?{query}")
            assert (answer.status_code, len(answer.json())) == (200, found)
            assert (await client.get(f"/bus/dead-letters/decided?{query}")).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"x-death": "foo"},
        {"x-death": [1]},
        {"x-death": []},
        {"x-death": {"reason": "rejected"}},
        {"x-death": [{"time": "noon", "reason": 7}]},
        {"x-iris-error-class": ["a"], "x-iris-attempt": "many"},
        {"x-iris-error-class": "X", "x-iris-parked-at": "0001-01-01T00:00:00+23:59"},
    ],
)
async def test_what_came_into_the_parking_by_hand_is_listed(
    amqp_url: str, tmp_path: Path, headers: HeadersType
) -> None:
    bus = RabbitMQBus(amqp_url, queues=USED)
    try:
        await bus.open()
        await park(bus, encode(read(1), "edge"), BROKEN, IMG1)
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            message = aio_pika.Message(b"{}", headers=headers, delivery_mode=2)
            await channel.default_exchange.publish(message, routing_key=IMG1.parking)
        office = DeadLetters(bus, DirectoryStore(tmp_path), USED)
        letters = await office.waiting(ALL)
        assert sorted(letter.event_type for letter in letters) == ["", read(1).told_as]
        moved = await office.discard([letter.id for letter in letters], "ada", "strange")
        assert len(moved.moved) == 2
    finally:
        await bus.close()
