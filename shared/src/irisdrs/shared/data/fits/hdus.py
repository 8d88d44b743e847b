"""What all readers and writers of FITS share: opening, size and checksum of HDUs, errors of damaged bytes."""

import functools
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, ParamSpec, TypeVar

import numpy as np
from astropy.io import fits

from irisdrs.shared.errors import CorruptObject, Fatal

#: Comment of the checksum cards: a fixed text where astropy would write the time.
_CHECKSUM_COMMENT = "HDU checksum"

#: NumPy parses the column formats of packed tables with `ast`, which CPython 3.11 cannot do in two threads at once:
#: "AST constructor recursion depth mismatch" (gh-106905). Packing holds the interpreter's lock anyway.
_PACKED = threading.RLock()

#: First bytes of containers that astropy would unpack, whatever their size; FITS begins with SIMPLE.
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"PK": "zip", b"\xfd7zXZ\x00": "xz", b"\x1f\x9d": "compress"}

_P = ParamSpec("_P")
_T = TypeVar("_T")


def one_at_a_time(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Run a function in one thread at a time with all others that are marked so."""

    @functools.wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _PACKED:
            return function(*args, **kwargs)

    return locked


@contextmanager
def opened(source: bytes | Path | str, **options: Any) -> Iterator[tuple[fits.HDUList, int]]:
    """HDUs of a file and its size, bytes.

    Raises
    ------
    CorruptObject
        If it is compressed as a whole: a small file may unpack to more than the memory holds.
    """
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    with io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as stream:
        _check_plain(stream)
        with fits.open(stream, memmap=False, **options) as hdus:
            yield hdus, size


def _check_plain(stream: BinaryIO) -> None:
    begin = stream.read(6)
    stream.seek(0)
    for magic, name in _COMPRESSED.items():
        if begin.startswith(magic):
            raise CorruptObject(
                f"The file is compressed by {name}.", remedy="Unpack it, and give the FITS file itself."
            )


def check_size(last: Any, size: int, name: str = "The file") -> None:
    """Compare the size of the file with where its last HDU should end."""
    info = last.fileinfo()
    if size != info["datLoc"] + info["datSpan"]:
        raise CorruptObject(
            f"{name} has {size} bytes, its headers say {info['datLoc'] + info['datSpan']}.",
            remedy="Copy it anew: it is cut short or damaged.",
        )


def check_unpacked(hdus: fits.HDUList) -> None:
    """Check that no image is compressed by tiles: a few bytes of a tile may unpack to more than the memory holds."""
    for hdu in hdus:
        if isinstance(hdu, fits.CompImageHDU):
            raise CorruptObject(
                f"The image {hdu.name!r} of the file is compressed", remedy="Unpack it (funpack), and give that file."
            )


def verify_checksum(hdu: Any, data: bytes) -> None:
    """Compare an HDU's bytes with its CHECKSUM, which makes their ones' complement sum minus zero (FITS 4.0, J).

    astropy's own check writes the header anew before it sums, and so misses damage that it has read past.
    """
    info = hdu.fileinfo()
    start, end = info["hdrLoc"], info["datLoc"] + info["datSpan"]
    words = np.frombuffer(data, ">u4", (end - start) // 4, start)
    total = int(words.sum(dtype=np.uint64))
    while total > 0xFFFFFFFF:
        total = (total & 0xFFFFFFFF) + (total >> 32)
    if "CHECKSUM" not in hdu.header or total != 0xFFFFFFFF:
        raise CorruptObject(f"The checksum of the HDU {hdu.name!r} is missing or wrong")


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Turn whatever astropy meets in damaged bytes into `CorruptObject`."""
    try:
        yield
    except Fatal:
        raise
    except (MemoryError, SystemError):
        raise  # says nothing of the bytes: the same file may be read in a moment
    except Exception as error:  # damaged bytes raise anything: OSError, KeyError, struct.error ...
        raise CorruptObject(
            f"Cannot read {what}: {type(error).__name__}: {error}.", remedy="Is it the right file, and a whole one?"
        ) from error


def written(hdus: fits.HDUList) -> bytes:
    """Bytes of HDUs with checksums that say no time."""
    for hdu in hdus:
        hdu.add_checksum(when=_CHECKSUM_COMMENT)
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()
