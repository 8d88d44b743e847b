"""The handlers of one detector: the same frame whatever happens to events and processes."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irisdrs.crds_proxy.api import application
from irisdrs.shared import crash_points
from irisdrs.shared.data.fits import encode_read, open_model
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference, NotDue, ReadConflict, WrongShape
from irisdrs.shared.events import ExposureAborted, ExposureDue, FrameReady, ProcessingFailed, ReadFailed
from irisdrs.shared.http_references import HttpReferences
from irisdrs.shared.quality import Quality
from irisdrs.shared.store.keys import fact_key
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.web_server import serving


async def tell(handlers: Any, event: Any) -> list[Any]:
    return list(await handlers.handlers()[type(event)](event))


async def tell_all(handlers: Any, events: Any) -> list[FrameReady]:
    found = [answer for event in events for answer in await tell(handlers, event)]
    return [answer for answer in found if isinstance(answer, FrameReady)]


async def frame_of_calm(bench: Any) -> FrameReady:
    """The frame of an undisturbed exposure, in the bench's own store."""
    (frame,) = await tell_all(bench.new_handlers(), bench.events)
    return frame


async def test_reads_become_one_frame_with_the_rate_of_the_light(bench: Any) -> None:
    frame = await frame_of_calm(bench)
    assert (frame.reads_used, frame.reads_expected) == (8, 8)
    assert frame.product_id == "2034B-007-123-IRIS-IMG1-SCI0-0001-L1-raw"
    with open_model(await bench.store.get(frame.object), RawFrameModel) as model:
        science = np.asarray(model.dq) & Quality.DO_NOT_USE == 0
        rate, err = np.asarray(model.data), np.asarray(model.err)
        assert science.sum() > 3000
        assert np.isfinite(rate).all()
        assert not (np.asarray(model.dq) & Quality.DROPOUT).any()
        # blank sky between stars: the scatter is the error that the frame states, give or take stars and rays
        sky = rate[science]
        spread = 1.4826 * np.median(np.abs(sky - np.median(sky)))
        assert spread == pytest.approx(float(np.median(err[science])), rel=0.1)
        assert model.meta.exposure.reads_used == 8
        assert model.meta.ref_file.crds.context_used == bench.plan.crds_context
        assert model.meta.cal_step.linearity == "COMPLETE"
        assert model.meta.product.id == frame.product_id


@pytest.mark.parametrize("seed", range(6))
async def test_any_order_and_any_repetition_give_the_same_bytes(bench: Any, tmp_path: Path, seed: int) -> None:
    shuffled = list(bench.events) + random.Random(seed).choices(bench.events, k=6)
    random.Random(seed).shuffle(shuffled)
    frames = await tell_all(bench.new_handlers(), shuffled)
    assert len({frame.object.sha256 for frame in frames}) == 1
    (tmp_path / "store" / frames[0].object.key).unlink()
    assert (await frame_of_calm(bench)).object == frames[0].object


@pytest.mark.parametrize("killed_after", range(1, 10))
async def test_a_process_killed_after_any_event_leaves_the_same_frame(bench: Any, killed_after: int) -> None:
    before = bench.new_handlers()
    frames = await tell_all(before, bench.events[:killed_after])
    # what was not acknowledged is told again to a new process, which remembers nothing
    frames += await tell_all(bench.new_handlers(), bench.events[killed_after - 1 :])
    assert frames
    assert len({frame.object.sha256 for frame in frames}) == 1


@pytest.mark.parametrize("same_process", [True, False])
@pytest.mark.parametrize("point", ["readout.fold.after", "readout.put.before", "readout.put.after"])
async def test_a_death_inside_a_handler_leaves_the_same_frame(
    bench: Any, tmp_path: Path, point: str, same_process: bool
) -> None:
    reference = await frame_of_calm(bench)
    (tmp_path / "store" / reference.object.key).unlink()
    handlers = bench.new_handlers()
    frames: list[FrameReady] = []
    crash_points.arm(point)
    for event in bench.events:
        try:
            frames += await tell_all(handlers, [event])
        except crash_points.Crash:
            handlers = handlers if same_process else bench.new_handlers()
            frames += await tell_all(handlers, [event])
    assert not crash_points.armed()
    assert [frame.object for frame in frames] == [reference.object]


async def test_references_are_fetched_before_the_first_read(bench: Any, tmp_path: Path) -> None:
    async with serving(application(bench.references), "127.0.0.1", 0) as url:
        references = HttpReferences(url, tmp_path / "fetched")
        handlers = bench.new_handlers(references=references)
        await tell(handlers, bench.started)
        fetched = {path: path.stat().st_ino for path in (tmp_path / "fetched").rglob("*.fits")}
        assert len(fetched) == 5
        (frame,) = await tell_all(handlers, bench.events)
        assert frame.reads_used == 8
        assert {path: path.stat().st_ino for path in (tmp_path / "fetched").rglob("*.fits")} == fetched
        await references.close()


async def test_reads_wait_for_a_missing_reference_and_only_the_last_one_is_refused(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    hidden = {event.object.key: (tmp_path / "store" / event.object.key).read_bytes() for event in bench.reads}
    without_reads(bench, tmp_path / "store", range(8))
    path = next((tmp_path / "store" / "observations").rglob("*.json"))
    path.chmod(0o644)
    for file in (tmp_path / "store" / ".metadata" / "observations").rglob("*.json/*.json"):
        file.unlink()
    path.write_text(bench.plan.model_copy(update={"crds_context": "tmt_9999.pmap"}).model_dump_json())
    handlers = bench.new_handlers()
    for event in bench.reads:
        (tmp_path / "store" / event.object.key).write_bytes(hidden[event.object.key])
        if event is not bench.reads[-1]:
            assert await tell(handlers, event) == []
    with pytest.raises(MissingReference, match="tmt_9999"):
        await tell(handlers, bench.reads[-1])
    path.write_text(bench.plan.model_dump_json())
    (frame,) = await tell_all(handlers, [bench.reads[-1]])
    assert frame.reads_used == 8


async def test_reads_that_come_one_by_one_and_all_at_once_give_the_same_frame(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    reference = await frame_of_calm(bench)
    (tmp_path / "store" / reference.object.key).unlink()
    hidden = {event.object.key: (tmp_path / "store" / event.object.key).read_bytes() for event in bench.reads}
    without_reads(bench, tmp_path / "store", range(8))
    handlers = bench.new_handlers()
    await tell(handlers, bench.started)
    frames = []
    for event in bench.reads:
        (tmp_path / "store" / event.object.key).write_bytes(hidden[event.object.key])
        frames += await tell_all(handlers, [event])
    assert [frame.object for frame in frames] == [reference.object]


async def test_a_read_that_never_comes_is_left_out_and_flagged_and_a_late_one_makes_a_new_version(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    late = bench.reads[2]
    data = (tmp_path / "store" / late.object.key).read_bytes()
    without_reads(bench, tmp_path / "store", [2])
    handlers = bench.new_handlers()
    rest = [event for event in bench.events if event != late]
    (first,) = await tell_all(handlers, rest)
    assert (first.reads_used, first.reads_expected) == (7, 8)
    with open_model(await bench.store.get(first.object), RawFrameModel) as model:
        assert (np.asarray(model.dq) & Quality.DROPOUT != 0).all()
    (tmp_path / "store" / late.object.key).write_bytes(data)
    (second,) = await tell_all(handlers, [late])
    assert second.reads_used == 8
    assert second.object.key != first.object.key
    (tmp_path / "store" / second.object.key).unlink()
    assert (await frame_of_calm(bench)).object == second.object


async def test_a_failed_read_is_not_waited_for(bench: Any, tmp_path: Path, without_reads: Any) -> None:
    without_reads(bench, tmp_path / "store", [7])
    last = bench.reads[7]
    identity = last.model_dump(
        include={"observation", "exposure_type", "exposure", "detector", "night", "ramp", "read"}
    )
    failed = ReadFailed(**identity, reason="link lost")
    frames = await tell_all(bench.new_handlers(), [*bench.events[:8], failed])
    assert [frame.reads_used for frame in frames] == [7]


async def test_a_truncated_read_is_refused_and_the_frame_is_made_without_it(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "store" / bench.reads[3].object.key
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:5000])
    handlers = bench.new_handlers()
    frames = await tell_all(handlers, bench.events[:4])
    with pytest.raises(CorruptObject, match="announced were"):
        await tell(handlers, bench.reads[3])
    frames += await tell_all(handlers, bench.events[5:])
    assert [frame.reads_used for frame in frames] == [7]


@pytest.mark.parametrize("wrong", ["garbage", "shape", "identity", "time"])
async def test_a_read_that_is_not_what_it_should_be_is_refused(bench: Any, tmp_path: Path, wrong: str) -> None:
    read = bench.reads[3]
    _, header = _decoded(tmp_path, read)
    _, before = _decoded(tmp_path, bench.reads[2])
    content = {
        "garbage": b"no FITS at all" * 500,
        "shape": encode_read(np.ones((128, 64), np.uint16), header.model_copy(update={"shape": (128, 64)})),
        "identity": encode_read(np.ones((64, 64), np.uint16), header.model_copy(update={"read": 1})),
        # as the read before it: times of a ramp increase
        "time": encode_read(
            np.ones((64, 64), np.uint16), header.model_copy(update={"read_time_s": before.read_time_s})
        ),
    }[wrong]
    (tmp_path / "store" / read.object.key).unlink()
    key = read.object.key[:-21] + "0" * 16 + ".fits"
    put = await bench.store.put(key, content)
    event = read.model_copy(update={"object": put.stored.ref})
    handlers = bench.new_handlers()
    frames = await tell_all(handlers, bench.events[:4])
    with pytest.raises(WrongShape if wrong == "shape" else CorruptObject):
        await tell(handlers, event)
    frames += await tell_all(handlers, bench.events[5:])
    assert [frame.reads_used for frame in frames] == [7]


def _decoded(tmp_path: Path, read: Any) -> Any:
    from irisdrs.shared.data.fits import decode_read

    return decode_read((tmp_path / "store" / read.object.key).read_bytes(), (64, 64))


@pytest.mark.parametrize("position", [0, 5, 9])
async def test_of_two_contents_for_one_read_neither_is_used(bench: Any, tmp_path: Path, position: int) -> None:
    read = bench.reads[2]
    _, header = _decoded(tmp_path, read)
    data = encode_read(np.full((64, 64), 7000, np.uint16), header)
    key = read.object.key[:-21] + "f" * 16 + ".fits"
    handlers = bench.new_handlers()
    await tell_all(handlers, bench.events[:position])
    stored = (await bench.store.put(key, data)).stored
    other = read.model_copy(update={"object": ObjectRef(**stored.ref.model_dump())})
    frames: list[FrameReady] = []
    said: list[str] = []
    for event in [other, *bench.events[position:], bench.ended]:
        try:
            answers = await tell(handlers, event)
        except ReadConflict as error:
            assert event in (other, read)
            said.append(error.message)
            continue
        frames += [answer for answer in answers if isinstance(answer, FrameReady)]
        said += [answer.message for answer in answers if isinstance(answer, ProcessingFailed)]
    assert frames[-1].reads_used == 7
    assert all("two contents" in message for message in said)
    assert said


async def test_a_missing_reference_is_said_once_and_mended_later(bench: Any, tmp_path: Path) -> None:
    elsewhere = bench.plan.model_copy(update={"crds_context": "tmt_9999.pmap"})
    plan = next((tmp_path / "store" / "observations").rglob("*.json"))
    plan.chmod(0o644)
    plan.write_text(elsewhere.model_dump_json())
    for file in (tmp_path / "store" / ".metadata" / "observations").rglob("*.json/*.json"):
        file.unlink()
    handlers = bench.new_handlers()
    with pytest.raises(MissingReference, match="tmt_9999"):
        await tell_all(handlers, bench.events)
    plan.write_text(bench.plan.model_dump_json())
    assert await tell_all(handlers, [bench.ended])


async def test_an_aborted_exposure_has_no_frame(bench: Any) -> None:
    handlers = bench.new_handlers()
    identity = bench.ended.model_dump(include={"observation", "exposure_type", "exposure", "detector", "night"})
    events = [*bench.events[:5], ExposureAborted(**identity, reason="clouds"), *bench.events[5:]]
    first = await tell_all(handlers, events[:6])
    assert [frame.reads_used for frame in first] == [8]  # all reads were in the store before the abort
    assert await tell_all(handlers, events[6:]) == []


@pytest.mark.parametrize("kept", [0, 3, 7])
async def test_a_ramp_of_one_read_has_no_slope_and_says_so(
    bench: Any, tmp_path: Path, without_reads: Any, kept: int
) -> None:
    without_reads(bench, tmp_path / "store", [position for position in range(8) if position != kept])
    (frame,) = await tell_all(bench.new_handlers(), [bench.started, bench.reads[kept], bench.ended])
    assert frame.reads_used == 1
    with open_model(await bench.store.get(frame.object), RawFrameModel) as model:
        flags = Quality.DO_NOT_USE | Quality.DROPOUT
        assert (np.asarray(model.dq) & flags == flags).all()
        for plane in (model.data, model.err, model.var_poisson, model.var_rnoise):
            np.testing.assert_array_equal(np.asarray(plane), 0)


async def test_an_exposure_without_a_usable_read_is_said_to_have_none(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    without_reads(bench, tmp_path / "store", range(8))
    with pytest.raises(Fatal, match="none of its 8 reads"):
        await tell(bench.new_handlers(), bench.ended)


async def test_the_deadline_closes_an_exposure_whose_end_was_lost(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    without_reads(bench, tmp_path / "store", [7])
    handlers = bench.new_handlers()
    (due,) = await tell(handlers, bench.started)
    assert isinstance(due, ExposureDue)
    assert await tell_all(handlers, bench.events[1:8]) == []
    early = due.model_copy(update={"due_at": datetime.now(UTC) + timedelta(hours=1)})
    with pytest.raises(NotDue):
        await tell(handlers, early)
    past = due.model_copy(update={"due_at": datetime.now(UTC) - timedelta(seconds=1)})
    (frame,) = await tell_all(handlers, [past])
    assert frame.reads_used == 7


async def test_the_deadline_makes_no_frame_of_an_exposure_whose_abort_was_never_heard(
    bench: Any, tmp_path: Path, without_reads: Any
) -> None:
    without_reads(bench, tmp_path / "store", [7])
    handlers = bench.new_handlers()
    (due,) = await tell(handlers, bench.started)
    assert await tell_all(handlers, bench.events[1:8]) == []
    identity = bench.ended.model_dump(include={"observation", "exposure_type", "exposure", "detector", "night"})
    aborted = ExposureAborted(**identity, reason="clouds")
    await bench.store.put(fact_key(aborted.night, aborted.exposure_id, "aborted"), aborted.model_dump_json().encode())
    past = due.model_copy(update={"due_at": datetime.now(UTC) - timedelta(seconds=1)})
    assert await tell_all(handlers, [past]) == []
