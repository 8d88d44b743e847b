"""Reads (level 0) as files: lossless RICE_1 tiles of unsigned 16-bit integers, or what a detector writes."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from irisdrs.shared.data.fits.hdus import check_size, one_at_a_time, opened, readable, verify_checksum, written
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, WrongShape

#: Rows of a compressed tile: a whole row each is 1.8 times slower to pack and unpack, larger tiles gain nothing.
_TILE_ROWS = 64

#: BZERO of unsigned 16-bit integers.
_UINT16_ZERO = 32768


@one_at_a_time
def encode_read(pixels: NDArray[np.uint16], header: ReadHeader) -> bytes:
    """Write a read as FITS: lossless RICE_1, with checksums; the same content gives the same bytes.

    Parameters
    ----------
    pixels : uint16 (rows, columns)
        DN.
    header : ReadHeader
        Its shape is that of the pixels.

    Raises
    ------
    WrongShape
        If pixels and header disagree.
    """
    if pixels.shape != header.shape or pixels.dtype != np.uint16:
        raise WrongShape(f"Read {header.read_id} is {pixels.dtype}{pixels.shape}, its header says {header.shape}")
    primary = fits.PrimaryHDU()
    primary.header.extend(header.cards())
    image = fits.CompImageHDU(
        pixels, name="SCI", compression_type="RICE_1", tile_shape=(min(_TILE_ROWS, pixels.shape[0]), pixels.shape[1])
    )
    image.header["BUNIT"] = ("DN", "unit of the pixels")
    packed = io.BytesIO()
    fits.HDUList([primary, image]).writeto(packed)
    # The checksum belongs to the packed table, which astropy makes while it writes.
    packed.seek(0)
    with fits.open(packed, disable_image_compression=True) as hdus:
        return written(hdus)


@one_at_a_time
def decode_read(data: bytes, shape: tuple[int, int]) -> tuple[NDArray[np.uint16], ReadHeader]:
    """Read a level-0 read. All sizes are checked in the headers before a pixel is unpacked.

    Parameters
    ----------
    data : bytes
        The file.
    shape : (rows, columns)
        What the exposure announced.

    Returns
    -------
    pixels : uint16 (rows, columns)
        DN.
    header : ReadHeader

    Raises
    ------
    CorruptObject
        If it is no FITS file, is cut short, damaged, or no read.
    WrongShape
        If it is a read of another shape.
    """
    header = check_read(data, shape)
    with readable("the read's pixels"), fits.open(io.BytesIO(data)) as hdus:
        return np.asarray(hdus[1].data, dtype=np.uint16), header


@one_at_a_time
def check_read(data: bytes, shape: tuple[int, int]) -> ReadHeader:
    """Check a level-0 read and give its header. Pixels are not unpacked: their checksum covers them.

    Parameters and errors as those of `decode_read`.
    """
    with readable("the read"), opened(data, disable_image_compression=True) as (hdus, size):
        table = _read_table(hdus, size)
        said = (table.header["ZNAXIS2"], table.header["ZNAXIS1"])
        header = _header_of(hdus[0], said, shape)
        for hdu in hdus:
            verify_checksum(hdu, data)
        return header


def decode_detector_read(data: bytes, shape: tuple[int, int]) -> tuple[NDArray[np.uint16], ReadHeader]:
    """Read a read as a detector may write it: the keywords of a level-0 read, and its pixels uncompressed.

    The pixels are unsigned 16-bit integers (BITPIX 16, BZERO 32768), in the primary HDU or in the one extension after
    an empty one. Checksums are verified where there are any. All sizes are checked before a pixel is read.

    Parameters, results and errors as those of `decode_read`.
    """
    with readable("the read"), opened(data, disable_image_compression=True) as (hdus, size):
        image = _detector_image(hdus)
        check_size(image, size)
        header = _header_of(hdus[0], (image.header["NAXIS2"], image.header["NAXIS1"]), shape)
        for hdu in hdus:
            if "CHECKSUM" in hdu.header:
                verify_checksum(hdu, data)
        return np.array(image.data, dtype=np.uint16), header


@one_at_a_time
def is_packed(data: bytes) -> bool:
    """Whether a FITS file holds a packed image, as level-0 reads do.

    Raises
    ------
    CorruptObject
        If it is no FITS file.
    """
    with readable("the file"), opened(data, disable_image_compression=True) as (hdus, _):
        return len(hdus) > 1 and bool(hdus[1].header.get("ZIMAGE", False))


def claimed_header(data: bytes) -> ReadHeader | None:
    """What the beginning of a file says that it is, although it may be damaged; None if it does not say."""
    try:
        with readable("the header"):
            return ReadHeader.from_cards(fits.Header.fromfile(io.BytesIO(data)))
    except CorruptObject:
        return None


def _header_of(primary: Any, said: tuple[int, int], shape: tuple[int, int]) -> ReadHeader:
    """Header of a read whose image is as large as said, if that is what it says and what was announced."""
    if said != tuple(shape):
        raise WrongShape(f"The read is {said[0]} x {said[1]} pixels, announced were {shape[0]} x {shape[1]}")
    header = ReadHeader.from_cards(primary.header)
    if header.shape != said:
        raise CorruptObject(f"The read's header says {header.shape}, its pixels are {said}")
    return header


@one_at_a_time
def read_header(source: bytes | Path) -> ReadHeader:
    """What a level-0 read says of itself, without its pixels.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, or no read.
    """
    with readable("the read"), opened(source, disable_image_compression=True) as (hdus, size):
        _read_table(hdus, size)
        return ReadHeader.from_cards(hdus[0].header)


#: What the header of a packed read must say, whatever its shape.
_READ_CARDS: Mapping[str, object] = {
    "XTENSION": "BINTABLE",
    "ZIMAGE": True,
    "ZCMPTYPE": "RICE_1",
    "ZBITPIX": 16,
    "ZNAXIS": 2,
    "BZERO": _UINT16_ZERO,
    "TFIELDS": 1,
    "EXTNAME": "SCI",
}


def _read_table(hdus: fits.HDUList, size: int) -> fits.BinTableHDU:
    """The packed table of a read, once its header and the size of the file fit."""
    if len(hdus) != 2 or hdus[0].header["NAXIS"] != 0:
        raise CorruptObject(f"The file has {len(hdus)} HDUs; a read is an empty primary HDU and one packed image")
    table = hdus[1]
    header = table.header
    for keyword, expected in _READ_CARDS.items():
        if header.get(keyword) != expected:
            raise CorruptObject(f"{keyword} is {header.get(keyword)!r}, a read has {expected!r}")
    tiles = -(-header["ZNAXIS2"] // header["ZTILE2"]) if header["ZTILE2"] > 0 else 0
    if header["ZTILE1"] != header["ZNAXIS1"] or tiles < 1 or header["NAXIS2"] != tiles:
        raise CorruptObject("The tiles of the packed image do not make up the image")
    check_size(table, size)
    return table


def _detector_image(hdus: fits.HDUList) -> Any:
    """The HDU with the pixels of an uncompressed read."""
    image = hdus[-1]
    if len(hdus) > 2 or (len(hdus) == 2 and hdus[0].header["NAXIS"] != 0):
        raise CorruptObject(f"The file has {len(hdus)} HDUs; a read is one image, alone or after an empty primary HDU")
    if len(hdus) == 2 and image.header["XTENSION"] != "IMAGE":
        raise CorruptObject(f"The extension is a {image.header['XTENSION']}, a read has an IMAGE")
    expected = {"BITPIX": 16, "NAXIS": 2, "BZERO": _UINT16_ZERO, "BSCALE": 1}
    found = {keyword: image.header.get(keyword, 1) for keyword in expected}
    if found != expected:
        raise CorruptObject(f"The image has {found}, unsigned 16-bit pixels have {expected}")
    return image
