"""Ramps of other programs, and what is no ramp."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from irisdrs.shared.data.fits import (
    check_read,
    decode_detector_read,
    decode_read,
    first_image,
    headers,
    image_shape,
    is_packed,
    open_model,
    open_ramp,
    read_header,
    to_bytes,
)
from irisdrs.shared.data.models import RampModel
from irisdrs.shared.errors import CorruptObject, Fatal

#: Integrations, reads, rows, columns.
SHAPE = (2, 3, 4, 5)
COUNTS = np.arange(np.prod(SHAPE)).reshape(SHAPE) * 500


def write(path: Path, pixels: np.ndarray, *more: Any, name: str = "SCI", **cards: Any) -> Path:
    """A ramp as another program may write it."""
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    fits.HDUList([primary, fits.ImageHDU(pixels, name=name), *more]).writeto(path)
    return path


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.uint32, np.float32, np.float64])
def test_counts_of_any_type_are_read_exactly(tmp_path: Path, kind: type) -> None:
    largest = COUNTS.copy()
    largest[1, 2, 3, 4] = 65535
    ramp = open_ramp(write(tmp_path / "ramp.fits", largest.astype(kind)))
    assert ramp.data.dtype == np.uint16
    np.testing.assert_array_equal(ramp.data, largest)
    assert not ramp.hasattr("read_times")


def test_three_axes_are_one_integration(tmp_path: Path) -> None:
    path = tmp_path / "ramp.fits"
    fits.PrimaryHDU(COUNTS[1].astype(np.int32)).writeto(path)
    np.testing.assert_array_equal(open_ramp(path).data, COUNTS[1:])


def test_a_file_like_the_sample_ramp_of_the_c_library(tmp_path: Path) -> None:
    """Big-endian floats and planes of flags and errors beside them; the file says no times."""
    pixels = np.broadcast_to(np.arange(4)[None, :, None, None] * 4000, (1, 4, 10, 10)).astype(">f4")
    flags = fits.ImageHDU(np.zeros((1, 4, 10, 10), np.uint8), name="GROUPDQ")
    err = fits.ImageHDU(np.full((1, 4, 10, 10), 0.5, ">f4"), name="ERR")
    more = {"DATE-OBS": "2015-10-11", "TIME-OBS": "00:00:00"}
    ramp = open_ramp(
        write(tmp_path / "ramp.fits", pixels, flags, err, DATAMODL="TMTRampModel", DETECTOR="IRIS1", **more)
    )
    assert ramp.data.shape == (1, 4, 10, 10)
    assert ramp.data[0, :, 3, 7].tolist() == [0, 4000, 8000, 12000]
    assert (ramp.meta.observation.date, ramp.meta.observation.time) == ("2015-10-11", "00:00:00.000")
    assert ramp.meta.instrument.detector is None, "it is no detector of ours"


def test_times_come_with_their_unit(tmp_path: Path) -> None:
    for name, unit, values in (
        ("s", "s", [0.72, 1.44, 2.16]),
        ("ms", "ms", [720, 1440, 2160]),
        ("both", "ms", [[720, 1440, 2160]] * 2),
    ):
        times = fits.ImageHDU(np.array(values), name="READTIMES")
        times.header["BUNIT"] = unit
        ramp = open_ramp(write(tmp_path / f"{name}.fits", COUNTS.astype(np.int32), times))
        np.testing.assert_allclose(ramp.read_times, [[0.72, 1.44, 2.16]] * 2, rtol=1e-12)
    by_card = open_ramp(write(tmp_path / "card.fits", COUNTS.astype(np.int32), TGROUP=2.5, DATAMODL="RampModel"))
    assert by_card.meta.exposure.read_interval == 2.5
    logical = open_ramp(write(tmp_path / "logical.fits", COUNTS.astype(np.int32), READTIME=True))
    assert logical.meta.exposure.read_interval is None, "T is no number"
    other = open_ramp(write(tmp_path / "other.fits", COUNTS.astype(np.int32), READTIME=True, TGROUP=2.5))
    assert other.meta.exposure.read_interval == 2.5


def test_a_date_that_its_zone_moves_out_of_the_calendar_says_nothing(tmp_path: Path) -> None:
    said = {"DATE-OBS": "0001-01-01T00:00:00+14:00"}
    ramp = open_ramp(write(tmp_path / "ramp.fits", COUNTS.astype(np.int32), **said))
    assert ramp.meta.observation.date is None


def test_our_own_ramp_keeps_everything(tmp_path: Path) -> None:
    model = RampModel(data=COUNTS.astype(np.uint16))
    model.read_times = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.5]])
    model.use_interval = np.array([[1, 0], [1, 1]], np.uint8)
    path = tmp_path / "ramp.fits"
    path.write_bytes(to_bytes(model))
    back = open_ramp(path)
    np.testing.assert_array_equal(back.data, COUNTS)
    np.testing.assert_array_equal(back.read_times, model.read_times)
    assert back.use_interval.tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("wrong", [0.5, -1.0, 65536.0, np.nan, np.inf])
def test_what_is_no_count_is_refused(tmp_path: Path, wrong: float) -> None:
    pixels = COUNTS.astype(np.float64)
    pixels[1, 0, 2, 2] = wrong
    with pytest.raises(Fatal, match="no whole numbers from 0 to 65535"):
        open_ramp(write(tmp_path / "ramp.fits", pixels))


def test_no_pixel_is_read_of_a_file_that_is_cut_short_or_promises_too_much(tmp_path: Path) -> None:
    whole = write(tmp_path / "ramp.fits", COUNTS.astype(np.int32)).read_bytes()
    short = tmp_path / "short.fits"
    short.write_bytes(whole[:-2880])
    with (
        pytest.warns(UserWarning, match="truncated"),
        pytest.raises(CorruptObject, match=r"short\.fits has .* headers say"),
    ):
        open_ramp(short)
    card = b"NAXIS3  =                    3"
    assert whole.count(card) == 1
    for name, said, reason in (
        ("long", b"NAXIS3  =                 3000", "headers say"),
        ("huge", b"NAXIS3  =           1000000000", "more than the"),
        ("absurd", b"NAXIS3  =        3000000000000", "Cannot read the ramp"),
    ):
        path = tmp_path / f"{name}.fits"
        path.write_bytes(whole.replace(card, said))
        with pytest.raises(Fatal, match=reason):
            open_ramp(path)


@pytest.mark.parametrize("name", ["gzip", "bzip2", "xz", "zip", "compress"])
def test_a_compressed_file_is_not_unpacked(tmp_path: Path, name: str) -> None:
    plain, path = write(tmp_path / "ramp.fits", COUNTS.astype(np.int32)), tmp_path / "packed.fits"
    packers: dict[str, Any] = {
        "gzip": gzip.compress,
        "bzip2": bz2.compress,
        "xz": lzma.compress,
        "compress": b"\x1f\x9d".__add__,
    }
    if name == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(plain)
    else:
        path.write_bytes(packers[name](plain.read_bytes()))
    for opens in (open_ramp, headers, image_shape, first_image, read_header):
        with pytest.raises(CorruptObject, match=f"compressed by {name}"):
            opens(path)
    data = path.read_bytes()
    for reads in (decode_read, check_read, decode_detector_read):
        with pytest.raises(CorruptObject, match=f"compressed by {name}"):
            reads(data, (3, 4))
    with pytest.raises(CorruptObject, match=f"compressed by {name}"):
        is_packed(data)
    with pytest.raises(CorruptObject, match=f"compressed by {name}"):
        open_model(data, RampModel)


def test_no_image_is_unpacked_that_says_that_it_is_larger_than_its_file() -> None:
    packed = io.BytesIO()
    image = fits.CompImageHDU(np.zeros((64, 64), np.int16), compression_type="RICE_1")
    primary = fits.PrimaryHDU()
    primary.header["DATAMODL"] = "RampModel"
    fits.HDUList([primary, image]).writeto(packed)
    with fits.open(io.BytesIO(packed.getvalue()), disable_image_compression=True) as hdus:
        for keyword in ("ZNAXIS1", "ZNAXIS2", "ZTILE1"):
            hdus[1].header[keyword] = 2_000_000
        told = io.BytesIO()
        hdus.writeto(told)
    assert image_shape(told.getvalue()) == (2_000_000, 2_000_000)
    for opens in (first_image, lambda data: open_model(data, RampModel)):
        with pytest.raises(CorruptObject, match="is compressed"):
            opens(told.getvalue())


def test_what_is_no_ramp_says_so(tmp_path: Path) -> None:
    text = tmp_path / "text.fits"
    text.write_text("counts")
    with pytest.raises(CorruptObject, match="Cannot read the ramp"):
        open_ramp(text)
    with pytest.raises(CorruptObject, match="no image of reads"):
        open_ramp(write(tmp_path / "image.fits", np.zeros((4, 5), np.float32)))
    wrong = fits.ImageHDU(np.array([1.0, 2.0]), name="READTIMES")
    with pytest.raises(CorruptObject, match="has times of"):
        open_ramp(write(tmp_path / "times.fits", COUNTS.astype(np.int32), wrong))
    wrong = fits.ImageHDU(np.array([1.0, 2.0, 3.0]), name="READTIMES")
    for unit in ("m", "furlong"):
        wrong.header["BUNIT"] = unit
        with pytest.raises(CorruptObject, match=f"none of time: '{unit}'[.] Correct BUNIT"):
            open_ramp(write(tmp_path / f"{unit}.fits", COUNTS.astype(np.int32), wrong))
