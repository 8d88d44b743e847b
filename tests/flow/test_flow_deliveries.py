"""A reference is delivered while the system runs: the next observation uses it, one under way keeps what it has."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from astropy.io import fits
from tests.flow.conftest import Open, Playground
from typer.testing import CliRunner

from irisdrs.crds_proxy.cli import app
from irisdrs.shared.bus.dispatch import publish
from irisdrs.shared.events import ContextChanged, Event, ReferenceCertified, ReferenceCreated, decode
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.references import Reference
from irisdrs.simulator.ledger import current_products

#: How soon an observation that starts must find a new context, seconds.
SOON_S = 1.0


@asynccontextmanager
async def heard(ground: Playground) -> AsyncIterator[asyncio.Queue[Event]]:
    """What crds_proxy tells meanwhile."""
    events: asyncio.Queue[Event] = asyncio.Queue()
    listening = asyncio.Event()

    async def listen() -> None:
        async with ground.system.bus.listen("iris.crds.#") as messages:
            listening.set()
            async for message in messages:
                events.put_nowait(decode(message)[1])

    task = asyncio.create_task(listen())
    await listening.wait()
    try:
        yield events
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(ground: Playground, context: str) -> float:
    """Wait until a context is in force for observations that start now; gives how long that took, seconds."""
    begun_s = time.monotonic()
    async with asyncio.timeout(30.0):
        while await ground.system.platform.references.default_context() != context:
            await asyncio.sleep(0.01)
    return time.monotonic() - begun_s


async def gain(ground: Playground, context: str) -> Reference:
    header = {"INSTRUME": "IRIS", "DETECTOR": "IMG1", "DATE-OBS": ground.plan.night.isoformat(), "TIME-OBS": "12:00:00"}
    found = await ground.system.platform.references.best_references(header, ["gain"], context)
    return found["gain"]


def better(known: Reference, path: Path) -> Path:
    """The same reference with another description."""
    shutil.copy(known.path, path)
    path.chmod(0o644)
    fits.setval(path, "DESCRIP", value="A better one")
    return path


async def contexts_of_frames(ground: Playground) -> set[str]:
    return {str(row["crds_context"]) for row in await current_products(ground.client, ground.plan) if row["level"] == 2}


async def test_an_event_brings_a_reference_to_the_next_observation(playground: Open, tmp_path: Path) -> None:
    async with playground() as ground:
        old = ground.plan.crds_context
        await until(ground, old)
        known = await gain(ground, old)
        file = better(known, tmp_path / "gain.fits")
        ref = (await ground.system.platform.store.put("3/gain.fits", file.read_bytes())).stored.ref
        event = ReferenceCreated(
            reference_type="gain", object=ref, useafter=datetime(2030, 1, 1, tzinfo=UTC), inputs=(("frame", "0" * 64),)
        )
        async with heard(ground) as events, asyncio.timeout(120.0):
            await publish(ground.system.bus, "calibrate", [event])
            told: dict[type[Event], Event] = {}
            while ReferenceCertified not in told or ContextChanged not in told:
                one = await events.get()
                if not isinstance(one, ContextChanged) or one.new_context != old:  # what was built before is told, too
                    told[type(one)] = one
        certified, changed = told[ReferenceCertified], told[ContextChanged]
        assert isinstance(certified, ReferenceCertified) and isinstance(changed, ContextChanged)
        assert (changed.old_context, changed.types) == (old, ("gain",))
        assert await until(ground, changed.new_context) < SOON_S
        assert (await gain(ground, changed.new_context)).name == certified.file_name != known.name
        assert (await gain(ground, old)).sha256 == known.sha256

        # An observation that began under the old context keeps it; the next one is pinned to what is in force then.
        for number, context in enumerate((old, changed.new_context), 201):
            pinned = {"observation": f"2034B-007-{number}", "crds_context": context, "detectors": (Detector.IMG1,)}
            night = Playground(ground.system, ground.plan.model_copy(update=pinned), ground.client)
            await night.play(night.edge())
            await night.system.bus.quiet()
            assert await contexts_of_frames(night) == {context}
        assert await ground.parked() == {}


async def test_a_command_beside_a_running_system_is_told_and_seen_at_once(playground: Open, tmp_path: Path) -> None:
    async with playground() as ground:
        old = ground.plan.crds_context
        await until(ground, old)
        file = better(await gain(ground, old), tmp_path / "gain.fits")
        arguments = ["deliver", str(file), "--data", str(ground.system.settings.data_dir), "--by", "me"]
        async with heard(ground) as events, asyncio.timeout(120.0):
            done = await asyncio.to_thread(CliRunner().invoke, app, arguments)
            delivered_s = time.monotonic()
            assert done.exit_code == 0, done.output
            while not isinstance(changed := await events.get(), ContextChanged) or changed.new_context == old:
                pass
        assert f"{changed.new_context} is in force; before: {old}." in done.output
        await until(ground, changed.new_context)
        assert time.monotonic() - delivered_s < 5.0
