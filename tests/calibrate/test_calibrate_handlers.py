"""One event in, one event out: real store, real references, a real worker process."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.calibrate.conftest import HEADER, Night, store_frame

from irisdrs.calibrate.handlers import Workshop, on_combination_requested, on_frame_ready, on_reduction_requested
from irisdrs.calibrate.worker import WorkerPool
from irisdrs.crds_proxy.main import open_references
from irisdrs.shared import crash_points
from irisdrs.shared.crds.context import build_context
from irisdrs.shared.data.fits import open_model, to_bytes
from irisdrs.shared.data.models import GainModel, ImageModel
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference, Retryable
from irisdrs.shared.events import CombinationRequested, FrameReady, FrameReduced, ReductionRequested, decode, encode
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.shared.store.port import ObjectRef

EXPOSURE = HEADER.exposure_id


class Host:
    """What a host lends, and calls of the handlers with it."""

    def __init__(self, root: Path, cache: Path, context: str, workers: WorkerPool) -> None:
        self.root, self.context = root, context
        self.store = DirectoryStore(root / "store")
        self.scratch = root / "scratch"
        self.scratch.mkdir()
        self.workshop = Workshop(self.store, open_references(cache), workers, self.scratch)

    async def put(self, data: bytes) -> FrameReady:
        """Store a raw frame and announce it."""
        return await store_frame(self.store, data, self.context)

    async def handle(self, event: FrameReady) -> FrameReduced:
        """The one event that the handler gives in real time."""
        (answer,) = await on_frame_ready(event, self.workshop)
        return answer

    async def handle_again(self, frame: FrameReady, context: str, request: str = "one") -> FrameReduced:
        """The one event that the handler gives when a frame is to be reduced again."""
        event = ReductionRequested(frame=frame, crds_context=context, request=request)
        (answer,) = await on_reduction_requested(event, self.workshop)
        return answer

    async def products(self) -> list[str]:
        """Keys of level 2."""
        return await self.store.keys("2/")


@pytest.fixture(scope="module")
def cache(files: Night, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("crds")
    return folder, build_context(folder, list(files.references.values()))


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, the worker process dies at its crash point, once."""
    return tmp_path_factory.mktemp("crash-points") / "calibrate.worker.reduce"


@pytest.fixture(scope="module")
def workers(token: Path) -> Iterator[WorkerPool]:
    os.environ[crash_points.FOLDER] = str(token.parent)
    pool = WorkerPool(1, 100, 60.0)
    yield pool
    asyncio.run(pool.close())
    del os.environ[crash_points.FOLDER]


@pytest.fixture
def host(tmp_path: Path, cache: tuple[Path, str], workers: WorkerPool) -> Host:
    return Host(tmp_path, *cache, workers)


async def test_a_frame_becomes_a_product_and_its_announcement(files: Night, host: Host) -> None:
    event = await host.put(files.raw.read_bytes())
    answer = await host.handle(event)

    assert answer.product_id == f"{EXPOSURE}-L2-image"
    assert (answer.level, answer.product_type) == (2, "image")
    assert answer.inputs == (("raw", event.product_id, event.object.sha256),)
    assert (answer.reads_used, answer.reads_expected) == (7, 8)
    assert answer.photons_end == event.photons_end
    assert answer.crds_context == host.context
    assert answer.references == {kind: f"tmt_iris_{kind}_0001.fits" for kind in ("dark", "flat", "gain", "mask")}
    assert answer.quality["sky_level"] == pytest.approx(40.0, abs=0.2)
    assert await host.products() == [answer.object.key]
    assert decode(encode(answer, "calibrate"))[1] == answer
    image = open_model(await host.store.get(answer.object), ImageModel)
    assert image.meta.provenance.job_hash == answer.job_hash
    assert float(np.median((image.data - files.truth)[8:-8, 8:-8])) == pytest.approx(0.0, abs=0.1)
    assert list(host.scratch.iterdir()) == [], "nothing is left behind"


async def test_a_product_that_is_there_is_announced_again_without_work(files: Night, host: Host) -> None:
    event = await host.put(files.raw.read_bytes())
    first = await host.handle(event)
    # Any work would fail now: the frame is gone, and so are the references and the workers.
    (host.root / "store" / event.object.key).unlink()
    host.workshop = replace(host.workshop, references=None, workers=None)  # type: ignore[arg-type]
    assert await host.handle(event) == first
    assert await host.products() == [first.object.key]


@pytest.mark.parametrize("point", ["calibrate.put.before", "calibrate.put.after"])
async def test_a_crash_at_the_put_loses_nothing_and_doubles_nothing(files: Night, host: Host, point: str) -> None:
    event = await host.put(files.raw.read_bytes())
    crash_points.arm(point)
    with pytest.raises(crash_points.Crash):
        await host.handle(event)
    assert len(await host.products()) == (1 if point.endswith("after") else 0)
    again = await host.handle(event)
    assert await host.products() == [again.object.key]
    assert again == await host.handle(event)


async def test_the_frame_of_another_exposure_is_refused(files: Night, host: Host) -> None:
    event = await host.put(files.raw.read_bytes())
    other = event.model_copy(update={"exposure": 35, "product_id": event.product_id.replace("0034", "0035")})
    with pytest.raises(CorruptObject, match="EXP_NO = 34"):
        await host.handle(other)
    assert await host.products() == []


async def test_a_worker_that_dies_makes_the_event_retryable(files: Night, host: Host, token: Path) -> None:
    event = await host.put(files.raw.read_bytes())
    token.touch()
    with pytest.raises(Retryable, match="exit status 137"):
        await host.handle(event)
    assert await host.products() == []
    assert (await host.handle(event)).product_id == f"{EXPOSURE}-L2-image"


async def test_without_a_reference_the_event_is_parked_with_their_names(
    files: Night, host: Host, tmp_path: Path
) -> None:
    cache = tmp_path / "poor"
    host.context = build_context(cache, [files.references["mask"], files.references["gain"]])
    host.workshop = replace(host.workshop, references=open_references(cache))
    event = await host.put(files.raw.read_bytes())
    with pytest.raises(MissingReference, match=r"(?s)dark.*flat"):
        await host.handle(event)
    assert await host.products() == []


async def test_a_frame_that_is_not_what_was_announced_is_fatal(files: Night, host: Host) -> None:
    event = await host.put(files.raw.read_bytes())
    path = host.root / "store" / event.object.key
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(CorruptObject):
        await host.handle(event)


@pytest.mark.parametrize("data", [b"", b"no FITS file at all" * 500])
async def test_a_frame_that_is_no_fits_file_is_fatal(host: Host, data: bytes) -> None:
    event = await host.put(data)
    with pytest.raises(CorruptObject):
        await host.handle(event)


async def test_a_frame_of_the_spectrograph_is_fatal_with_a_reason(files: Night, host: Host) -> None:
    event = (await host.put(files.raw.read_bytes())).model_copy(update={"detector": Detector.IFS})
    with pytest.raises(Fatal, match="imager frames only"):
        await host.handle(event)


async def test_the_same_job_is_done_once_whoever_asks_for_it(files: Night, host: Host) -> None:
    frame = await host.put(files.raw.read_bytes())
    first = await host.handle_again(frame, host.context)
    host.workshop = replace(host.workshop, workers=None)  # type: ignore[arg-type] # any reduction would fail now
    assert await host.handle_again(frame, host.context, request="another") == first
    assert await host.handle(frame) == first
    assert await host.products() == [first.object.key]
    assert list(host.scratch.iterdir()) == [], "nothing is left behind"


async def test_under_another_context_a_frame_is_reduced_again_and_real_time_takes_what_is_there(
    files: Night, host: Host, tmp_path: Path
) -> None:
    cache = tmp_path / "growing"
    host.context = build_context(cache, list(files.references.values()))
    frame = await host.put(files.raw.read_bytes())
    better = open_model(files.references["gain"], GainModel)
    better.data = better.data * 2
    (tmp_path / "better.fits").write_bytes(to_bytes(better))
    context = build_context(cache, [tmp_path / "better.fits"])
    host.workshop = replace(host.workshop, references=open_references(cache))

    under_new = await host.handle_again(frame, context)
    assert await host.handle(frame) == under_new, "a frame is done when a product of it is there"
    under_old = await host.handle_again(frame, host.context)
    assert (under_old.crds_context, under_new.crds_context) == (host.context, context)
    assert under_new.inputs_hash == under_old.inputs_hash
    assert under_new.quality["sky_level"] == pytest.approx(2 * under_old.quality["sky_level"])
    assert await host.products() == sorted([under_old.object.key, under_new.object.key])
    host.workshop = replace(host.workshop, workers=None)  # type: ignore[arg-type] # any reduction would fail now
    assert await host.handle(frame) in (under_old, under_new)


async def test_a_frame_of_the_spectrograph_is_not_reduced_again_either(files: Night, host: Host) -> None:
    frame = (await host.put(files.raw.read_bytes())).model_copy(update={"detector": Detector.IFS})
    with pytest.raises(Fatal, match="imager frames only"):
        await host.handle_again(frame, host.context)


async def test_a_combination_is_refused_with_the_rule_and_what_to_do() -> None:
    job = ObjectRef(key="jobs/a.json", sha256="a" * 64, size=1)
    event = CombinationRequested(observation=EXPOSURE.observation, rule="dither", job=job, crds_context="tmt_0001.pmap")
    with pytest.raises(Fatal, match=r"rule dither .* parked.* [Rr]e-drive .* upgrade"):
        await on_combination_requested(event)


async def test_the_loop_stays_free_while_a_frame_is_reduced(files: Night, host: Host) -> None:
    event = await host.put(files.raw.read_bytes())
    await host.handle(event)  # warm
    other = event.model_copy(update={"crds_context": host.context})
    (host.root / "store" / (await host.products())[0]).unlink()
    work = asyncio.create_task(host.handle(other))
    ticks = 0
    while not work.done():
        await asyncio.sleep(0.01)
        ticks += 1
    await work
    assert ticks > 5
