"""Reads whose headers lie: each costs its exposure itself, and no other read."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.readout.test_readout_exact_frames import retaken

from irisdrs.readout.planned import check_configured, check_planned
from irisdrs.readout.warming import read_header_of
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.events import Event, FrameReady, ProcessingFailed, ReadWritten
from irisdrs.shared.identifiers import ObservingMode, SamplingMode, Subarray
from irisdrs.shared.observation import Sampling
from irisdrs.shared.testing.small_observation import header_of, small_plan
from irisdrs.shared.window import Window

NIGHT = date(2030, 1, 1)
SAMPLING = Sampling(mode=SamplingMode.UTR, reads=2, ramps=2, read_time_s=1.0, shape=(8, 16))


def test_a_read_may_say_what_was_announced_as_a_card_keeps_it_and_come_late() -> None:
    header = read_header_of((8, 16))
    check_planned(header, NIGHT, SAMPLING)
    check_planned(header.model_copy(update={"read_interval_s": 1.0 + 1e-9, "read_time_s": 5.9}), NIGHT, SAMPLING)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"night": date(2030, 1, 2)}, "NIGHT is 2030-01-02, announced was 2030-01-01"),
        ({"sampling_mode": SamplingMode.CDS}, "SAMPMODE is CDS, announced was UTR"),
        ({"reads": 3, "ramps": 1}, "NUMREADS is 3, announced was 2; NUMRAMPS is 1, announced was 2"),
        ({"group_reads": 2}, "GRPREADS is 2, announced was 1"),
        ({"read_interval_s": 1.001}, "READTIME is 1.001 s, announced was 1.0 s"),
        ({"read_interval_s": 1e300}, r"READTIME is 1e\+300 s"),
        ({"read_time_s": 6.1}, "RDENDT is 6.1 s, and a ramp takes 2.0 s"),
        ({"read_time_s": 1e12}, "RDENDT is 1000000000000.0 s"),
        ({"read_time_s": 1e300}, r"RDENDT is 1e\+300 s"),
        ({"ended_at": datetime(1, 1, 1, tzinfo=UTC)}, "no time RDENDT before DATE-END 0001"),
        ({"ended_at": datetime(1, 1, 2, tzinfo=UTC)}, "began on 0001-01-01"),
        ({"ended_at": datetime(2029, 12, 30, 0, 0, 0, 500000, tzinfo=UTC)}, "began on 2029-12-29"),
        ({"ended_at": datetime(2030, 1, 4, 0, 0, 1, tzinfo=UTC)}, "began on 2030-01-04"),
    ],
)
def test_a_read_that_says_otherwise_is_none_of_its_exposure(lie: dict[str, object], words: str) -> None:
    with pytest.raises(CorruptObject, match=words):
        check_planned(read_header_of((8, 16)).model_copy(update=lie), NIGHT, SAMPLING)


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"mode": ObservingMode.LEN}, "OBSMODE is LEN, announced was IMG"),
        ({"filter": "K"}, "FILTER is K, announced was H"),
        ({"grating": "4000"}, "IFSRES is 4000, announced was MIRROR"),
        ({"scale_arcsec": 0.009}, "IFSSCALE is 0.009 arcsec, announced was 0.004 arcsec"),
    ],
)
def test_a_read_that_says_another_configuration_is_none_of_its_observation(lie: dict[str, object], words: str) -> None:
    plan = small_plan()
    header = header_of(plan, plan.exposure_ids()[0], 1)
    check_configured(header, plan)
    with pytest.raises(CorruptObject, match=words):
        check_configured(header.model_copy(update=lie), plan)


LIES: dict[str, dict[str, object]] = {
    "night": {"night": date(2034, 8, 5)},
    "mode": {"sampling_mode": SamplingMode.CDS},
    "reads": {"reads": 99999, "ramps": 9999},
    "interval": {"read_interval_s": 7.2},
    "time": {"read_time_s": 100.0},
    "year": {"ended_at": datetime(1, 1, 2, tzinfo=UTC)},
    "date": {"ended_at": datetime(2034, 7, 31, 12, tzinfo=UTC)},  # before any reference
    "filter": {"filter": "K"},
    "window": {"subarray": Subarray.SUB_ARRAY, "origin": (4000, 4000)},
    "window on it": {"subarray": Subarray.SUB_ARRAY},
    "guide window": {"guide_windows": (Window(8, 16, 8, 16),)},
    "far window": {"subarray": Subarray.SUB_ARRAY, "origin": (2**62, 2**62)},
}


async def told(handlers: Any, events: Sequence[Event]) -> tuple[list[FrameReady], list[str]]:
    """Frames with which events are answered, and why reads were left out, by their events or beside the frame."""
    frames, said = list[FrameReady](), list[str]()
    for event in events:
        try:
            answers = await handlers.handlers()[type(event)](event)
        except Fatal as problem:
            said.append(problem.message)
            continue
        frames += [answer for answer in answers if isinstance(answer, FrameReady)]
        said += [answer.message for answer in answers if isinstance(answer, ProcessingFailed)]
    return frames, said


@pytest.mark.parametrize("lie", LIES)
async def test_a_first_read_that_lies_is_left_out_and_all_others_are_used(bench: Any, tmp_path: Path, lie: str) -> None:
    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        lies = (header.ramp, header.read) == (1, 1)
        return pixels, header.model_copy(update=LIES[lie]) if lies else header

    events = await retaken(bench, tmp_path / "store", change)
    frames, said = await told(bench.new_handlers(), events)
    (frame,) = frames
    assert (frame.reads_used, frame.night) == (7, bench.plan.night)
    assert len(said) == 1
    (tmp_path / "store" / frame.object.key).unlink()
    again, _ = await told(bench.new_handlers(), [bench.ended])
    assert [one.object for one in again] == [frame.object]


@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4, 5, 6, 7), (7, 6, 5, 4, 3, 2, 1, 0), (2, 0, 1, 4, 7, 3, 6, 5)])
@pytest.mark.parametrize("liar", [(1, 1), (1, 2), (2, 4)])
async def test_the_window_is_what_two_reads_say_in_whatever_order_they_come(
    bench: Any, tmp_path: Path, liar: tuple[int, int], order: tuple[int, ...]
) -> None:
    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        return pixels, header.model_copy(update=LIES["window on it"] if (header.ramp, header.read) == liar else {})

    reads = [event for event in await retaken(bench, tmp_path / "store", change) if isinstance(event, ReadWritten)]
    (reference,), _ = await told(bench.new_handlers(), [bench.ended])
    data = {read.object.key: (tmp_path / "store" / read.object.key).read_bytes() for read in reads}
    for key in (*data, reference.object.key):
        (tmp_path / "store" / key).unlink()
    handlers, frames, said = bench.new_handlers(), list[FrameReady](), list[str]()
    for read in (reads[position] for position in order):
        (tmp_path / "store" / read.object.key).write_bytes(data[read.object.key])
        more, why = await told(handlers, [read])
        frames, said = frames + more, said + why
    assert [frame.object for frame in frames] == [reference.object]
    assert reference.reads_used == 7
    assert all("another window of the detector" in words for words in said)


async def test_what_a_lie_has_cost_comes_back_when_the_lie_is_found(bench: Any, tmp_path: Path) -> None:
    lie = {"read_time_s": 8.0, "ended_at": datetime(2034, 8, 1, 0, 0, 8, tzinfo=UTC)}

    def change(pixels: NDArray[np.uint16], header: ReadHeader) -> tuple[NDArray[np.uint16], ReadHeader]:
        return pixels, header.model_copy(update=lie if (header.ramp, header.read) == (1, 1) else {})

    truth = (tmp_path / "store" / bench.reads[0].object.key).read_bytes()
    events = await retaken(bench, tmp_path / "store", change)
    handlers = bench.new_handlers()
    await told(handlers, events)
    (tmp_path / "store" / bench.reads[0].object.key).write_bytes(truth)
    frames, said = await told(handlers, [bench.reads[0]])
    assert any("two contents" in words for words in said)
    (frame,) = frames
    assert frame.reads_used == 7
    (tmp_path / "store" / frame.object.key).unlink()
    again, _ = await told(bench.new_handlers(), [bench.ended])
    assert [one.object for one in again] == [frame.object]
