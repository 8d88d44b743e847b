"""Rounds: what a service looks at by itself, and the events that come of it, published beside the dispatcher."""

import asyncio
import time

import structlog

from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.bus.port import Bus
from irisdrs.shared.crash_points import reach
from irisdrs.shared.errors import Outage
from irisdrs.shared.metrics import Metrics
from irisdrs.shared.service import Round, Service

_log = structlog.get_logger(__name__)

#: Least pause between two rounds, as a share of their interval: what takes longer must not look all the time.
LEAST_PAUSE = 0.1


async def run_rounds(bus: Bus, service: Service, metrics: Metrics) -> None:
    """Do all periodic rounds of a service, until cancelled."""
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.Event().wait())  # a service without rounds lives on
        for one in service.rounds:
            if one.every_s is not None:
                group.create_task(_repeat(bus, service, one, one.every_s, metrics), name=one.name)


async def do_round(bus: Bus, service: Service, one: Round, metrics: Metrics) -> int:
    """Do one round now.

    Returns
    -------
    int
        How many events were told.

    Raises
    ------
    Outage
        If a server is away: what is told already stays told.
    """
    told = 0
    async for event in one.look():
        reach("rounds.publish.before")
        await publish(bus, f"{service.name}/{one.name}", [event])
        reach("rounds.publish.after")
        metrics.round_events.labels(service.name, one.name).inc()
        told += 1
    return told


async def _repeat(bus: Bus, service: Service, one: Round, every_s: float, metrics: Metrics) -> None:
    await asyncio.sleep(one.first_s)
    while True:
        begun_s = time.monotonic()
        try:
            await do_round(bus, service, one, metrics)
        except Outage as problem:
            _log.warning("a server is away: the next round tries again", round=one.name, problem=str(problem))
        except Exception as problem:  # noqa: BLE001 - the events of the service go on, whatever a round meets
            _log.error("round failed: the next one tries again", round=one.name, exc_info=problem)
        await asyncio.sleep(pause_s(every_s, time.monotonic() - begun_s))


def pause_s(every_s: float, took_s: float) -> float:
    """Pause after a round, seconds: rounds begin at their interval, and one that is longer than it leaves some time."""
    return max(every_s - took_s, LEAST_PAUSE * every_s)
