"""After a fix: what was parked is re-driven, and each event is handled exactly once."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tests.contract.test_contract_dead_letters import ALL, IMG1, USED, read

from irisdrs.shared.bus.dispatch import Dispatcher
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.dead_letters.office import DeadLetters
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import Event, ReadWritten, encode
from irisdrs.shared.service import Service
from irisdrs.shared.store.directory import DirectoryStore

MANY = 500

#: Longest wait for what must happen, seconds: only a failure waits that long.
PATIENCE_S = 120.0


async def test_each_of_500_is_handled_exactly_once_after_a_fix(amqp_url: str, tmp_path: Path) -> None:
    mended = False
    handled: Counter[str] = Counter()

    async def handle(event: ReadWritten) -> Sequence[Event]:
        if not mended:
            raise Fatal("the fold is broken", remedy="mend it")
        handled[event.event_id] += 1
        return []

    bus = RabbitMQBus(amqp_url, queues=USED)
    moved: list[int] = []
    letters = DeadLetters(bus, DirectoryStore(tmp_path), USED, progress=moved.append)
    dispatcher = Dispatcher(bus, Service("readout", {IMG1.name: {ReadWritten: handle}}))
    running = asyncio.create_task(dispatcher.run())
    try:
        events = [read(number) for number in range(1, MANY + 1)]
        await asyncio.gather(
            *(bus.publish(event.routing_key, encode(event, "edge"), mandatory=True) for event in events)
        )
        async with asyncio.timeout(PATIENCE_S):
            while await bus.depth(IMG1.parking) != (MANY, 0):
                await asyncio.sleep(0.05)
            parked = await letters.waiting(ALL)
            assert {letter.event_id for letter in parked} == {event.event_id for event in events}
            mended = True
            answer = await letters.redrive([letter.id for letter in parked], "ada", "mended the fold")
            assert (len(answer.moved), answer.missing, sum(moved)) == (MANY, [], MANY)
            while len(handled) < MANY or await bus.depth(IMG1.name) != (0, 1):
                await asyncio.sleep(0.05)
    finally:
        dispatcher.stop()
        await running
        parked_still = await bus.parked(IMG1)
        await bus.close()
    assert parked_still == []
    assert handled == Counter({event.event_id: 1 for event in events})
