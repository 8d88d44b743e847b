"""Killing whoever re-drives: what was parked stays parked until it was told again."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from tenacity import retry, retry_if_result, stop_after_delay, wait_fixed

from irisdrs.shared import crash_points
from irisdrs.shared.bus.port import ParkingReason
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.testing.bus_contract import IMG1, READ, USED, next_of

#: Points in what people do to dead letters.
POINTS = ("parking.published", "dead_letters.recorded")

#: Re-drives everything that is parked, in a process of its own.
REDRIVE = """
import asyncio, sys
from irisdrs.shared.bus.rabbitmq import RabbitMQBus
from irisdrs.shared.testing.bus_contract import IMG1, USED

async def main():
    bus = RabbitMQBus(sys.argv[1], queues=USED)
    async with bus.parking(IMG1) as parking:
        await parking.redrive([parked.id for parked in parking.messages], "ada")

asyncio.run(main())
"""

#: More than a quorum queue takes back in their order.
MANY = 40


async def test_who_is_killed_before_the_acknowledgement_leaves_everything_parked(amqp_url: str, tmp_path: Path) -> None:
    bodies = [str(n).encode() for n in range(MANY)]
    bus = RabbitMQBus(amqp_url, queues=USED)
    try:
        for body in bodies:
            await bus.publish(READ, body, mandatory=True)
        async with bus.consume(IMG1) as deliveries:
            for _ in bodies:
                await (await next_of(deliveries)).park(ParkingReason("Fatal", "broken"))
        (tmp_path / "parking.published").touch()
        environment = {**os.environ, crash_points.FOLDER: str(tmp_path)}
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", REDRIVE, amqp_url, env=environment)
        assert await process.wait() == crash_points.KILLED
        assert await _parked(bus) == bodies
        async with bus.consume(IMG1) as deliveries:
            assert [(await next_of(deliveries)).body for _ in bodies] == bodies
    finally:
        await bus.close()


@pytest.mark.parametrize("killed", [True, False])
async def test_the_lock_goes_with_the_process_that_holds_it(amqp_url: str, killed: bool) -> None:
    look = REDRIVE.replace(
        "await parking.redrive", "print(flush=True); await asyncio.sleep(600); await parking.redrive"
    )
    bus = RabbitMQBus(amqp_url, queues=USED)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", look, amqp_url, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        if killed:
            process.kill()
        else:
            process.terminate()
        assert await bus.parked(IMG1) == []
        await process.wait()
    finally:
        await bus.close()


@retry(retry=retry_if_result(lambda bodies: len(bodies) < MANY), wait=wait_fixed(0.1), stop=stop_after_delay(20))
async def _parked(bus: RabbitMQBus) -> list[bytes]:
    """What is parked, when the broker has taken it all back from a dead connection."""
    return [parked.body for parked in await bus.parked(IMG1)]
