"""Dead letters at the bus and the store, and over HTTP, do the same."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from irisdrs.shared import crash_points
from irisdrs.shared.bus.memory import MemoryBus
from irisdrs.shared.bus.port import Bus, ParkingReason
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.bus.topology import ARCHIVE, QUEUES, Queue, readout_queue
from irisdrs.shared.dead_letters.client import HttpDeadLetters
from irisdrs.shared.dead_letters.letters import Action, DeadLetterOffice, NoReason, NoSuchLetter, Selection, the_one
from irisdrs.shared.dead_letters.office import PREFIX, DeadLetters
from irisdrs.shared.dead_letters.web import dead_letter_routes
from irisdrs.shared.errors import Outage
from irisdrs.shared.events import ExposureAborted, ReadWritten, encode
from irisdrs.shared.identifiers import Detector, ExposureType, SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import JSON, ObjectRef
from irisdrs.shared.testing.bus_contract import next_of

IMG1 = next(queue for queue in QUEUES if queue.name == readout_queue(Detector.IMG1))
BOTH = next(queue for queue in QUEUES if queue.name == ARCHIVE)
USED = (IMG1, BOTH)
ALL = Selection()
BROKEN = ParkingReason("CorruptObject", "truncated", "Traceback: line 1")
LOST = ParkingReason("MissingReference", "no flat", "Traceback: line 2")


def read(number: int) -> ReadWritten:
    """A read of an exposure."""
    return ReadWritten(
        observation="2034B-007-123",
        exposure_type=ExposureType.SCI,
        exposure=34,
        detector=Detector.IMG1,
        night=date(2034, 8, 1),
        photons_end=datetime(2034, 8, 1, 5, tzinfo=UTC),
        ramp=1,
        read=number,
        read_time_s=5.0 * number,
        sampling=Sampling(mode=SamplingMode.UTR, reads=8, ramps=1, read_time_s=5.0, shape=(64, 64)),
        object=ObjectRef(key=f"0/{number}.fits", sha256=f"{number:064x}", size=1),
    )


ABORTED = ExposureAborted(
    observation="2034B-007-123",
    exposure_type=ExposureType.SCI,
    exposure=34,
    detector=Detector.IMG1,
    night=date(2034, 8, 1),
    reason="clouds",
)


async def park(bus: Bus, body: bytes, reason: ParkingReason, *queues: Queue) -> None:
    """Tell something of a read and park it in some queues; those that are not named have handled it."""
    await bus.publish("iris.readout.read.written.IMG1", body, mandatory=True)
    for queue in USED:
        async with bus.consume(queue) as deliveries:
            delivery = await next_of(deliveries)
            await (delivery.park(reason) if queue in queues else delivery.ack())


async def take(bus: Bus, queue: Queue, number: int) -> list[bytes]:
    """Take so many messages of a queue."""
    async with bus.consume(queue) as deliveries:
        taken = []
        for _ in range(number):
            delivery = await next_of(deliveries)
            taken.append(delivery.body)
            await delivery.ack()
        return taken


class DeadLetterContract:
    """Contract of `irisdrs.shared.dead_letters.letters.DeadLetterOffice`."""

    async def test_lists_what_is_parked_by_queue_error_type_and_time(self, bus: Bus, office: DeadLetterOffice) -> None:
        start = datetime.now(UTC) - timedelta(seconds=2)
        await park(bus, encode(read(1), "edge"), BROKEN, IMG1, BOTH)
        await park(bus, encode(ABORTED, "edge"), LOST, BOTH)
        await park(bus, b"\xff no event", LOST, BOTH)

        async def select(**selection: object) -> list[tuple[str, str]]:
            letters = await office.waiting(Selection.model_validate(selection))
            return [(letter.queue, letter.subject) for letter in letters]

        one, two, aborted, unreadable = await select()
        assert (one[0], two[0], aborted[0], unreadable[0]) == (IMG1.name, BOTH.name, BOTH.name, BOTH.name)
        assert (one[1], aborted[1], unreadable[1]) == (read(1).subject, ABORTED.subject, "")
        assert await select(queue="readout.IMG1") == await select(queue=IMG1.name) == [one]
        assert await select(queue="archive") == [two, aborted, unreadable]
        assert await select(error="CorruptObject") == [one, two]
        assert await select(error="MissingReference", type="ExposureAborted") == [aborted]
        assert await select(type=read(1).told_as) == await select(type="read.written") == [one, two]
        assert await select(since=start) == await select(until=datetime.now(UTC)) == [one, two, aborted, unreadable]
        assert await select(since=datetime.now(UTC) + timedelta(seconds=1)) == await select(until=start) == []
        with pytest.raises(NoSuchLetter, match=r"no queue 'nowhere'.*iris\.q\.archive"):
            await select(queue="nowhere")

    async def test_shows_everything_of_a_letter(self, bus: Bus, office: DeadLetterOffice) -> None:
        body = encode(read(1), "edge")
        await park(bus, body, BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        found = await office.show(letter.id[:6])
        assert (found.letter, found.parked, found.decisions) == (letter, True, [])
        assert (letter.event_type, letter.event_id) == (read(1).told_as, read(1).event_id)
        assert (letter.correlation, letter.attempts, letter.encoding) == ("2034B-007-123", 1, "utf-8")
        assert (letter.error_class, letter.message, letter.traceback) == (
            "CorruptObject",
            "truncated",
            "Traceback: line 1",
        )
        assert letter.body.encode() == body
        for wrong in ("0" * 13, "no/such", ""):
            with pytest.raises(NoSuchLetter):
                await office.show(wrong)

    @pytest.mark.parametrize("body", [b"", b"\xff\x00", b"{}", b"[1]", b'{"type": 1, "id": null}', b"[" * 60_000])
    async def test_shows_and_redrives_what_nobody_can_read(
        self, bus: Bus, office: DeadLetterOffice, body: bytes
    ) -> None:
        await park(bus, body, BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        assert (letter.event_type, letter.subject, letter.event_id) == ("", "", "")
        assert (await office.show(letter.id)).letter == letter
        await office.redrive([letter.id], "ada")
        assert await take(bus, IMG1, 1) == [body]

    async def test_reads_what_it_can_of_another_version(self, bus: Bus, office: DeadLetterOffice) -> None:
        newer = {**json.loads(encode(read(1), "edge")), "type": "org.tmt.iris.drs.read.written.v9", "more": 1}
        await park(bus, json.dumps(newer).encode(), BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        assert (letter.event_type, letter.subject) == ("org.tmt.iris.drs.read.written.v9", read(1).subject)

    async def test_a_redriven_letter_goes_to_its_queue_and_is_remembered(
        self, bus: Bus, office: DeadLetterOffice
    ) -> None:
        await park(bus, b"1", BROKEN, IMG1, BOTH)
        await park(bus, b"2", BROKEN, IMG1)
        first, second, other = await office.waiting(ALL)
        answer = await office.redrive([first.id[:8], "0" * 13], "ada", "maborted")
        assert (answer.moved, answer.missing) == ([first.id], ["0" * 13])
        assert await office.waiting(ALL) == [second, other]
        assert await take(bus, IMG1, 1) == [b"1"]
        (decision,) = await office.decided(ALL)
        assert (decision.action, decision.by, decision.reason) == (Action.REDRIVE, "ada", "maborted")
        assert decision.letter == first
        assert (await office.show(first.id)).decisions == [decision]
        assert (await office.redrive([first.id], "ada")).missing == [first.id]

    async def test_a_discarded_letter_is_kept_in_the_store(self, bus: Bus, office: DeadLetterOffice) -> None:
        await park(bus, b"1", BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        with pytest.raises(NoReason):
            await office.discard([letter.id], "ada", " ")
        assert (await office.discard([letter.id], "ada", "a test read")).moved == [letter.id]
        assert await office.waiting(ALL) == []
        (decision,) = await office.decided(Selection(queue="readout.IMG1", error="CorruptObject"))
        assert (decision.action, decision.reason, decision.letter) == (Action.DISCARD, "a test read", letter)
        assert await office.decided(Selection(queue="archive")) == []
        found = await office.show(letter.id)
        assert (found.parked, found.letter) == (False, letter)

    @pytest.mark.parametrize("action", list(Action))
    async def test_copies_of_an_event_are_one_letter_that_is_sent_once(
        self, bus: Bus, office: DeadLetterOffice, action: Action
    ) -> None:
        bodies = [encode(read(1), "edge"), *(encode(read(1), "archive/reconcile") for _ in range(3))]
        for body, reason in zip(bodies, (BROKEN, LOST, BROKEN, BROKEN), strict=True):
            await park(bus, body, reason, IMG1)
        await park(bus, encode(read(2), "edge"), BROKEN, IMG1, BOTH)
        letter, other, elsewhere = await office.waiting(ALL)
        assert (letter.body.encode(), other.subject) == (bodies[0], read(2).subject)
        (lost,) = await office.waiting(Selection(error="MissingReference"))
        answer = await (
            office.redrive([letter.id], "ada")
            if action is Action.REDRIVE
            else office.discard([letter.id], "ada", "test")
        )
        assert (answer.moved, answer.missing) == ([letter.id], [])
        assert await office.waiting(ALL) == [other, elsewhere]
        assert (await office.show(lost.id)).decisions[0].action is action  # nothing goes unrecorded
        sent = [bodies[0]] if action is Action.REDRIVE else []
        await bus.publish("iris.readout.read.written.IMG1", b"last", mandatory=True)
        assert await take(bus, IMG1, len(sent) + 1) == [*sent, b"last"]

    async def test_what_only_claims_the_id_of_an_event_is_no_copy_of_it(
        self, bus: Bus, office: DeadLetterOffice
    ) -> None:
        body = encode(read(1), "edge")
        damaged = json.dumps({**json.loads(body), "data": {}}).encode()
        for one in (damaged, body, damaged):
            await park(bus, one, BROKEN, IMG1)
        letters = await office.waiting(ALL)
        assert len({letter.event_id for letter in letters}) == 1
        assert len(letters) == 3

    async def test_what_was_parked_again_is_another_letter_that_names_the_first(
        self, bus: Bus, office: DeadLetterOffice
    ) -> None:
        await park(bus, encode(read(1), "edge"), BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        await office.redrive([letter.id], "ada")
        async with bus.consume(IMG1) as deliveries:
            await (await next_of(deliveries)).park(LOST)
        (again,) = await office.waiting(ALL)
        assert again.id != letter.id
        assert (again.redriven_by, again.error_class) == ("ada", "MissingReference")
        (before,) = (await office.show(again.id)).same_event
        assert (before.letter, before.by) == (letter, "ada")
        assert (await office.show(letter.id)).same_event == []

    async def test_two_who_redrive_the_same_move_each_letter_once(self, bus: Bus, office: DeadLetterOffice) -> None:
        bodies = [str(number).encode() for number in range(8)]
        for body in bodies:
            await park(bus, body, BROKEN, IMG1)
        ids = [letter.id for letter in await office.waiting(ALL)]
        answers = await asyncio.gather(office.redrive(ids, "ada"), office.redrive(ids, "grace"))
        assert sorted(answers[0].moved + answers[1].moved) == sorted(ids)
        assert await take(bus, IMG1, 8) == bodies
        assert len(await office.decided(ALL)) == 8

    async def test_a_decision_without_effect_does_no_harm(
        self, bus: Bus, office: DeadLetterOffice, store: DirectoryStore
    ) -> None:
        await park(bus, b"1", BROKEN, IMG1)
        (letter,) = await office.waiting(ALL)
        crash_points.arm("dead_letters.recorded")
        with pytest.raises(crash_points.Crash):
            await DeadLetters(bus, store, USED).discard([letter.id], "ada", "away with it")
        assert await office.waiting(ALL) == [letter]
        assert await office.decided(ALL) == []
        (without_effect,) = (await office.show(letter.id)).decisions
        assert without_effect.by == "ada"
        await office.redrive([letter.id], "grace")
        assert await take(bus, IMG1, 1) == [b"1"]
        (decision,) = await office.decided(ALL)
        assert (decision.action, decision.by) == (Action.REDRIVE, "grace")
        assert await store.keys(PREFIX) == [f"{PREFIX}{letter.id}-001.json", f"{PREFIX}{letter.id}-002.json"]

    async def test_events_are_held_while_they_are_parked_and_when_they_were_discarded(
        self, bus: Bus, office: DeadLetterOffice, store: DirectoryStore
    ) -> None:
        letters = DeadLetters(bus, store, USED)
        assert await letters.held() == frozenset()
        for number in (1, 2, 3):
            await park(bus, encode(read(number), "edge"), BROKEN, IMG1)
        await park(bus, b"no event", BROKEN, IMG1)
        one, two, three = (read(number).event_id for number in (1, 2, 3))
        assert await letters.held() == {one, two, three}
        ids = [letter.id for letter in await office.waiting(ALL)]
        await office.redrive(ids[:1], "ada")
        await office.discard(ids[1:2], "ada", "not needed")
        assert await letters.held() == {two, three}
        async with bus.consume(IMG1) as deliveries:
            await (await next_of(deliveries)).park(BROKEN)
        assert await letters.held() == {one, two, three}


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture(autouse=True)
def _calm() -> Iterator[None]:
    yield
    crash_points.disarm()


@pytest.fixture
async def bus() -> AsyncIterator[Bus]:
    bus = MemoryBus()
    yield bus
    bus.close()


@pytest.fixture
async def client(bus: Bus, store: DirectoryStore) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(dead_letter_routes(DeadLetters(bus, store)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://iris") as client:
        yield client


class TestAtTheMemoryBus(DeadLetterContract):
    @pytest.fixture
    def office(self, bus: Bus, store: DirectoryStore) -> DeadLetters:
        return DeadLetters(bus, store)


class TestOverHttp(DeadLetterContract):
    @pytest.fixture
    def office(self, client: httpx.AsyncClient) -> HttpDeadLetters:
        return HttpDeadLetters(client)


class TestAtRabbitMQ(DeadLetterContract):
    @pytest.fixture
    async def bus(self, amqp_url: str) -> AsyncIterator[RabbitMQBus]:
        bus = RabbitMQBus(amqp_url, queues=USED)
        await bus.open()
        yield bus
        await bus.close()

    @pytest.fixture
    def office(self, bus: Bus, store: DirectoryStore) -> DeadLetters:
        return DeadLetters(bus, store, USED)


def test_an_id_may_be_abbreviated_as_long_as_it_is_one() -> None:
    ids = ["abc123abc123", "abc456abc456", "abc456abc456"]
    assert the_one("abc4", ids) == "abc456abc456"
    assert the_one("abd", ids) is None
    assert the_one("", ids[:1]) is None
    with pytest.raises(NoSuchLetter, match="2 dead letters begin with 'abc'"):
        the_one("abc", ids)


async def test_another_page_cannot_decide(client: httpx.AsyncClient) -> None:
    for content_type in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        for action in Action:
            answer = await client.post(
                f"/bus/dead-letters/{action}", content='{"ids": [], "by": "x"}', headers={"content-type": content_type}
            )
            assert answer.status_code == 415
    answer = await client.post("/bus/dead-letters/redrive", content=b"{", headers={"content-type": JSON})
    assert answer.status_code == 422
    answer = await client.post("/bus/dead-letters/redrive", content=b" " * 100_000, headers={"content-type": JSON})
    assert answer.status_code == 413
    for length in ("many", "²", ""):
        headers = [(b"content-type", JSON.encode()), (b"content-length", length.encode())]
        answer = await client.post("/bus/dead-letters/redrive", content=b"{}", headers=headers)
        assert answer.status_code == 413


async def test_what_is_no_host_is_said_to_be_none() -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=FastAPI()), base_url="http://iris") as nobody:
        with pytest.raises(Exception, match=r"answers 404.*iris up"):
            await HttpDeadLetters(nobody).waiting(ALL)


async def test_a_system_that_is_away_is_an_outage(unused_tcp_port: int) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{unused_tcp_port}", trust_env=False) as nobody:
        with pytest.raises(Outage, match="iris up"):
            await HttpDeadLetters(nobody).waiting(ALL)
