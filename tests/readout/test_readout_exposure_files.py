"""Files of reads and ramps: what they become, and what is wrong with them."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from irisdrs.readout.exposure_files import open_exposure
from irisdrs.readout.exposure_reads import ExposureReads
from irisdrs.readout.given_references import calibration_of
from irisdrs.readout.ramp_models import marked, of_ramp, timed, to_ramp
from irisdrs.shared.data.fits import encode_read, open_ramp, read_header, to_bytes
from irisdrs.shared.data.models import GainModel, RampModel
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference, ReadConflict
from irisdrs.shared.identifiers import SamplingMode as Mode
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

SHAPE = (6, 8)
#: Rates of the pixels, DN a read, whole numbers.
STEP = np.arange(1, 49).reshape(SHAPE) * 20


def reads_of(bench: Any, tmp_path: Path) -> list[Path]:
    return [tmp_path / "store" / read.object.key for read in bench.reads]


def rewritten(read: Path, path: Path, **changes: Any) -> Path:
    """A read whose header says something else, and whose pixels are all 7."""
    header = read_header(read).model_copy(update=changes)
    path.write_bytes(encode_read(np.full(header.shape, 7, np.uint16), header))
    return path


def foreign(path: Path, reads: int = 4, ramps: int = 1, cards: Mapping[str, Any] = MappingProxyType({})) -> Path:
    """The ramp of another program: straight, without noise, as floats."""
    pixels = np.stack([1000 + k * STEP for k in range(reads)])
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    fits.HDUList([primary, fits.ImageHDU(np.stack([pixels] * ramps).astype(">f4"), name="SCI")]).writeto(path)
    return path


def test_reads_become_the_ramps_of_their_exposure(bench: Any, tmp_path: Path) -> None:
    reads = reads_of(bench, tmp_path)
    first = read_header(reads[0])
    found = open_exposure([*reversed(reads)])
    assert [len(ramp.times_s) for ramp in found.ramps] == [4, 4]
    np.testing.assert_allclose(found.ramps[1].times_s, np.arange(1, 5) * 0.72)
    assert (found.number, found.expected, found.mode, found.foreign) == (8, 8, Mode.UTR, False)
    assert (found.identity, found.reset) == (first.exposure_id, first.started_at)
    second = read_header(reads[4]).started_at
    assert [ramp.reset_s for ramp in found.ramps] == [0.0, (second - first.started_at).total_seconds()]
    assert found.crds_parameters == first.crds_parameters()
    missing = open_exposure([reads[0], reads[3], reads[5]])
    assert [ramp.times_s.tolist() for ramp in missing.ramps] == [[0.72, 2.88], [1.44]]
    assert (missing.number, missing.expected) == (3, 8)


@pytest.mark.parametrize("positions", [range(8), [0, 2, 3, 5]])
def test_a_packed_ramp_is_the_same_exposure(bench: Any, tmp_path: Path, positions: Any) -> None:
    found = open_exposure([reads_of(bench, tmp_path)[k] for k in positions])
    path = tmp_path / "ramp.fits"
    path.write_bytes(to_bytes(to_ramp(found)))
    packed = open_exposure([path])
    for name in ("shape", "crds_parameters", "expected", "mode", "reset", "window", "identity", "number"):
        assert getattr(packed, name) == getattr(found, name), name
    assert packed.facts["exposure"]["photons_end"] == found.facts["exposure"]["photons_end"]
    assert len(packed.ramps) == len(found.ramps)
    for one, other in zip(packed.ramps, found.ramps, strict=True):
        np.testing.assert_array_equal(one.times_s, other.times_s)
        assert one.reset_s == other.reset_s
        for k in range(len(other.times_s)):
            np.testing.assert_array_equal(one.reads[k], other.reads[k])


def test_a_packed_ramp_keeps_windows_and_what_is_left_out(bench: Any, tmp_path: Path) -> None:
    guide = Window.parse("[9:12,17:20]")
    reads = [
        rewritten(read, tmp_path / f"{k}.fits", guide_windows=(guide,))
        for k, read in enumerate(reads_of(bench, tmp_path)[:3])
    ]
    model = to_ramp(open_exposure(reads))
    model.use_read = np.array([[1, 1, 0]], np.uint8)
    model.use_interval = np.array([[0, 1]], np.uint8)
    path = tmp_path / "ramp.fits"
    path.write_bytes(to_bytes(model))
    found = open_exposure([path])
    assert found.guide_windows == (guide,)
    assert found.ramps[0].use_read.tolist() == [True, True, False]
    assert found.ramps[0].use_interval.tolist() == [False, True]
    model.meta.subarray.name, model.meta.subarray.xstart, model.meta.subarray.ystart = "SUB_ARRAY", 3, 5
    assert of_ramp(model).window == Window.at((4, 2), (64, 64))


def test_an_interval_around_a_missing_read_is_left_out_if_a_part_of_it_is() -> None:
    model = RampModel(data=np.full((1, 4, *SHAPE), 9, np.uint16))
    model.read_times = np.array([[1.0, np.nan, 3.0, 4.0]])
    model.use_interval = np.array([[1, 0, 1]], np.uint8)
    (ramp,) = of_ramp(model).ramps
    assert (ramp.times_s.tolist(), ramp.use_interval.tolist()) == ([1.0, 3.0, 4.0], [False, True])
    (slower,) = of_ramp(timed(model, 2.0, ())).ramps
    assert slower.times_s.tolist() == [2.0, 6.0, 8.0], "the read stays missing"


def test_marks_of_what_is_left_out_come_back_around_a_missing_read() -> None:
    model = RampModel(data=np.full((1, 5, *SHAPE), 9, np.uint16))
    model.read_times = np.array([[1.0, np.nan, 3.0, 4.0, 5.0]])
    found = of_ramp(model)
    ramp = found.ramps[0]
    left = replace(ramp, use_read=np.array([1, 1, 1, 0]) != 0, use_interval=np.array([0, 1, 1]) != 0)
    made = marked(model, replace(found, ramps=(left,)))
    assert made.use_read.tolist() == [[1, 0, 1, 1, 0]]
    assert made.use_interval.tolist() == [[0, 0, 1, 1]]
    (back,) = of_ramp(made).ramps
    np.testing.assert_array_equal(back.use_read, left.use_read)
    np.testing.assert_array_equal(back.use_interval, left.use_interval)
    assert not model.hasattr("use_read")


def test_the_times_of_a_foreign_ramp_are_given_or_said(tmp_path: Path) -> None:
    silent = foreign(tmp_path / "silent.fits", ramps=2)
    with pytest.raises(Fatal, match="--read-time"):
        open_exposure([silent])
    given = open_exposure([silent], 0.5)
    assert given.foreign
    assert (given.identity, given.reset, given.mode, given.expected) == (None, None, Mode.UTR, 8)
    assert [ramp.times_s.tolist() for ramp in given.ramps] == [[0.5, 1.0, 1.5, 2.0]] * 2
    assert np.isnan(given.ramps[1].reset_s)
    said = foreign(tmp_path / "said.fits", cards={"TGROUP": 2.0, "DATE-OBS": "2034-08-01T05:00:00.5"})
    assert open_exposure([said]).ramps[0].times_s.tolist() == [2.0, 4.0, 6.0, 8.0]
    assert open_exposure([said]).reset == datetime(2034, 8, 1, 5, 0, 0, 500000, tzinfo=UTC)
    assert open_exposure([said], 1.0).ramps[0].times_s.tolist() == [1.0, 2.0, 3.0, 4.0], "what is given goes first"
    resets = ["2034-08-01T05:00:00", "2034-08-01T06:00:20.25+01:00"]
    dated = open_exposure([silent], 0.5, resets)
    assert [ramp.reset_s for ramp in dated.ramps] == [0.0, 20.25]
    assert dated.reset == datetime(2034, 8, 1, 5, tzinfo=UTC)
    for resets, reason in (
        (["2034-08-01T05:00:00"], "1 resets are given for 2"),
        (["noon", "one"], "no time of a reset"),
        (["0001-01-01T00:00:00+14:00"] * 2, "no time of a reset"),
    ):
        with pytest.raises(Fatal, match=reason):
            open_exposure([silent], 0.5, resets)
    for wrong in (0.0, -1.0, float("nan"), float("inf"), 1e-300, 0.9e-6, 1.1e7, 1e300):
        with pytest.raises(Fatal, match="A read cannot take"):
            open_exposure([silent], wrong)
    with pytest.raises(Fatal, match="does not say how long a read takes"):
        open_exposure([silent])


def test_reads_that_are_not_of_one_exposure_say_so(bench: Any, tmp_path: Path) -> None:
    reads = reads_of(bench, tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged.fits").write_bytes(reads[1].read_bytes()[:3000])
    end = read_header(reads[1]).ended_at
    copy = tmp_path / "copy.fits"
    copy.write_bytes(reads[0].read_bytes())
    late: Any = {"read_time_s": 0.5, "ended_at": end - timedelta(seconds=0.94)}
    for given, error, words in (
        ([tmp_path / "empty"], Fatal, "no FITS file"),
        ([reads[0], copy], Fatal, "another file is too"),
        ([reads[0], rewritten(reads[0], tmp_path / "other.fits")], ReadConflict, "with different content"),
        ([reads[0], rewritten(reads[1], tmp_path / "exp.fits", exposure=99)], Fatal, "or one is of another window"),
        ([reads[0], rewritten(reads[1], tmp_path / "size.fits", shape=(64, 32))], Fatal, "or one is of another window"),
        ([reads[0], rewritten(reads[1], tmp_path / "time.fits", **late)], Fatal, "reads 1 and 2 end 0.72 s and 0.5 s"),
        ([reads[0], tmp_path / "damaged.fits"], CorruptObject, "damaged.fits: Cannot read the read"),
        ([foreign(tmp_path / "a.fits"), reads[0]], CorruptObject, r"a.fits: .*'BINTABLE'\. .* or one ramp alone"),
    ):
        with pytest.raises(error, match=words) as found:
            open_exposure(given)
        assert found.value.remedy, words
    image = tmp_path / "image.fits"
    fits.PrimaryHDU(np.ones((4, 5), np.int16)).writeto(image)
    for no_ramp in (reads[:2], [image], [tmp_path / "a.fits", image]):
        with pytest.raises(Fatal, match="Times are for one ramp alone"):
            open_exposure(no_ramp, 0.72)


def test_arrays_of_a_ramp_go_together() -> None:
    for name, array in (
        ("read_times", np.ones((2, 3))),
        ("reset_times", np.zeros(2)),
        ("use_read", np.ones((1, 3), np.uint8)),
        ("use_interval", np.ones((1, 4), np.uint8)),
    ):
        model = RampModel(data=np.full((1, 4, *SHAPE), 9, np.uint16))
        model.read_times = np.array([[1.0, 2.0, 3.0, 4.0]])
        setattr(model, name, array)
        with pytest.raises(CorruptObject, match=f"{name} are not those of 1 ramps of 4 reads"):
            of_ramp(model)
    with pytest.raises(CorruptObject, match="no image of ramps"):
        of_ramp(RampModel())


def test_one_read_alone_is_a_ramp(tmp_path: Path) -> None:
    path = tmp_path / "ramp.fits"
    found = open_exposure([foreign(tmp_path / "foreign.fits", reads=1)], 0.5)
    path.write_bytes(to_bytes(to_ramp(found)))
    (ramp,) = open_exposure([path]).ramps
    assert (ramp.times_s.tolist(), ramp.use_read.tolist(), ramp.use_interval.tolist()) == ([0.5], [True], [])


def test_times_of_a_ramp_must_increase() -> None:
    model = RampModel(data=np.full((2, 3, *SHAPE), 9, np.uint16))
    with pytest.raises(Fatal, match="no times"):
        of_ramp(model)
    for times, reason in (
        ([[1.0, 2.0, 3.0], [1.0, 3.0, 3.0]], "ramp 2 do not increase: reads 2 and 3 end 3 s and 3 s"),
        ([[-1.0, 2.0, 3.0], [1.0, 2.0, 3.0]], "ramp 1 do not increase"),
        ([[1.0, np.inf, 3.0], [1.0, 2.0, 3.0]], "ramp 1 do not increase"),
        ([[1.0, np.inf, np.inf], [1.0, 2.0, 3.0]], "ramp 1 do not increase"),
        ([[1.0, 2.0, 3.0], [1.0, 2.0, np.inf]], "ramp 2 are no times of reads: reads 2 and 3 end 2 s and inf s"),
        ([[1e300, 2e300, 3e300], [1.0, 2.0, 3.0]], "ramp 1 are no times of reads"),
        ([[1e-300, 2e-300, 3e-300], [1.0, 2.0, 3.0]], "ramp 1 are no times of reads: reads 1 and 2"),
        ([[1.0, 1.0 + 0.9e-6, 3.0], [1.0, 2.0, 3.0]], "ramp 1 are no times of reads: reads 1 and 2"),
        ([[1.1e7, 1.2e7, 1.3e7], [1.0, 2.0, 3.0]], "ramp 1 are no times of reads"),
        ([[5 * 0.72, 1.0, 3.0], [1.0, 2.0, 3.0]], "reads 1 and 2 end 3.6 s and 1 s"),
        ([[np.nan] * 3] * 2, "All reads of the ramp are missing"),
    ):
        model.read_times = np.array(times)
        with pytest.raises(Fatal, match=reason):
            of_ramp(model)


def test_short_and_long_intervals_between_reads_are_taken() -> None:
    model = RampModel(data=np.full((1, 3, *SHAPE), 9, np.uint16))
    for times in ([0.0, 1.1e-6, 2.2e-6], [0.9e7, 1.8e7, 2.7e7]):
        model.read_times = np.array([times])
        assert of_ramp(model).ramps[0].times_s.tolist() == times


def test_a_header_whose_reset_is_in_no_calendar_is_damaged(bench: Any, tmp_path: Path) -> None:
    data = reads_of(bench, tmp_path)[0].read_bytes()
    card = b"RDENDT  =                 0.72"
    assert data.count(card) == 1
    for said in (b"1E300", b"1E11"):
        path = tmp_path / f"{said.decode()}.fits"
        path.write_bytes(data.replace(card, b"RDENDT  = " + said.rjust(20)))
        with pytest.raises(CorruptObject, match=f"{path.name}: The read's header is wrong .* no reset was"):
            open_exposure([path])


def exposure() -> ExposureReads:
    model = RampModel(data=np.full((1, 4, *SHAPE), 9, np.uint16))
    return of_ramp(timed(model, 1.0, ()))


def test_what_is_not_given_does_nothing() -> None:
    found = calibration_of({"gain": 2.0, "readnoise": 5.0}, exposure(), 0)
    assert (found.gain == 2).all()
    assert (found.read_noise == 5).all()
    assert (found.threshold == 65535).all()
    assert found.terms[:, 2, 3].tolist() == [1, 0, 0, 0, 0]
    assert not found.dq.any()
    assert found.border == 0
    bordered = calibration_of({"gain": 2.0, "readnoise": 5.0}, exposure(), 2)
    assert (bordered.dq != 0).sum() == 48 - 2 * 4


def test_references_may_be_plain_images_models_or_numbers(tmp_path: Path) -> None:
    coefficients = np.zeros((6, *SHAPE), np.float32)
    coefficients[1], coefficients[2] = 1.01, 1e-6
    mask = np.zeros(SHAPE, np.int16)
    mask[1, 2] = Quality.DO_NOT_USE
    plain = {
        "mask": mask,
        "nonlincoeff": coefficients,
        "saturation": np.full(SHAPE, 50000.5),
        "readnoise": np.full(SHAPE, 6.0),
    }
    for name, pixels in plain.items():
        fits.PrimaryHDU(pixels).writeto(tmp_path / f"{name}.fits")
    given: dict[str, Any] = {name: tmp_path / f"{name}.fits" for name in plain}
    found = calibration_of(given | {"gain": GainModel(data=np.full(SHAPE, 3.0, np.float32))}, exposure(), 0)
    assert (found.gain == 3).all()
    assert (found.read_noise == 6).all()
    assert (found.threshold == 50001).all()
    np.testing.assert_array_equal(found.terms[:, 0, 0], coefficients[1:, 0, 0])
    assert np.argwhere(found.dq).tolist() == [[1, 2]]


def test_references_that_cannot_be_say_so(tmp_path: Path) -> None:
    good: dict[str, Any] = {"gain": 2.0, "readnoise": 5.0}
    gain = tmp_path / "model.fits"
    gain.write_bytes(to_bytes(GainModel(data=np.ones(SHAPE, np.float32))))
    images = {
        "narrow": np.ones((6, 7)),
        "nan": np.full((6, *SHAPE), np.nan),
        "planes": np.ones((3, *SHAPE)),
        "zero": np.zeros(SHAPE),
        "dead": np.ones(SHAPE, np.int32),
    }
    for name, pixels in images.items():
        fits.PrimaryHDU(pixels).writeto(tmp_path / f"{name}.fits")
    files = {name: tmp_path / f"{name}.fits" for name in images}
    short = tmp_path / "short.fits"
    short.write_bytes(gain.read_bytes()[:-2880])
    cases: list[tuple[dict[str, Any], type[Fatal], str]] = [
        ({"gain": 2.0}, MissingReference, "No readnoise is known"),
        ({}, MissingReference, "No gain and no readnoise"),
        (good | {"gain": files["narrow"]}, MissingReference, "6 x 7 pixels, the reads of 6 x 8"),
        (good | {"nonlincoeff": files["nan"]}, Fatal, "linearity coefficients of no pixel"),
        (good | {"nonlincoeff": files["planes"]}, CorruptObject, "no file of linearity coefficients"),
        (good | {"nonlincoeff": gain}, CorruptObject, "holds a GainModel, and is given as nonlincoeff"),
        (good | {"gain": files["zero"]}, Fatal, "gain of no pixel"),
        (good | {"gain": float("nan")}, Fatal, "gain of no pixel"),
        (good | {"readnoise": -1.0}, Fatal, "No pixel has a gain, a read noise"),
        (good | {"mask": files["dead"]}, Fatal, "No pixel has a gain, a read noise"),
        (good | {"gain": files["planes"]}, CorruptObject, "planes.fits: It has 3 axes"),
        (good | {"mask": files["planes"]}, CorruptObject, "planes.fits: It has 3 axes"),
        (good | {"gain": short}, CorruptObject, "short.fits: "),
    ]
    for given, error, words in cases:
        with pytest.raises(error, match=words) as found:
            calibration_of(given, exposure(), 0)
        assert found.value.remedy
    for number in (1e-45, 0.9e-6, 1.1e9, 1e38):
        with pytest.raises(Fatal, match=r"The gain of no pixel lies between 1e-06 and 1e\+09 electrons per DN"):
            calibration_of(good | {"gain": number}, exposure(), 0)
    for number in (0.0, 1e-45, 0.9e-6, 1.1e9, 1e38):
        with pytest.raises(Fatal, match=r"The read noise of no pixel lies between 1e-06 and 1e\+09 DN"):
            calibration_of(good | {"readnoise": number}, exposure(), 0)
    for number in (1e-6, 1e9):
        assert not calibration_of({"gain": number, "readnoise": number}, exposure(), 0).dq.any()
    with pytest.raises(Fatal, match="leave nothing of 6 x 8"):
        calibration_of(good, exposure(), 3)


def test_a_packed_ramp_without_a_detector_stays_foreign(tmp_path: Path) -> None:
    path = tmp_path / "ramp.fits"
    path.write_bytes(to_bytes(to_ramp(open_exposure([foreign(tmp_path / "foreign.fits")], 0.25))))
    found = of_ramp(open_ramp(path))
    assert found.foreign
    assert found.ramps[0].times_s.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.ramps[0].reads[3][5, 7] == 1000 + 3 * STEP[5, 7]
