"""Things that happen, each in a few lines; what lasts is over when the function returns."""

import asyncio
import contextlib
import hashlib
import itertools
import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aio_pika
from tests.chaos.arena import Arena
from tests.chaos.performance import Performance

from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events import Event, ExposureEnded, ObservationEnded, ReadFailed, ReadWritten, decode, encode
from irisdrs.shared.events.metadata import to_metadata
from irisdrs.shared.identifiers import ReadId
from irisdrs.shared.store.rules import SHA256_NAME
from irisdrs.shared.testing.servers.clock import skewed
from irisdrs.simulator.observatory import ServiceProcess

#: How long a server is away, seconds, unless a case says otherwise.
AWAY_S = 10.0


def kill(arena: Arena, service: str, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a service and everything that it has started."""
    arena.observatory.services[service].process.signal(number)


async def kill_now_and_then(night: Performance, every_s: float) -> None:
    """Kill a random service every so often until the night has been told."""
    names = sorted(night.observatory.services)
    told = asyncio.ensure_future(night.reached(1.0))
    while not (await asyncio.wait({told}, timeout=every_s))[0]:
        async with night.fault():
            kill(night.arena, names[int(night.random.integers(len(names)))])


async def restart_in_order(night: Performance) -> None:
    """Ask one service after the other to end; each is ready again before the next one is asked."""
    for service in night.observatory.services.values():
        async with night.fault():
            await _end_and_wait(service)


async def broker_killed(night: Performance) -> None:
    """The broker dies as by a power cut, and comes back on its data."""
    node = night.observatory.node
    assert node is not None
    async with night.fault():
        await asyncio.to_thread(node.kill)
        await asyncio.sleep(AWAY_S)
        await asyncio.to_thread(node.start)


async def broker_restarted(night: Performance) -> None:
    """The broker is stopped in order, and comes back."""
    async with night.fault():
        await asyncio.to_thread(night.observatory.rabbitmq.stop)
        await asyncio.to_thread(night.observatory.rabbitmq.start)


async def store_away(night: Performance, seconds: float) -> None:
    """The store is stopped, and comes back on its data."""
    swift = night.observatory.swift
    assert swift is not None
    async with night.fault():
        start_s = time.monotonic()
        await asyncio.to_thread(swift.stop)
        await asyncio.sleep(max(0.0, seconds - (time.monotonic() - start_s)))
        await asyncio.to_thread(swift.start)


async def store_fails(night: Performance, share: float, late_share: float, seconds: float) -> None:
    """The store answers 503 to some requests, and to some others though it has carried them out."""
    swift = night.observatory.swift
    assert swift is not None
    async with night.fault():
        swift.faults(errors=share, late_errors=late_share, seed=int(night.random.integers(1000)))
        await asyncio.sleep(seconds)
        swift.heal()


async def job_ends_as(night: Performance, manner: str, lasts_s: float = 0.0) -> None:
    """The next job of calibrate takes its process along: see `crash_points`."""
    point = night.observatory.crash_points / "calibrate.worker.reduce"
    async with night.fault():
        point.write_text(manner, encoding="ascii")
        while point.exists():
            await asyncio.sleep(0.05)
        await asyncio.sleep(lasts_s)


async def queue_deleted(night: Performance, *names: str) -> None:
    """Somebody deletes queues: their messages are gone, their consumers are cancelled by the server."""
    async with night.fault():
        connection = await aio_pika.connect(night.observatory.settings()["IRIS_AMQP_URL"])
        async with connection, connection.channel() as channel:
            for name in names:
                await channel.queue_delete(name)


def tripled(night: Performance, window: int) -> None:
    """Every event of the edge comes three times, and so many in any order."""
    held: list[Event] = []

    async def send(event: Event) -> None:
        held.extend([event] * 3)
        if len(held) < 3 * window and night.told < night.events - 1:
            return
        order = night.random.permutation(len(held))
        shuffled = [held[position] for position in order]
        held.clear()
        for one in shuffled:
            await night.publish(one)

    night.send = send


async def republish_everything(night: Performance, times: int) -> None:
    """Every message that anybody sends is sent again, as it is, so many times."""
    bus, seen = night.arena.stage.bus, set()
    async with bus.listen("iris.#") as messages:
        async for message in messages:
            digest = hashlib.sha256(message).digest()
            if digest in seen:
                continue
            seen.add(digest)
            with contextlib.suppress(BadMessage):
                _, event = decode(message)
                for _ in range(times):
                    await bus.publish(event.routing_key, message, mandatory=False)


def damage_reads(night: Performance, count: int) -> None:
    """So many reads are damaged, at most two of an exposure: their keys have damaged bytes from the first moment on."""
    sampling, damages = night.plan.sampling, (_cut_short, _flip_a_bit, _empty)
    chosen = {
        str(ReadId(exposure, 1, int(read)))
        for exposure in night.plan.exposure_ids()
        for read in night.random.choice(sampling.reads, 2, replace=False) + 1
    }
    night.account.spoilt = {*night.random.permutation(sorted(chosen))[:count]}

    async def before(event: ReadWritten, data: bytes) -> None:
        if str(ReadId(event.exposure_id, event.ramp, event.read)) not in night.account.spoilt:
            return
        damage = damages[int(night.random.integers(len(damages)))]
        facts = to_metadata(event.model_dump(mode="json")) | {SHA256_NAME: event.object.sha256}
        await asyncio.to_thread(night.arena.shelf.place, event.object.key, damage(data), facts)

    night.before = before


def _cut_short(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _flip_a_bit(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def _empty(_: bytes) -> bytes:
    return b""


def malformed(night: Performance, count: int) -> Iterator[tuple[str, bytes]]:
    """Messages that nobody can understand, with their routing keys: each goes to one queue."""
    keys = itertools.cycle((f"{ReadFailed.topic()}.IMG1", ObservationEnded.topic()))
    good = json.loads(encode(_some_event(night), "edge"))
    for number in range(count):
        wrong: dict[str, Any] = [
            {"specversion": "1.0", "number": number},
            good | {"type": good["type"].replace(".v1", f".v{2 + number}")},
            good | {"data": good["data"] | {"exposure": f"number {number}"}},
            good | {"id": str(number)},
        ][number % 4]
        garbage = number % 5 == 0
        yield next(keys), night.random.bytes(200) if garbage else json.dumps(wrong).encode()


def _some_event(night: Performance) -> Event:
    exposure = night.plan.exposure_ids()[0]
    return ExposureEnded(
        observation=exposure.observation,
        exposure_type=exposure.type,
        exposure=exposure.number,
        detector=exposure.detector,
        night=night.plan.night,
        sampling=night.plan.sampling,
    )


def mix_versions(night: Performance) -> None:
    """Messages of the edge are, in turn, as the version before and as the version after this one would send them."""
    rewrites = itertools.cycle((_as_older, _as_newer))

    async def send(event: Event) -> None:
        message = json.loads(encode(event, "edge"))
        next(rewrites)(event, message)
        body = json.dumps(message).encode()
        await night.arena.stage.bus.publish(event.routing_key, body, mandatory=event.mandatory)

    night.send = send


def _as_older(event: Event, message: dict[str, Any]) -> None:
    """Leave out every field that need not be there."""
    optional = {name for name, field in type(event).model_fields.items() if not field.is_required()}
    message["data"] = {name: value for name, value in message["data"].items() if name not in optional}
    if "object" in message["data"]:
        del message["data"]["object"]["media_type"]
    for holder in (message["data"], message["data"].get("plan", {})):
        if "sampling" in holder:
            del holder["sampling"]["group_reads"]


def _as_newer(_: Event, message: dict[str, Any]) -> None:
    """Add fields that nobody knows yet: to the envelope, to the data, and deeper."""
    message["dataschema"] = "https://example.org/schemas/of-tomorrow.json"
    message["data"]["seeing_arcsec"] = 0.6
    for value in list(message["data"].values()):
        if isinstance(value, dict):
            value["of_tomorrow"] = {"known": False}


def suppress(night: Performance, count: int) -> None:
    """So many random events of the edge are never sent; the first, which has the plan, is."""
    lost = {int(number) for number in night.random.choice(night.events - 1, count, replace=False) + 1}

    async def send(event: Event) -> None:
        if night.told not in lost:
            await night.publish(event)

    night.send = send


def delete_rows(night: Performance, count: int) -> None:
    """So many random products of the night vanish from the catalogue."""
    with contextlib.closing(sqlite3.connect(night.observatory.data_dir / "catalogue.sqlite", timeout=30.0)) as database:
        rows = database.execute(
            "SELECT id, artifact_id FROM product WHERE observation = ?", (night.plan.observation,)
        ).fetchall()
        chosen = [rows[int(position)] for position in night.random.choice(len(rows), count, replace=False)]
        with database:
            for product, artifact in chosen:
                database.execute("DELETE FROM provenance WHERE product_row = ?", (product,))
                database.execute("DELETE FROM header WHERE artifact_id = ?", (artifact,))
                database.execute("DELETE FROM product WHERE id = ?", (product,))
                database.execute("DELETE FROM artifact WHERE id = ?", (artifact,))


@contextlib.asynccontextmanager
async def clock_ahead(night: Performance, offset_s: int, *names: str) -> AsyncIterator[None]:
    """The clock of some services is wrong: what they measure with a monotonic one is not."""
    services = [night.observatory.services[name] for name in names]
    true = [service.environment for service in services]
    for service in services:
        service.environment = skewed(service.environment, offset_s, night.observatory.data_dir)
        await _end_and_wait(service)
    try:
        yield
    finally:
        for service, environment in zip(services, true, strict=True):
            service.environment = environment
            await _end_and_wait(service)


async def _end_and_wait(service: ServiceProcess) -> None:
    """Ask a service to end, and wait until its supervisor has started it anew."""
    starts = service.starts
    service.process.ask_to_end()
    while service.starts == starts or not await asyncio.to_thread(service.ready):
        await asyncio.sleep(0.1)


async def leader_killed(night: Performance, queue: str, away_s: float) -> None:
    """The node of a cluster that leads a queue dies; it is back later, which nobody has to wait for."""
    cluster = night.observatory.cluster
    assert cluster is not None
    async with night.fault():
        leader = await asyncio.to_thread(cluster.leader, queue)
        assert leader is not None
        await asyncio.to_thread(cluster.kill, leader)
    await asyncio.sleep(away_s)
    await asyncio.to_thread(cluster.restart, leader)


async def disk_full(night: Performance, disk: str, seconds: float) -> None:
    """Something takes all that is left of a file system."""
    async with night.fault():
        await asyncio.to_thread(night.arena.disks[disk].fill)
        await asyncio.sleep(seconds)
        night.arena.disks[disk].free()
