"""Pictures of an exposure that is read out: true to the pixels, at most one a second, never in the frame's way."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from irisdrs.readout.preview import INTERVAL_S, Turn, picture, step_for
from irisdrs.shared.events import Event, FrameReady, PreviewUpdated, ReadWritten
from irisdrs.shared.quality import Quality


def greys(data: bytes) -> NDArray[np.uint8]:
    """The picture, the first row of the frame first."""
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "L"
        return np.array(image)[::-1]


def plane(shape: tuple[int, int], value: float = 0.0) -> NDArray[np.float32]:
    return np.full(shape, value, np.float32)


def good(shape: tuple[int, int]) -> NDArray[np.uint32]:
    return np.zeros(shape, np.uint32)


def test_a_small_frame_keeps_its_pixels_and_their_order() -> None:
    rate = np.arange(24, dtype=np.float32).reshape(4, 6)
    shown = greys(picture(rate, good((4, 6))))
    assert shown.shape == (4, 6)
    assert (np.diff(shown.ravel().astype(int)) >= 0).all()
    assert shown[0, 0] < shown[-1, -1]


@pytest.mark.parametrize(
    ("shape", "expected"), [((4096, 4096), (512, 512)), ((2048, 512), (512, 128)), ((8, 3), (8, 3))]
)
def test_a_large_frame_becomes_small(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    rate = plane(shape)
    rate[: shape[0] // 2, : shape[1] // 2] = 10.0
    shown = greys(picture(rate, good(shape)))
    assert shown.shape == expected
    bright = shown == shown[0, 0]
    assert bright.sum() == (expected[0] // 2) * (expected[1] // 2)
    assert bright[: expected[0] // 2, : expected[1] // 2].all()


@pytest.mark.parametrize(
    ("shape", "expected"), [((1, 4096), (1, 512)), ((4, 4096), (1, 512)), ((2048, 1), (512, 1)), ((1, 1), (1, 1))]
)
def test_a_thin_window_has_a_picture_all_the_same(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    rate = plane(shape)
    rate[: -(-shape[0] // 2), : -(-shape[1] // 2)] = 10.0
    shown = greys(picture(rate, good(shape)))
    assert shown.shape == expected
    bright = shown == shown[0, 0]
    assert bright.sum() == -(-max(expected) // 2)
    assert bright.ravel()[: bright.sum()].all()


def test_pixels_that_must_not_be_used_are_left_out() -> None:
    rate, dq = plane((1024, 1024), 5.0), good((1024, 1024))
    rate[::2, ::2], dq[::2, ::2] = 1e6, np.uint32(Quality.DO_NOT_USE)
    rate[100:108, 100:108] = np.nan
    shown = greys(picture(rate, dq))
    assert (shown[50:54, 50:54] == 0).all()  # nothing is known of them
    shown[50:54, 50:54] = shown[0, 0]
    assert len(np.unique(shown)) == 1


@pytest.mark.parametrize(("shape", "step"), [((64, 64), 1), ((2048, 2048), 1), ((4096, 4096), 2), ((100, 8192), 4)])
def test_a_picture_needs_every_so_many_pixels(shape: tuple[int, int], step: int) -> None:
    assert step_for(shape) == step


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_a_frame_of_one_value_or_of_none_has_a_picture(value: float) -> None:
    assert greys(picture(plane((16, 16), value), good((16, 16)))).shape == (16, 16)


def test_at_most_one_each_second() -> None:
    now = [0.0]
    turn = Turn(clock=lambda: now[0])
    taken = 0
    for now[0] in np.arange(0.0, 10.0, 0.1):
        taken += turn.take()
    assert taken == 10.0 / INTERVAL_S


async def tell_all(bench: Any, root: Path, *, eager: bool = True) -> list[Event]:
    """Tell an exposure whose reads come into the store one by one; eager: a picture of every read."""
    handlers = bench.new_handlers()
    if eager:
        handlers._preview_turn = Turn(interval_s=0.0)
    reads = {event: (root / event.object.key).read_bytes() for event in bench.reads}
    for event in reads:
        (root / event.object.key).unlink()
    answers: list[Event] = []
    for event in bench.events:
        if isinstance(event, ReadWritten):
            (root / event.object.key).write_bytes(reads[event])
        answers += await handlers.handlers()[type(event)](event)
    return answers


async def test_reads_are_seen_before_the_frame(bench: Any, tmp_path: Path) -> None:
    answers = await tell_all(bench, tmp_path / "store")
    previews = [one for one in answers if isinstance(one, PreviewUpdated)]
    # One read has no slope; with the eighth the frame is there.
    assert [one.read for one in previews] == [2, 3, 4, 5, 6, 7]
    assert {one.reads for one in previews} == {8}
    assert {one.object.media_type for one in previews} == {"image/png"}
    for one in previews:
        assert greys(await bench.store.get(one.object)).shape == (64, 64)
    assert sum(isinstance(one, FrameReady) for one in answers) == 1


async def test_a_picture_changes_nothing_of_the_frame(bench: Any, tmp_path: Path) -> None:
    (calm,) = [one for one in await tell_all(bench, tmp_path / "store", eager=False) if isinstance(one, FrameReady)]
    (tmp_path / "store" / calm.object.key).unlink()
    (frame,) = [one for one in await tell_all(bench, tmp_path / "store") if isinstance(one, FrameReady)]
    assert frame.object == calm.object


async def test_a_store_that_takes_no_picture_stops_no_read(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "store" / "previews").write_text("in the way")
    answers = await tell_all(bench, tmp_path / "store")
    assert [type(one) for one in answers if isinstance(one, FrameReady | PreviewUpdated)] == [FrameReady]
