"""The service's frames are those of the exact fit, or of the streamed optimum: the same bytes whatever happens."""

import hashlib
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.test_readout_ring import comes_to

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout import constants
from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import REFERENCE_TYPES, Calibration
from irisdrs.readout.coadding import coadd
from irisdrs.readout.estimation import EXACT_READS
from irisdrs.readout.main import compose
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.shared.bus.topology import readout_queue
from irisdrs.shared.data.fits import decode_read, encode_read, open_model
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, Outage, ReadConflict
from irisdrs.shared.events import Event, ExposureAborted, ExposureDue, ExposureEnded, FrameReady, ReadWritten
from irisdrs.shared.identifiers import Detector, ExposureId
from irisdrs.shared.quality import Quality
from irisdrs.shared.service import Platform
from irisdrs.shared.store.keys import fact_key
from irisdrs.shared.testing.servers.disk import SmallDisk
from irisdrs.simulator.detector import DetectorTruth, fill_border
from irisdrs.simulator.exposure import expose

SHAPE = (64, 64)
#: Limits of the exact fit, for a ramp of four reads: it is fitted, or summed up in a stream.
PATHS = pytest.mark.parametrize("exact_reads", [EXACT_READS, 3], ids=["exact", "streamed"])

Change = Callable[[NDArray[np.uint16], ReadHeader], tuple[NDArray[np.uint16], ReadHeader]]


async def tell(handlers: Any, event: Event) -> list[FrameReady]:
    """The frames with which an event is answered."""
    answers = await handlers.handlers()[type(event)](event)
    return [answer for answer in answers if isinstance(answer, FrameReady)]


async def tell_all(handlers: Any, events: Sequence[Event]) -> list[FrameReady]:
    return [frame for event in events for frame in await tell(handlers, event)]


class Stock:
    """The reads of an exposure, which come into the store when they are told."""

    def __init__(self, bench: Any, root: Path) -> None:
        self._root = root
        self._data = {event.object.key: (root / event.object.key).read_bytes() for event in bench.reads}

    def hide(self) -> None:
        """Take all reads out of the store."""
        for key in self._data:
            (self._root / key).unlink(missing_ok=True)

    def put(self, event: ReadWritten) -> None:
        """Put the read of an event into the store."""
        (self._root / event.object.key).write_bytes(self._data[event.object.key])

    async def tell(self, handlers: Any, event: Event) -> list[FrameReady]:
        """Put the read of an event, and tell it."""
        if isinstance(event, ReadWritten):
            self.put(event)
        return await tell(handlers, event)


async def calm_frame(bench: Any, root: Path, **options: Any) -> tuple[FrameReady, bytes]:
    """The frame of an undisturbed exposure, which does not stay in the store, and its bytes."""
    (frame,) = await tell_all(bench.new_handlers(**options), bench.events)
    data = await bench.store.get(frame.object)
    (root / frame.object.key).unlink()
    return frame, data


async def retaken(bench: Any, root: Path, change: Change) -> list[Event]:
    """The events of the exposure, after its reads were changed in the store."""
    events: list[Event] = []
    for event in bench.events:
        if isinstance(event, ReadWritten):
            path = root / event.object.key
            pixels, header = decode_read(path.read_bytes(), SHAPE)
            path.unlink()
            pixels, header = change(pixels, header)
            data = encode_read(pixels, header)
            key = f"{event.object.key[:-21]}{hashlib.sha256(data).hexdigest()[:16]}.fits"
            put = await bench.store.put(key, data)
            events.append(event.model_copy(update={"object": put.stored.ref}))
        else:
            events.append(event)
    return events


async def references_of(bench: Any, root: Path, crds: Path) -> Calibration:
    """What the service takes for the exposure."""
    _, header = decode_read((root / bench.reads[0].object.key).read_bytes(), SHAPE)
    found = await open_references(crds).best_references(
        header.crds_parameters(), REFERENCE_TYPES, bench.plan.crds_context
    )
    return constants.load_for({kind: one.path for kind, one in found.items()}, header)


async def test_a_frame_is_what_the_fit_of_its_reads_gives(
    bench: Any, tmp_path: Path, exposure: Any, processor: Processor
) -> None:
    calibration = await references_of(bench, tmp_path / "store", exposure[2])
    fits = []
    for ramp in (1, 2):
        decoded = [
            decode_read((tmp_path / "store" / event.object.key).read_bytes(), SHAPE)
            for event in bench.reads
            if event.ramp == ramp
        ]
        times = np.array([header.read_time_s for _, header in decoded])
        fits.append(processor.fit(np.stack([pixels for pixels, _ in decoded]), calibration, times))
    expected, _ = coadd(fits, calibration)
    frame, data = await calm_frame(bench, tmp_path / "store")
    with open_model(data, RawFrameModel) as model:
        for name in ("data", "err", "var_poisson", "var_rnoise", "dq"):
            np.testing.assert_array_equal(np.asarray(getattr(model, name)), getattr(expected, name), err_msg=name)
        assert model.meta.exposure.estimator == "LIKELIHOOD"
        assert model.meta.cal_step.jump == "COMPLETE"
    assert frame.saturated_fraction == round(expected.saturated_fraction, 9)


async def test_frames_of_two_estimators_have_the_same_inputs_and_are_two_jobs(bench: Any, tmp_path: Path) -> None:
    exact, _ = await calm_frame(bench, tmp_path / "store")
    streamed, data = await calm_frame(bench, tmp_path / "store", exact_reads=3)
    assert exact.inputs_hash == streamed.inputs_hash
    assert exact.job_hash != streamed.job_hash
    assert exact.object.sha256 != streamed.object.sha256
    with open_model(data, RawFrameModel) as model:
        assert model.meta.exposure.estimator == "OPTIMAL"
        assert model.meta.cal_step.jump == "SKIPPED"
    # Whichever is there is the frame of these reads: in real time it is not made again.
    (first,) = await tell_all(bench.new_handlers(exact_reads=3), bench.events)
    (again,) = await tell_all(bench.new_handlers(), bench.events)
    assert again.object == first.object


@pytest.mark.parametrize("rays", [False, True])
async def test_frames_show_the_light_and_no_cosmic_rays(bench: Any, tmp_path: Path, rays: bool) -> None:
    electrons = 200.0
    truth = DetectorTruth(Detector.IMG1, SHAPE, 0)
    light = np.full(SHAPE, electrons, np.float32)
    fill_border(light, 0.0)
    identity = ExposureId.parse(str(bench.reads[0].exposure_id))
    taken = {(one.ramp, one.read): one.pixels for one in expose(truth, light, bench.plan.sampling, identity, 7, 0.0)}
    rng = np.random.default_rng(3)
    hit = np.zeros(SHAPE, np.bool_)
    hit[4:-4, 4:-4] = rng.random((56, 56)) < 0.1
    since = np.where(hit, rng.integers(2, 5, SHAPE), 99)

    def change(_: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        pixels = taken[header.ramp, header.read]
        if rays and header.ramp == 1:
            pixels = pixels + np.where(header.read >= since, np.uint16(2000), np.uint16(0))
        return pixels, header

    events = await retaken(bench, tmp_path / "store", change)
    (frame,) = await tell_all(bench.new_handlers(), events)
    with open_model(await bench.store.get(frame.object), RawFrameModel) as model:
        rate, err, dq = (np.asarray(getattr(model, name)) for name in ("data", "err", "dq"))
    good = (dq & Quality.DO_NOT_USE) == 0
    jumps = (dq & Quality.JUMP_DET) != 0
    assert good.sum() > 3000
    assert (jumps & good & hit).sum() == ((good & hit).sum() if rays else 0)
    assert (jumps & good & ~hit).sum() < 0.01 * good.sum()
    for pixels in (good & hit, good & ~hit):
        pull = ((rate - electrons / truth.gain()) / err)[pixels]
        # Each column shares the noise of its few reference pixels: an eighth of the variance of a read.
        assert abs(pull.mean()) < 4 * np.sqrt(1 / pull.size + 1 / 8 / 56)
        assert 0.9 < pull.std() < 1.2


@PATHS
@pytest.mark.parametrize("seed", range(3))
async def test_any_order_and_any_repetition_give_the_same_bytes(
    bench: Any, tmp_path: Path, exact_reads: int, seed: int
) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store", exact_reads=exact_reads)
    stock = Stock(bench, tmp_path / "store")
    stock.hide()
    shuffled = [*bench.reads, *random.Random(seed).choices(bench.reads, k=6)]
    random.Random(seed).shuffle(shuffled)
    handlers = bench.new_handlers(exact_reads=exact_reads)
    frames = [frame for event in shuffled for frame in await stock.tell(handlers, event)]
    assert [frame.object for frame in frames] == [reference.object]


@PATHS
@pytest.mark.parametrize("killed_at", range(1, 9))
async def test_a_process_that_dies_at_any_read_is_replaced_by_one_that_makes_the_same_bytes(
    bench: Any, tmp_path: Path, exact_reads: int, killed_at: int
) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store", exact_reads=exact_reads)
    stock = Stock(bench, tmp_path / "store")
    stock.hide()
    handlers = bench.new_handlers(exact_reads=exact_reads)
    frames: list[FrameReady] = []
    for number, event in enumerate(bench.events):
        answers = await stock.tell(handlers, event)
        if number == killed_at:  # before it put the frame, if there was one, and acknowledged the read
            for frame in answers:
                (tmp_path / "store" / frame.object.key).unlink()
            handlers = bench.new_handlers(exact_reads=exact_reads)
            answers = await stock.tell(handlers, event)
        frames += answers
    assert [frame.object for frame in frames] == [reference.object]


@PATHS
async def test_a_late_read_makes_the_frame_that_it_had_made_in_time(
    bench: Any, tmp_path: Path, exact_reads: int
) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store", exact_reads=exact_reads)
    stock = Stock(bench, tmp_path / "store")
    stock.hide()
    handlers = bench.new_handlers(exact_reads=exact_reads)
    late = bench.reads[2]
    frames = [frame for event in bench.events if event != late for frame in await stock.tell(handlers, event)]
    assert [frame.reads_used for frame in frames] == [7]
    with open_model(await bench.store.get(frames[0].object), RawFrameModel) as model:
        assert (np.asarray(model.dq) & Quality.DROPOUT != 0).all()
    assert [frame.object for frame in await stock.tell(handlers, late)] == [reference.object]


async def test_each_late_read_makes_a_new_version_at_once_and_holds_nothing(bench: Any, tmp_path: Path) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store")
    stock, room = Stock(bench, tmp_path / "store"), Room(DEFAULT_BYTES, tmp_path)
    stock.hide()
    handlers = bench.new_handlers(room=room)
    missing = [bench.reads[2], bench.reads[0], bench.reads[5]]
    rest = [event for event in bench.events if event not in missing]
    frames = [frame for event in rest for frame in await stock.tell(handlers, event)]
    for late in missing:
        frames += await stock.tell(handlers, late)
        assert comes_to(room, 0)
    assert [frame.reads_used for frame in frames] == [5, 6, 7, 8]
    assert frames[-1].object == reference.object
    assert await tell_all(handlers, [bench.ended]) == []


@pytest.mark.parametrize("ends", [False, True])
async def test_reads_that_come_after_the_deadline_hold_nothing_until_the_last_one_or_the_end(
    bench: Any, tmp_path: Path, ends: bool
) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store")
    stock, room = Stock(bench, tmp_path / "store"), Room(DEFAULT_BYTES, tmp_path)
    stock.hide()
    handlers = bench.new_handlers(room=room)
    missing = [bench.reads[2], bench.reads[0], bench.reads[5]]
    (due,) = await handlers.on_exposure_started(bench.started)
    assert isinstance(due, ExposureDue)
    in_time = [event for event in bench.reads if event not in missing]
    frames = [frame for event in in_time for frame in await stock.tell(handlers, event)]
    frames += await tell(handlers, due.model_copy(update={"due_at": datetime.now(UTC)}))
    for late in missing[:2]:
        frames += await stock.tell(handlers, late)
        assert comes_to(room, 0)
    frames += await tell(handlers, bench.ended) if ends else []
    frames += await stock.tell(handlers, missing[2])
    assert comes_to(room, 0)
    assert [frame.reads_used for frame in frames] == ([5, 7, 8] if ends else [5, 8])
    assert frames[-1].object == reference.object


@pytest.mark.parametrize("fact", ["passed", "to come", "damaged", "absent"])
async def test_a_process_that_was_not_there_at_the_deadline_learns_of_it_from_the_store(
    bench: Any, tmp_path: Path, fact: str
) -> None:
    """A late read is the first that it hears of the exposure: it holds nothing for what may never come."""
    reference, _ = await calm_frame(bench, tmp_path / "store")
    stock, room = Stock(bench, tmp_path / "store"), Room(DEFAULT_BYTES, tmp_path)
    stock.hide()
    for event in bench.reads[:3]:
        stock.put(event)
    started = fact_key(bench.plan.night, bench.started.exposure_id, "started")
    (tmp_path / "store" / started).unlink()
    if fact != "absent":
        due_at = datetime.now(UTC) + timedelta(hours=1 if fact == "to come" else 0)
        data = bench.started.model_copy(update={"due_at": due_at}).model_dump_json().encode()
        await bench.store.put(started, data[:99] if fact == "damaged" else data)
    handlers = bench.new_handlers(room=room)
    assert await stock.tell(handlers, bench.reads[3]) == []
    assert comes_to(room, 0 if fact == "passed" else 4 * 64 * 64 * 2)
    (frame,) = [frame for event in bench.reads[4:] for frame in await stock.tell(handlers, event)]
    assert frame.object == reference.object
    assert comes_to(room, 0)


@PATHS
async def test_a_frame_without_a_read_is_the_same_however_the_read_is_missing(
    bench: Any, tmp_path: Path, exact_reads: int
) -> None:
    stock = Stock(bench, tmp_path / "store")
    stock.hide()
    events = [event for event in bench.events if event != bench.reads[5]]
    handlers = bench.new_handlers(exact_reads=exact_reads)
    (never,) = [frame for event in events for frame in await stock.tell(handlers, event)]
    (tmp_path / "store" / never.object.key).unlink()
    stock.put(bench.reads[5])
    path = tmp_path / "store" / bench.reads[5].object.key
    path.write_bytes(path.read_bytes()[:5000])
    (damaged,) = await tell_all(bench.new_handlers(exact_reads=exact_reads), events)
    assert damaged.object == never.object


@PATHS
async def test_where_reads_wait_changes_no_byte(bench: Any, tmp_path: Path, exact_reads: int) -> None:
    (tmp_path / "rings").mkdir()
    frame, data = await calm_frame(bench, tmp_path / "store", exact_reads=exact_reads)
    room = Room(0, tmp_path / "rings")
    filed, filed_data = await calm_frame(bench, tmp_path / "store", room=room, exact_reads=exact_reads)
    assert filed.object == frame.object
    assert filed_data == data
    assert list((tmp_path / "rings").iterdir()) == []


async def test_reads_that_wait_are_given_back_when_nobody_needs_them(bench: Any, tmp_path: Path) -> None:
    ring = 4 * 64 * 64 * 2
    stock, room = Stock(bench, tmp_path / "store"), Room(DEFAULT_BYTES, tmp_path)

    async def begun() -> Any:
        """Handlers that have folded the first three reads."""
        stock.hide()
        handlers = bench.new_handlers(room=room)
        for event in bench.events[:4]:
            await stock.tell(handlers, event)
        assert comes_to(room, ring)
        return handlers

    handlers = await begun()  # done
    for event in bench.events[4:]:
        for frame in await stock.tell(handlers, event):
            (tmp_path / "store" / frame.object.key).unlink()
    assert comes_to(room, 0)

    handlers = await begun()  # aborted
    identity = bench.ended.model_dump(include={"observation", "exposure_type", "exposure", "detector", "night"})
    await tell(handlers, ExposureAborted(**identity, reason="clouds"))
    assert comes_to(room, 0)

    handlers = await begun()  # gives way to another exposure
    await tell(handlers, bench.started.model_copy(update={"exposure": 2}))
    assert comes_to(room, 0)

    handlers = await begun()  # starts again: a read that it has used is not unique
    _, header = decode_read((tmp_path / "store" / bench.reads[1].object.key).read_bytes(), SHAPE)
    data = encode_read(np.full(SHAPE, 7000, np.uint16), header)
    put = await bench.store.put(f"{bench.reads[1].object.key[:-21]}{'f' * 16}.fits", data)
    with pytest.raises(ReadConflict, match="two contents"):
        await tell(handlers, bench.reads[1].model_copy(update={"object": put.stored.ref}))
    assert comes_to(room, ring)  # one only, with the reads that are left


async def test_a_damaged_read_holds_nothing_of_its_exposure(bench: Any, tmp_path: Path) -> None:
    room = Room(DEFAULT_BYTES, tmp_path)
    path = tmp_path / "store" / bench.reads[5].object.key
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:5000])
    handlers = bench.new_handlers(room=room)
    await tell_all(handlers, bench.events[:3])
    with pytest.raises(CorruptObject):
        await tell(handlers, bench.reads[5])
    await tell_all(handlers, [bench.ended])
    assert comes_to(room, 0)


async def test_a_full_disk_holds_the_reads_until_there_is_room(bench: Any, tmp_path: Path, disk: SmallDisk) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store")
    handlers = bench.new_handlers(room=Room(0, disk.folder))
    disk.fill()
    await tell(handlers, bench.started)
    for _ in range(2):  # dispatch holds the event, and hands it over again
        with pytest.raises(Outage, match="No space left on device"):
            await tell(handlers, bench.reads[0])
    disk.free()
    frames = await tell_all(handlers, bench.events[1:])
    assert [frame.object for frame in frames] == [reference.object]


async def test_settings_and_host_say_where_reads_wait(
    bench: Any, tmp_path: Path, exposure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, _ = await calm_frame(bench, tmp_path / "store")
    monkeypatch.setenv("IRIS_READOUT_RING_BYTES", "0")
    with ThreadPoolExecutor(2) as threads:
        scratch = tmp_path / "scratch"
        service = compose(
            Platform(bench.store, open_references(exposure[2]), tmp_path, scratch, threads), [Detector.IMG1]
        )
        take = service.handlers[readout_queue(Detector.IMG1)][ReadWritten]
        with pytest.raises(Outage, match=f"no room in {scratch}"):
            await take(bench.reads[0])
        scratch.mkdir()
        frames = [frame for event in bench.reads for frame in await take(event) if isinstance(frame, FrameReady)]
        assert [frame.object for frame in frames] == [reference.object]
        await service.close()


async def test_times_of_reads_are_those_of_their_headers(
    bench: Any, tmp_path: Path, exposure: Any, processor: Processor
) -> None:
    calibration = await references_of(bench, tmp_path / "store", exposure[2])
    times = {1: 0.72, 2: 1.9, 3: 2.0, 4: 7.5}
    ramps: dict[int, list[NDArray[np.uint16]]] = {1: [], 2: []}

    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        ramps[header.ramp].append(pixels)
        return pixels, header.model_copy(update={"read_time_s": times[header.read]})

    (frame,) = await tell_all(bench.new_handlers(), await retaken(bench, tmp_path / "store", change))
    at = np.array(list(times.values()))
    expected, _ = coadd([processor.fit(np.stack(reads), calibration, at) for reads in ramps.values()], calibration)
    with open_model(await bench.store.get(frame.object), RawFrameModel) as model:
        np.testing.assert_array_equal(np.asarray(model.data), expected.data)
        np.testing.assert_array_equal(np.asarray(model.var_rnoise), expected.var_rnoise)


@PATHS
async def test_a_read_that_says_it_ended_before_the_one_before_is_left_out(
    bench: Any, tmp_path: Path, exact_reads: int
) -> None:
    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        wrong = (header.ramp, header.read) == (2, 3)
        return pixels, header.model_copy(update={"read_time_s": 1.44}) if wrong else header

    events = await retaken(bench, tmp_path / "store", change)
    handlers = bench.new_handlers(exact_reads=exact_reads)
    frames = []
    for event in events:
        if isinstance(event, ReadWritten) and (event.ramp, event.read) == (2, 3):
            with pytest.raises(
                CorruptObject, match=r"ended 1.44 s after the reset, and the read before it says 1.44 s"
            ):
                await tell(handlers, event)
        else:
            frames += await tell(handlers, event)
    assert [frame.reads_used for frame in frames] == [7]


async def test_an_exposure_of_which_far_more_was_announced_than_came_is_closed(bench: Any, tmp_path: Path) -> None:
    sampling = bench.plan.sampling.model_copy(update={"reads": 65535, "ramps": 1000})

    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        return pixels, header.model_copy(update={"reads": sampling.reads, "ramps": sampling.ramps})

    for event in await retaken(bench, tmp_path / "store", change):
        if isinstance(event, ReadWritten) and (event.ramp, event.read) not in ((1, 1), (1, 2), (2, 4)):
            (tmp_path / "store" / event.object.key).unlink()
    (frame,) = await tell_all(bench.new_handlers(), [bench.ended.model_copy(update={"sampling": sampling})])
    assert (frame.reads_used, frame.reads_expected) == (3, 65_535_000)


@PATHS
async def test_neighbours_of_saturated_pixels_are_saturated_if_the_setting_says_so(
    bench: Any, tmp_path: Path, exact_reads: int
) -> None:
    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        changed = np.minimum(pixels, 30_000).astype(np.uint16)
        changed[20, 30] = 65535 if header.read > 2 else changed[20, 30]
        return changed, header

    events = await retaken(bench, tmp_path / "store", change)
    found = {}
    for grow in (False, True):
        (frame,) = await tell_all(bench.new_handlers(exact_reads=exact_reads, grow_saturation=grow), events)
        data = await bench.store.get(frame.object)
        (tmp_path / "store" / frame.object.key).unlink()
        with open_model(data, RawFrameModel) as model:
            saturated = np.asarray(model.dq) & Quality.SATURATED != 0
            found[grow] = frame, np.argwhere(saturated).tolist(), model.meta.sampling.saturation_grown
    (plain, alone, said), (grown, around, also) = found.values()
    assert (alone, said) == ([[20, 30]], None)
    assert (around, also) == ([[y, x] for y in (19, 20, 21) for x in (29, 30, 31)], True)
    assert plain.inputs_hash == grown.inputs_hash
    assert plain.job_hash != grown.job_hash


async def test_the_environment_says_whether_saturation_grows(
    bench: Any, tmp_path: Path, exposure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [
        (await calm_frame(bench, tmp_path / "store", grow_saturation=grow))[0].job_hash for grow in (True, False)
    ]
    found = []
    for said in ("true", "false"):
        monkeypatch.setenv("IRIS_READOUT_GROW_SATURATION", said)
        with ThreadPoolExecutor(2) as threads:
            platform = Platform(bench.store, open_references(exposure[2]), tmp_path, tmp_path, threads)
            service = compose(platform, [Detector.IMG1])
            (frame,) = await service.handlers[readout_queue(Detector.IMG1)][ExposureEnded](bench.ended)
            assert isinstance(frame, FrameReady)
            await service.close()
        (tmp_path / "store" / frame.object.key).unlink()
        found.append(frame.job_hash)
    assert found == expected
    assert found[0] != found[1]
