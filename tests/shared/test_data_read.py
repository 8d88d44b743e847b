"""Level-0 reads: nothing is lost, nothing damaged is taken, nothing is unpacked before its size is known."""

import io
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pydantic import ValidationError

from irisdrs.shared.data.fits import decode_read, encode_read
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, WrongShape

SHAPE = (6, 5)

#: astropy warns of damage on its way to the error that the tests ask for.
pytestmark = pytest.mark.filterwarnings("ignore::astropy.utils.exceptions.AstropyUserWarning")


def read_header(**changes: Any) -> ReadHeader:
    facts: dict[str, Any] = {
        "observation": "2034B-007-123",
        "detector": "IMG1",
        "exposure_type": "SCI",
        "exposure": 34,
        "night": date(2034, 8, 1),
        "ramp": 1,
        "read": 3,
        "reads": 8,
        "ramps": 1,
        "read_time_s": 2.16,
        "read_interval_s": 0.72,
        "sampling_mode": "UTR",
        "ended_at": datetime(2034, 8, 1, 5, 4, 5, 160_000, tzinfo=UTC),
        "mode": "IMG",
        "filter": "H",
        "scale_arcsec": 0.004,
        "ra_deg": 150.123456789,
        "dec_deg": -2.5,
        "position_angle_deg": 30.0,
        "airmass": 1.2,
        "shape": SHAPE,
    }
    return ReadHeader(**(facts | changes))


def ramp_pixels(shape: tuple[int, int] = SHAPE) -> NDArray[np.uint16]:
    return np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape) * 100


def edited(data: bytes, **changes: object) -> bytes:
    """The file with other cards in its packed image and right checksums."""
    with fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        for keyword, value in changes.items():
            hdus[1].header[keyword] = value
        hdus[1].add_checksum(when="HDU checksum")
        out = io.BytesIO()
        hdus.writeto(out, output_verify="ignore")
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(
    arrays(
        np.uint16,
        array_shapes(min_dims=2, max_dims=2, max_side=140),
        elements=st.sampled_from([0, 1, 3000, 32767, 32768, 65534, 65535]),
        fill=st.integers(0, 65535),
    )
)
def test_every_read_comes_back(pixels: NDArray[np.uint16]) -> None:
    header = read_header(shape=pixels.shape)
    data = encode_read(pixels, header)
    assert data == encode_read(pixels, header)
    back, said = decode_read(data, (pixels.shape[0], pixels.shape[1]))
    assert back.dtype == np.uint16
    np.testing.assert_array_equal(back, pixels)
    assert said == header


def test_noise_that_cannot_be_packed_comes_back() -> None:
    pixels = np.random.default_rng(3).integers(0, 65536, (130, 70)).astype(np.uint16)
    back, _ = decode_read(encode_read(pixels, read_header(shape=pixels.shape)), (130, 70))
    np.testing.assert_array_equal(back, pixels)


def test_anybody_can_read_it_with_astropy() -> None:
    with fits.open(io.BytesIO(encode_read(ramp_pixels(), read_header())), checksum=True) as hdus:
        np.testing.assert_array_equal(hdus["SCI"].data, ramp_pixels())
        header = hdus[0].header
    said = {
        name: header[name] for name in ("OBS_ID", "EXP_NO", "RAMP_NO", "READ_NO", "NUMREADS", "RAMPINTT", "FILTWAVE")
    }
    assert said == {
        "OBS_ID": "2034B-007-123",
        "EXP_NO": 34,
        "RAMP_NO": 1,
        "READ_NO": 3,
        "NUMREADS": 8,
        "RAMPINTT": 5.76,
        "FILTWAVE": 1.633,
    }
    assert (header["DATE-OBS"], header["TIME-OBS"]) == ("2034-08-01", "05:04:03.000")


def test_a_read_of_groups_says_how_many_reads_they_have() -> None:
    header = read_header(sampling_mode="MCDS", group_reads=3)
    data = encode_read(ramp_pixels(), header)
    with fits.open(io.BytesIO(data)) as hdus:
        assert (hdus[0].header["SAMPMODE"], hdus[0].header["GRPREADS"]) == ("MCDS", 3)
    assert decode_read(data, SHAPE)[1] == header
    cards = {keyword: value for keyword, value, _ in header.cards()}
    assert ReadHeader.from_cards(cards | {"SAMPMODE": "MDS"}) == header, "as the keyword dictionary says it"
    with pytest.raises(CorruptObject, match="group_reads"):
        ReadHeader.from_cards(cards | {"GRPREADS": 0})


@pytest.mark.parametrize("mode", ["SINGLE", "CDS", "UTR"])
def test_other_reads_say_nothing_of_groups_as_those_of_the_release_did(mode: str) -> None:
    header = read_header(sampling_mode=mode)
    cards = {keyword: value for keyword, value, _ in header.cards()}
    assert cards["SAMPMODE"] == mode
    assert "GRPREADS" not in cards
    assert ReadHeader.from_cards(cards) == header
    assert header.group_reads == 1


def test_all_reads_of_a_ramp_ask_crds_the_same() -> None:
    reset = datetime(2034, 8, 1, 23, 59, 59, 999_600, tzinfo=UTC)
    reads = [read_header(read=n, read_time_s=n * 0.72, ended_at=reset + timedelta(seconds=n * 0.72)) for n in (1, 5, 8)]
    first, *others = [read.crds_parameters() for read in reads]
    assert all(other == first for other in others)
    assert (first["meta.observation.date"], first["meta.observation.time"]) == ("2034-08-02", "00:00:00.000")
    assert first["meta.exposure.integration_time"] == "5.760"
    assert first["meta.instrument.scale"] == "0.004"


def test_times_are_kept_in_utc() -> None:
    hawaii = datetime(2034, 7, 31, 19, 4, 5, 160_000, tzinfo=timezone(timedelta(hours=-10)))
    assert read_header(ended_at=hawaii) == read_header()


@pytest.mark.parametrize(
    "changes", [{"filter": "R"}, {"airmass": 0.5}, {"read": 0}, {"ended_at": datetime(2034, 8, 1)}]
)
def test_what_no_read_can_say_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read_header(**changes)


def test_pixels_that_are_not_of_the_header_are_not_written() -> None:
    with pytest.raises(WrongShape):
        encode_read(ramp_pixels((5, 6)), read_header())


def test_a_read_of_another_shape_is_told_from_a_damaged_one() -> None:
    with pytest.raises(WrongShape, match="6 x 5"):
        decode_read(encode_read(ramp_pixels(), read_header()), (5, 6))


def test_every_cut_is_noticed() -> None:
    data = encode_read(ramp_pixels(), read_header())
    for size in (0, 1, 79, 80, 2880, 5000, len(data) // 2, len(data) - 2880, len(data) - 1):
        with pytest.raises(CorruptObject):
            decode_read(data[:size], SHAPE)


def test_bytes_after_the_end_are_noticed() -> None:
    with pytest.raises(CorruptObject):
        decode_read(encode_read(ramp_pixels(), read_header()) + bytes(2880), SHAPE)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_every_changed_byte_is_noticed(data: st.DataObject) -> None:
    """Checksums cover every byte of both HDUs."""
    good = bytearray(encode_read(ramp_pixels(), read_header()))
    place = data.draw(st.integers(0, len(good) - 1))
    good[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((CorruptObject, WrongShape)):
        decode_read(bytes(good), SHAPE)


@pytest.mark.parametrize(
    "changes",
    [
        {"ZBITPIX": 32},
        {"BZERO": 0},
        {"ZCMPTYPE": "GZIP_1"},
        {"ZTILE2": 2},
        {"ZTILE2": 0},
        {"ZNAXIS": 3},
        {"EXTNAME": "ERR"},
        {"ZNAXIS1": 2_000_000_000, "ZTILE1": 2_000_000_000},
    ],
)
def test_headers_that_do_not_fit_are_refused_before_pixels(changes: dict[str, object]) -> None:
    data = edited(encode_read(ramp_pixels(), read_header()), **changes)
    with pytest.raises((CorruptObject, WrongShape)) as refused:
        decode_read(data, SHAPE)
    assert "pixels:" not in str(refused.value), "it was refused only when it was unpacked"


def test_other_fits_files_are_no_reads() -> None:
    out = io.BytesIO()
    fits.PrimaryHDU(ramp_pixels()).writeto(out)
    with pytest.raises(CorruptObject):
        decode_read(out.getvalue(), SHAPE)


def test_a_read_without_a_keyword_is_refused() -> None:
    with fits.open(io.BytesIO(encode_read(ramp_pixels(), read_header())), disable_image_compression=True) as hdus:
        del hdus[0].header["READ_NO"]
        hdus[0].add_checksum(when="HDU checksum")
        out = io.BytesIO()
        hdus.writeto(out)
    with pytest.raises(CorruptObject, match="READ_NO"):
        decode_read(out.getvalue(), SHAPE)


def test_many_threads_at_once_give_the_same_bytes() -> None:
    pixels, header = ramp_pixels(), read_header()
    alone = encode_read(pixels, header)

    def there_and_back(_: int) -> bytes:
        packed = encode_read(pixels, header)
        assert np.array_equal(decode_read(packed, SHAPE)[0], pixels)
        return packed

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(there_and_back, range(32))) == {alone}


def test_a_shortage_of_memory_says_nothing_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = encode_read(ramp_pixels(), read_header())

    def no_room(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(ReadHeader, "from_cards", no_room)
    with pytest.raises(MemoryError):
        decode_read(packed, SHAPE)
