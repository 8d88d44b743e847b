"""Windows of a detector: references, output channels and reference pixels that they have, and what their reads say."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from typer.testing import CliRunner

from irisdrs.crds_proxy.main import open_references
from irisdrs.readout import constants
from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.calibration import REFERENCE_TYPES, Calibration, calibrate_for
from irisdrs.readout.cli import app
from irisdrs.readout.coadding import frame_of
from irisdrs.readout.estimation import estimation_of
from irisdrs.readout.exposure import Exposure
from irisdrs.readout.membership import Membership
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.readout.warming import read_header_of
from irisdrs.shared.data.fits import decode_read, encode_read, open_model, read_header
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, WrongShape
from irisdrs.shared.identifiers import SamplingMode, Subarray
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

#: Not square, and wider than three output channels of 64 columns.
SHAPE, BORDER = (40, 224), 4


def detector(border: int = BORDER, mask: NDArray[np.uint32] | None = None) -> Calibration:
    """A detector on which no two pixels are alike."""
    rng = np.random.default_rng(3)
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1] = rng.uniform(0.9, 1.1, SHAPE)
    coefficients[2] = rng.uniform(0, 1e-6, SHAPE)
    return calibrate_for(
        mask=np.zeros(SHAPE, np.uint32) if mask is None else mask,
        coefficients=coefficients,
        coefficients_dq=np.zeros(SHAPE, np.uint32),
        saturation=rng.uniform(5200, 6000, SHAPE).astype(np.float32),
        saturation_dq=np.zeros(SHAPE, np.uint32),
        gain=rng.uniform(1, 3, SHAPE).astype(np.float32),
        read_noise=rng.uniform(5, 9, SHAPE).astype(np.float32),
        border=border,
    )


def ramp() -> list[NDArray[np.uint16]]:
    rng = np.random.default_rng(4)
    return [(rng.integers(4000, 4030, SHAPE) + 300 * k + k * rng.integers(0, 60)).astype(np.uint16) for k in range(5)]


def frame(processor: Processor, calibration: Calibration, reads: list[NDArray[np.uint16]]) -> RateFrame:
    state = processor.open(calibration, SamplingMode.UTR, 4.0)
    for k, read in enumerate(reads):
        processor.fold(state, read, float(k))
    return processor.close(state)


def of_window(processor: Processor, calibration: Calibration, window: Window) -> RateFrame:
    reads = [np.ascontiguousarray(read[window.slices]) for read in ramp()]
    return frame(processor, calibration.cut(window), reads)


PLANES = ("data", "err", "var_poisson", "var_rnoise")

#: All rows of whole channels, with both edges: one of two channels, one that ends with the detector.
WHOLE_CHANNELS = (Window(0, 40, 64, 192), Window(0, 40, 128, 224))


@pytest.mark.parametrize("window", WHOLE_CHANNELS)
def test_a_window_of_whole_channels_is_the_window_of_the_frame(processor: Processor, window: Window) -> None:
    whole, part = frame(processor, detector(), ramp()), of_window(processor, detector(), window)
    for name in (*PLANES, "dq"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window.slices])
    science = np.zeros(SHAPE, np.bool_)
    science[BORDER:-BORDER, BORDER:-BORDER] = True
    saturated = (whole.dq & Quality.SATURATED) != 0
    assert 0 < part.saturated_fraction == pytest.approx(saturated[window.slices][science[window.slices]].mean())


@pytest.mark.parametrize("window", [Window(7, 23, 70, 201), Window(0, 1, 0, 1), Window(39, 40, 63, 66)])
def test_where_no_pixel_is_a_reference_any_window_is_that_of_the_frame(processor: Processor, window: Window) -> None:
    whole, part = frame(processor, detector(border=0), ramp()), of_window(processor, detector(border=0), window)
    for name in (*PLANES, "dq"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window.slices])


@pytest.mark.parametrize("window", [Window(0, 21, 64, 128), Window(2, 21, 64, 128), Window(0, 3, 64, 128)])
def test_one_edge_is_enough(processor: Processor, window: Window) -> None:
    lost = np.zeros(SHAPE, np.uint32)
    lost[: window.row0] = lost[min(window.row1, BORDER) : BORDER] = lost[-BORDER:] = Quality.BAD_REF_PIXEL
    whole, part = frame(processor, detector(mask=lost), ramp()), of_window(processor, detector(), window)
    for name in PLANES:
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[window.slices])
    assert not (part.dq & Quality.UNRELIABLE_BIAS).any()


def test_odd_and_even_columns_and_channels_are_those_of_the_detector(processor: Processor) -> None:
    # Offsets of channels and parities that change from read to read would be rates if they were mixed up.
    rng = np.random.default_rng(5)
    outputs = rng.integers(0, 900, (5, 4, 2)).repeat(32, axis=1).reshape(5, -1)[:, : SHAPE[1]]
    reads = [(3000 + 10 * k + outputs[k] + np.zeros(SHAPE)).astype(np.uint16) for k in range(5)]
    for read in reads:
        read[:BORDER] -= np.uint16(7)  # so that the edges are not the science pixels
    window = Window(1, 30, 61, 131)
    part = frame(processor, detector().cut(window), [read[window.slices].copy() for read in reads])
    edge = [read.astype(float) - np.add(outputs[k], 2993) for k, read in enumerate(reads)]
    a1, a2 = (detector().terms[i][window.slices].astype(np.float64) for i in (0, 1))
    signal = np.array([one[window.slices] for one in edge])
    expected = np.tensordot(np.arange(-2, 3) / 10, a1 * signal + a2 * signal**2, 1)
    # The reference pixels grow by 10 DN from read to read as all others do.
    science = (part.dq & Quality.DO_NOT_USE) == 0
    assert science.sum() == (30 - BORDER) * 70
    drift = np.tensordot(np.arange(-2, 3) / 10, np.arange(5) * 10.0, 1)
    np.testing.assert_allclose(part.data[science], (expected - a1 * drift)[science], atol=2e-3)


def test_a_window_says_what_it_has() -> None:
    full = (4096, 4096)
    corner, inner, top = Window(0, 100, 2, 66), Window(1000, 1100, 640, 768), Window(4094, 4096, 4093, 4096)
    assert [list(one.channels(64)) for one in (corner, inner, top)] == [[0, 1], [10, 11], [63]]
    assert [one.border(full, 4) for one in (corner, inner, top)] == [(4, 0, 2, 0), (0, 0, 0, 0), (0, 2, 0, 3)]
    assert Window.at((0, 0), full).border(full, 4) == (4, 4, 4, 4)
    assert inner.shape == (100, 128)
    assert inner.section == "[641:768,1001:1100]"
    assert Window.parse(" [641:768, 1001:1100]") == inner
    for wrong in ("[0:5,1:5]", "[5:4,1:5]", "641:768,1001:1100", ""):
        with pytest.raises(ValueError, match=r"no window|no image section"):
            Window.parse(wrong)


def test_a_window_without_reference_pixels_stays_as_it_is_and_says_so() -> None:
    inner = detector().cut(Window(10, 20, 64, 128))
    assert not inner.usable.any()
    assert not inner.usable_sides.any()
    assert (inner.dq == Quality.UNRELIABLE_BIAS).all()
    corner = detector().cut(Window(0, 20, 0, 70))
    assert corner.usable[0].all()
    assert not corner.usable[1].any()
    assert corner.usable_sides[0].all()
    assert not corner.usable_sides[1].any()
    assert corner.science == (slice(4, 20), slice(4, 70))
    assert not (corner.dq & Quality.UNRELIABLE_BIAS).any()
    beside = detector().cut(Window(10, 20, 222, 224))
    assert beside.usable_sides.shape == (2, 10, 2)
    assert beside.usable_sides[1].all()
    assert not beside.usable_sides[0].any()
    assert beside.science == (slice(0, 10), slice(0, 0))
    for outside in (Window(0, 41, 0, 10), Window(30, 40, 220, 225)):
        with pytest.raises(WrongShape, match="does not lie within 40 x 224 pixels"):
            detector().cut(outside)
    with pytest.raises(WrongShape, match="of a window themselves"):
        corner.cut(Window(0, 5, 0, 5))


def test_the_calibration_of_a_window_keeps_nothing_of_the_rest_in_memory() -> None:
    whole = detector()
    cut = whole.cut(Window(0, 40, 0, 224))
    for name in ("threshold", "terms", "gain", "read_noise", "dq"):
        assert not np.may_share_memory(getattr(cut, name), getattr(whole, name))
    for plane in (cut.threshold, *cut.terms, cut.gain, cut.read_noise, cut.dq):
        assert plane.flags.c_contiguous


def test_pixels_of_a_guide_window_are_given_up_in_the_full_frame(processor: Processor) -> None:
    guides = (Window(10, 14, 100, 110), Window(0, 8, 60, 64))
    plain, without = detector(), detector().without(guides)
    given_up = np.zeros(SHAPE, np.bool_)
    for guide in guides:
        given_up[guide.slices] = True
    flags = np.where(given_up, np.uint32(Quality.NON_SCIENCE | Quality.DO_NOT_USE), np.uint32(0))
    np.testing.assert_array_equal(without.dq, plain.dq | flags)
    np.testing.assert_array_equal(without.usable[0], ~given_up[:BORDER])
    assert without.usable[1].all()
    reads = ramp()
    for k, read in enumerate(reads):
        for guide in guides:
            read[guide.slices] = 900 * (k + 1)  # what it reads there is of other times
    disturbed, calm = frame(processor, without, reads), frame(processor, without, ramp())
    for name in PLANES:
        np.testing.assert_array_equal(getattr(disturbed, name)[~given_up], getattr(calm, name)[~given_up])
    part = detector().cut(Window(5, 20, 105, 180)).without(guides)
    assert np.argwhere(part.dq & Quality.NON_SCIENCE).tolist() == [[y, x] for y in range(5, 9) for x in range(5)]
    assert plain.without(()) is plain
    all_of_them = detector().without([Window(0, 40, 64, 128)])
    assert np.flatnonzero((all_of_them.dq & Quality.UNRELIABLE_BIAS).any(axis=0)).tolist() == list(range(64, 128))


def test_a_read_says_its_window_and_its_guide_windows() -> None:
    guides = (Window(100, 120, 7, 30), Window(0, 4, 0, 4))
    header = read_header_of((8, 16)).model_copy(
        update={"subarray": Subarray.SUB_ARRAY, "origin": (100, 640), "guide_windows": guides}
    )
    header = ReadHeader.model_validate(header.model_dump())
    _, back = decode_read(encode_read(np.zeros((8, 16), np.uint16), header), (8, 16))
    assert back == header
    assert back.window == Window(100, 108, 640, 656)
    cards = {keyword: value for keyword, value, _ in header.cards()}
    said = {name: cards[name] for name in ("SARRMODE", "XSTART", "YSTART", "XSIZE", "YSIZE", "ODGW1SEC", "ODGW2SEC")}
    assert said == {
        "SARRMODE": "SUB_ARRAY",
        "XSTART": 641,
        "YSTART": 101,
        "XSIZE": 16,
        "YSIZE": 8,
        "ODGW1SEC": "[8:30,101:120]",
        "ODGW2SEC": "[1:4,1:4]",
    }
    assert header.crds_parameters()["meta.subarray.name"] == "SUB_ARRAY"


def test_a_full_frame_is_one_whatever_it_is_called() -> None:
    plain = read_header_of((8, 16))
    assert plain.window is None
    cards = {keyword: value for keyword, value, _ in plain.cards()}
    assert not [keyword for keyword in cards if keyword.startswith("ODGW")]
    assert ReadHeader.from_cards(cards | {"SARRMODE": "FULL_FRAME"}) == plain
    older = {keyword: value for keyword, value in cards.items() if keyword not in ("SARRMODE", "XSTART", "YSTART")}
    assert ReadHeader.from_cards(older) == plain
    for wrong in ({"XSTART": 5}, {"SARRMODE": "HALF"}, {"YSTART": 0}, {"ODGW1SEC": "here"}, {"ODGW3SEC": 7}):
        with pytest.raises(CorruptObject):
            ReadHeader.from_cards(cards | wrong)


async def test_reads_of_a_window_become_a_frame_of_it(
    bench: Any, tmp_path: Path, exposure: Any, processor: Processor
) -> None:
    window = Window(0, 40, 10, 60)
    update = {"subarray": Subarray.SUB_ARRAY, "origin": (0, 10), "shape": window.shape, "ramps": 1}
    asking = read_header(tmp_path / "store" / bench.reads[0].object.key).model_copy(update=update)
    found = await open_references(exposure[2]).best_references(
        asking.crds_parameters(), REFERENCE_TYPES, bench.plan.crds_context
    )
    paths = {kind: one.path for kind, one in found.items()}
    folder = tmp_path / "window"
    folder.mkdir()
    parts, times = [], []
    for number, event in enumerate(bench.reads[:4]):
        pixels, header = decode_read((tmp_path / "store" / event.object.key).read_bytes(), (64, 64))
        part = np.ascontiguousarray(pixels[window.slices])
        (folder / f"{number}.fits").write_bytes(encode_read(part, header.model_copy(update=update)))
        parts.append(part)
        times.append(header.read_time_s)
    calibration = constants.load(paths, (64, 64)).cut(window)
    expected = frame_of(processor.fit(np.stack(parts), calibration, np.array(times)), calibration)
    output = tmp_path / "frame.fits"
    options = [option for kind, path in paths.items() for option in (f"--{kind}", str(path))]
    result = CliRunner().invoke(app, ["fit", str(folder), *options, "--output", str(output), "--json"])
    assert result.exit_code == 0, result.output
    with open_model(output, RawFrameModel) as model:
        np.testing.assert_array_equal(np.asarray(model.data), expected.data)
        np.testing.assert_array_equal(np.asarray(model.dq), expected.dq)
    with fits.open(output) as hdus:
        said = {name: hdus[0].header[name] for name in ("SARRMODE", "XSTART", "YSTART", "XSIZE", "YSIZE")}
    assert said == {"SARRMODE": "SUB_ARRAY", "XSTART": 11, "YSTART": 1, "XSIZE": 50, "YSIZE": 40}
    outside = header.model_copy(update={"subarray": Subarray.ODGW, "origin": (60, 60), "shape": (8, 8)})
    with pytest.raises(WrongShape, match="does not lie within"):
        constants.load_for(paths, outside)


def test_an_exposure_is_of_one_window(processor: Processor, tmp_path: Path) -> None:
    first = read_header_of((8, 16)).model_copy(update={"subarray": Subarray.SUB_ARRAY, "origin": (3, 40)})
    sampling = Sampling(mode=SamplingMode.UTR, reads=2, ramps=2, read_time_s=1.0, shape=(8, 16))
    exposure = Exposure(Membership(first.exposure_id, sampling), first.night, estimation_of(sampling))
    exposure.calibration = detector().cut(Window(3, 11, 40, 56))
    pixels = np.zeros((8, 16), np.uint16)
    second = first.model_copy(update={"read": 2})
    _, back = exposure.decode((1, 1), encode_read(pixels, first))
    assert exposure.locate((1, 1), back)
    exposure.open(exposure.begin(processor, Room(DEFAULT_BYTES, tmp_path)), back)
    _, back = exposure.decode((1, 2), encode_read(pixels, second))
    assert exposure.locate((1, 2), back)
    for wrong, words in (
        ({"origin": (3, 41)}, r"\[42:57,4:11\], not \[41:56,4:11\]"),
        ({"origin": (0, 0), "subarray": Subarray.FULL}, "FULL, not"),
        ({"guide_windows": (Window(0, 2, 0, 3),)}, r"guiding in \[1:3,1:2\]"),
    ):
        _, back = exposure.decode((1, 2), encode_read(pixels, second.model_copy(update=wrong)))
        for _ in range(2):  # as often as it is tried
            with pytest.raises(CorruptObject, match=words):
                exposure.locate((1, 2), back)
