"""Bad input in the middle of a night: each has its end, and what comes later is processed."""

import asyncio
from typing import Any

import numpy as np

from irisdrs.shared.bus.topology import ARCHIVE, CALIBRATE_REALTIME, readout_queue
from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.events import ReadWritten
from irisdrs.shared.identifiers import Detector, ExposureType, ProductId

PATIENCE_S = 120.0


class Saboteur:
    """Stands on the line and spoils the second read of three detectors of the first exposure."""

    def __init__(self, ground: Any) -> None:
        self.ground = ground

    async def tell(self, events: Any) -> None:
        for event in events:
            second = isinstance(event, ReadWritten) and (event.exposure, event.read) == (1, 2)
            await self.ground.tell([await self.spoil(event) if second else event])

    async def spoil(self, event: ReadWritten) -> ReadWritten:
        store = self.ground.system.platform.store
        path = self.ground.system.settings.store_dir / event.object.key
        if event.detector is Detector.IMG1:  # cut short on disk
            path.chmod(0o644)
            path.write_bytes(path.read_bytes()[:4000])
            return event
        pixels, header = decode_read(await store.get(event.object), event.sampling.shape)
        if event.detector is Detector.IMG2:  # of another shape
            path.unlink()
            content = encode_read(np.tile(pixels, (2, 1)), header.model_copy(update={"shape": (128, 64)}))
        elif event.detector is Detector.IMG3:  # a second content, beside the first
            await self.ground.tell([event])
            content = encode_read(pixels + np.uint16(1), header)
        else:
            return event
        put = await store.put(event.object.key[:-21] + "0" * 16 + ".fits", content, metadata=_metadata(event))
        return event.model_copy(update={"object": put.stored.ref})


def _metadata(event: ReadWritten) -> dict[str, str]:
    from irisdrs.shared.events.metadata import to_metadata

    return to_metadata(event.model_dump(mode="json"))


async def test_damaged_reads_are_parked_and_the_night_goes_on(playground: Any) -> None:
    async with playground() as ground:
        for body in (b"no event", b'{"specversion":"1.0"}'):
            await ground.system.bus.publish("iris.readout.read.written.IMG1", body, mandatory=True)
        await ground.play(ground.edge(Saboteur(ground).tell))
        images = {str(ProductId(exposure, 2, "image")) for exposure in ground.plan.exposure_ids()}
        async with asyncio.timeout(PATIENCE_S):
            while not images <= set(await ground.products()):
                await asyncio.sleep(0.1)
        await ground.system.bus.quiet()
        parked = await ground.parked()
        rows = (await ground.client.get("/api/products", params={"level": 1, "limit": 100})).json()["products"]
    used = {(row["exposure"], row["detector"]): row["reads_used"] for row in rows}
    reads = ground.plan.sampling.reads
    assert used == {
        (planned.number, str(detector)): reads - (planned.number == 1 and detector in ("IMG1", "IMG2", "IMG3"))
        for planned in ground.plan.exposures
        for detector in ground.plan.detectors
    }
    assert sorted(parked.pop(readout_queue(Detector.IMG1))) == ["BadMessage", "BadMessage", "CorruptObject"]
    assert parked.pop(readout_queue(Detector.IMG2)) == ["WrongShape"]
    assert set(parked.pop(readout_queue(Detector.IMG3), ["ReadConflict"])) == {"ReadConflict"}
    assert set(parked.pop(ARCHIVE)) <= {"BadMessage", "CorruptObject"}
    assert parked == {}


async def test_a_frame_without_its_reference_is_parked_and_others_are_reduced(playground: Any) -> None:
    async with playground() as ground:
        other_filter = ground.plan.model_copy(update={"filter": "J", "observation": "2034B-007-124"})
        await type(ground)(ground.system, other_filter, ground.client).play(
            type(ground)(ground.system, other_filter, ground.client).edge()
        )
        await ground.play(ground.edge())
        async with asyncio.timeout(PATIENCE_S):
            while (await ground.verdict()).lost:
                await asyncio.sleep(0.1)
        await ground.system.bus.quiet()
        queue = next(q for q in await _parked_messages(ground))
        parked = await ground.parked()
    assert parked == {CALIBRATE_REALTIME: ["MissingReference"] * len(other_filter.exposure_ids())}
    assert "flat" in queue
    assert ExposureType.SCI in queue


async def _parked_messages(ground: Any) -> list[str]:
    from irisdrs.shared.bus.topology import QUEUES

    queue = next(queue for queue in QUEUES if queue.name == CALIBRATE_REALTIME)
    return [f"{one.reason.message} {one.body.decode()}" for one in await ground.system.bus.parked(queue)]
