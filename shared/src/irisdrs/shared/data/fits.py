"""The only reader and writer of FITS.

Level-0 reads are lossless RICE_1 tiles of unsigned 16-bit integers. Nothing that is written depends on the wall clock,
a path or the order of a set, so that the same content gives the same bytes.
"""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, WrongShape

#: Rows of a compressed tile: a whole row each is 1.8 times slower to pack and unpack, larger tiles gain nothing.
_TILE_ROWS = 64
#: FITS files come in blocks of so many bytes.
_BLOCK = 2880
#: BZERO of unsigned 16-bit integers.
_UINT16_ZERO = 32768
#: Comment of the checksum cards: a fixed text where astropy would write the time.
_CHECKSUM_COMMENT = "HDU checksum"


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
        return _written(hdus)


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
    with _readable("the read"), fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        table = _read_table(hdus, len(data))
        said = (table.header["ZNAXIS2"], table.header["ZNAXIS1"])
        if said != tuple(shape):
            raise WrongShape(f"The read is {said[0]} x {said[1]} pixels, announced were {shape[0]} x {shape[1]}")
        header = ReadHeader.from_cards(hdus[0].header)
        if header.shape != said:
            raise CorruptObject(f"The read's header says {header.shape}, its pixels are {said}")
        for hdu in hdus:
            if hdu.verify_checksum() != 1 or hdu.verify_datasum() != 1:
                raise CorruptObject(f"The checksum of HDU {hdu.name or 'PRIMARY'!r} is missing or wrong")
    with _readable("the read's pixels"), fits.open(io.BytesIO(data)) as hdus:
        return np.asarray(hdus[1].data, dtype=np.uint16), header


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
    _check_size(table, size)
    return table


def _check_size(last: Any, size: int) -> None:
    """Compare the size of the file with where its last HDU should end."""
    info = last.fileinfo()
    if size != info["datLoc"] + info["datSpan"]:
        raise CorruptObject(f"The file has {size} bytes, its headers say {info['datLoc'] + info['datSpan']}")


@contextmanager
def _readable(what: str) -> Iterator[None]:
    """Turn whatever astropy meets in damaged bytes into `CorruptObject`; its warnings are errors here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", category=fits.verify.VerifyWarning)
            yield
    except (CorruptObject, WrongShape):
        raise
    except Exception as error:  # damaged bytes raise anything: OSError, KeyError, struct.error ...
        raise CorruptObject(f"Cannot read {what}: {type(error).__name__}: {error}") from error


def _written(hdus: fits.HDUList) -> bytes:
    """Bytes of HDUs with checksums that say no time."""
    for hdu in hdus:
        hdu.add_checksum(when=_CHECKSUM_COMMENT)
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()
