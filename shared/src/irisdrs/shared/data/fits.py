"""The only reader and writer of FITS.

Level-0 reads are lossless RICE_1 tiles of unsigned 16-bit integers. Nothing that is written depends on the wall clock,
a path or the order of a set, so that the same content gives the same bytes.
"""

import functools
import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import asdf
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray
from stdatamodels import fits_support

from irisdrs.shared.data.models import IrisModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject, WrongShape
from irisdrs.shared.identifiers import ObservingMode
from irisdrs.shared.instrument import FILTERS

Model = TypeVar("Model", bound=IrisModel)

#: Rows of a compressed tile: a whole row each is 1.8 times slower to pack and unpack, larger tiles gain nothing.
_TILE_ROWS = 64
#: BZERO of unsigned 16-bit integers.
_UINT16_ZERO = 32768
#: Comment of the checksum cards: a fixed text where astropy would write the time.
_CHECKSUM_COMMENT = "HDU checksum"


#: NumPy parses the column formats of packed tables with `ast`, which CPython 3.11 cannot do in two threads at once:
#: "AST constructor recursion depth mismatch" (gh-106905). Packing holds the interpreter's lock anyway.
_PACKED = threading.RLock()

_P = ParamSpec("_P")
_T = TypeVar("_T")


def _one_at_a_time(function: Callable[_P, _T]) -> Callable[_P, _T]:
    @functools.wraps(function)
    def locked(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with _PACKED:
            return function(*args, **kwargs)

    return locked


@_one_at_a_time
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


@_one_at_a_time
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
    with _readable("the read's pixels"), fits.open(io.BytesIO(data)) as hdus:
        return np.asarray(hdus[1].data, dtype=np.uint16), header


@_one_at_a_time
def check_read(data: bytes, shape: tuple[int, int]) -> ReadHeader:
    """Check a level-0 read and give its header. Pixels are not unpacked: their checksum covers them.

    Parameters and errors as those of `decode_read`.
    """
    with _readable("the read"), fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        table = _read_table(hdus, len(data))
        said = (table.header["ZNAXIS2"], table.header["ZNAXIS1"])
        header = _header_of(hdus[0], said, shape)
        for hdu in hdus:
            _verify_checksum(hdu, data)
        return header


def decode_detector_read(data: bytes, shape: tuple[int, int]) -> tuple[NDArray[np.uint16], ReadHeader]:
    """Read a read as a detector may write it: the keywords of a level-0 read, and its pixels uncompressed.

    The pixels are unsigned 16-bit integers (BITPIX 16, BZERO 32768), in the primary HDU or in the one extension after
    an empty one. Checksums are verified where there are any. All sizes are checked before a pixel is read.

    Parameters, results and errors as those of `decode_read`.
    """
    with _readable("the read"), fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        image = _detector_image(hdus)
        _check_size(image, len(data))
        header = _header_of(hdus[0], (image.header["NAXIS2"], image.header["NAXIS1"]), shape)
        for hdu in hdus:
            if "CHECKSUM" in hdu.header:
                _verify_checksum(hdu, data)
        return np.array(image.data, dtype=np.uint16), header


@_one_at_a_time
def is_packed(data: bytes) -> bool:
    """Whether a FITS file holds a packed image, as level-0 reads do.

    Raises
    ------
    CorruptObject
        If it is no FITS file.
    """
    with _readable("the file"), fits.open(io.BytesIO(data), disable_image_compression=True) as hdus:
        return len(hdus) > 1 and bool(hdus[1].header.get("ZIMAGE", False))


def claimed_header(data: bytes) -> ReadHeader | None:
    """What the beginning of a file says that it is, although it may be damaged; None if it does not say."""
    try:
        with _readable("the header"):
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


@_one_at_a_time
def read_header(source: bytes | Path) -> ReadHeader:
    """What a level-0 read says of itself, without its pixels.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, or no read.
    """
    with _readable("the read"), _opened(source, disable_image_compression=True) as (hdus, size):
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
    _check_size(table, size)
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


def _check_size(last: Any, size: int) -> None:
    """Compare the size of the file with where its last HDU should end."""
    info = last.fileinfo()
    if size != info["datLoc"] + info["datSpan"]:
        raise CorruptObject(f"The file has {size} bytes, its headers say {info['datLoc'] + info['datSpan']}")


def _verify_checksum(hdu: Any, data: bytes) -> None:
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
def _readable(what: str) -> Iterator[None]:
    """Turn whatever astropy meets in damaged bytes into `CorruptObject`."""
    try:
        yield
    except (CorruptObject, WrongShape):
        raise
    except (MemoryError, SystemError):
        raise  # says nothing of the bytes: the same file may be read in a moment
    except Exception as error:  # damaged bytes raise anything: OSError, KeyError, struct.error ...
        raise CorruptObject(f"Cannot read {what}: {type(error).__name__}: {error}") from error


def _written(hdus: fits.HDUList) -> bytes:
    """Bytes of HDUs with checksums that say no time."""
    for hdu in hdus:
        hdu.add_checksum(when=_CHECKSUM_COMMENT)
    out = io.BytesIO()
    hdus.writeto(out)
    return out.getvalue()


def to_bytes(model: Any) -> bytes:
    """Write a model as FITS with checksums: the same content gives the same bytes.

    What would differ is made the same: asdf lists the extensions that it used in the order of a set, its history
    entries carry the time, mappings keep the order in which they were filled, and checksum cards say when.

    Parameters
    ----------
    model : IrisModel
        Its `meta.filename` becomes its product id.

    Notes
    -----
    The tree is laid out twice, which copies no pixels: once to learn which extensions asdf uses, once with their list
    in order.
    """
    model.on_save()
    tree = {name: _in_order(value) if name == "meta" else value for name, value in sorted(model._instance.items())}
    entries = [{"description": entry["description"]} for entry in tree.pop("history", {}).get("entries", [])]
    first = fits_support.to_fits({**tree, "history": {"entries": [*entries]}}, model._schema)
    with asdf.open(io.BytesIO(first["ASDF"].data.tobytes())) as probe:
        used = sorted(probe.tree["history"]["extensions"], key=_extension_key)
    history = {"entries": entries, "extensions": [dict(extension) for extension in used]}
    return _written(fits_support.to_fits({**tree, "history": history}, model._schema))


def _extension_key(extension: Mapping[str, Any]) -> tuple[str, str]:
    return extension.get("extension_uri", ""), extension["extension_class"]


def _in_order(node: Any) -> Any:
    """A copy of plain nested mappings with their names sorted; anything else as it is."""
    return {name: _in_order(node[name]) for name in sorted(node)} if type(node) is dict else node


def open_model(source: bytes | Path | str, model_class: type[Model]) -> Model:
    """Open a file as a model, all of it in memory, in the machine's byte order.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, or holds another model.
    """
    name = f"a {model_class.__name__}"
    with _readable(name), _opened(source) as (hdus, size):
        _check_size(hdus[-1], size)
        if (held := hdus[0].header.get("DATAMODL")) != model_class.__name__:
            raise CorruptObject(f"The file holds a {held}, expected was {name}")
        model = model_class(hdus)
    for attribute, array in model._instance.items():
        if isinstance(array, np.ndarray) and not array.dtype.isnative and array.dtype.names is None:
            model._instance[attribute] = array.astype(array.dtype.newbyteorder("="))
    if model.meta.filename is None and not isinstance(source, bytes):
        model.meta.filename = Path(source).name
    return model


def model_name(source: bytes | Path | str) -> str:
    """Name of the model that a file holds (DATAMODL).

    Raises
    ------
    CorruptObject
        If it is no FITS file or does not say.
    """
    with _readable("a model"), _opened(source) as (hdus, _):
        return str(hdus[0].header["DATAMODL"])


@_one_at_a_time
def headers(source: bytes | Path) -> list[dict[str, object]]:
    """Headers of all HDUs as JSON-able mappings; no pixel is read.

    Returns
    -------
    list of dict
        Of each HDU its ``extname``, ``data_offset`` and ``data_size`` (bytes) and ``cards`` (keyword to value; COMMENT
        and HISTORY joined by newlines). A packed image shows the header of its table.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged or no FITS file.
    """
    with _readable("the headers"), _opened(source, disable_image_compression=True) as (hdus, size):
        found = [_described(hdu) for hdu in hdus]
        _check_size(hdus[-1], size)
        return found


def _described(hdu: Any) -> dict[str, object]:
    info = hdu.fileinfo()
    cards: dict[str, object] = {}
    for card in hdu.header.cards:
        if card.keyword in ("COMMENT", "HISTORY", "") and card.keyword in cards:
            cards[card.keyword] = f"{cards[card.keyword]}\n{card.value}"
        else:
            cards[card.keyword] = None if isinstance(card.value, fits.card.Undefined) else card.value
    cards.pop("", None)
    return {"extname": hdu.name, "data_offset": info["datLoc"], "data_size": info["datSpan"], "cards": cards}


@contextmanager
def _opened(source: bytes | Path | str, **options: Any) -> Iterator[tuple[fits.HDUList, int]]:
    """HDUs of a file and its size, bytes."""
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    with (
        io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as stream,
        fits.open(stream, memmap=False, **options) as hdus,
    ):
        yield hdus, size


def apply_read_header(model: Any, header: ReadHeader) -> None:
    """Fill the metadata of a model with what a read's header says of its exposure."""
    meta, start = model.meta, header.started_at
    rows, columns = header.shape
    values: dict[str, dict[str, object]] = {
        "instrument": {
            "name": "IRIS",
            "detector": str(header.detector),
            "detector_id": str(header.detector),
            "mode": str(header.mode),
            "filter": header.filter,
            "filter_wavelength": FILTERS[header.filter].centre_um,
            "pupil": header.pupil,
            "scale": header.scale_arcsec,
            "grating": header.grating,
            "ifs_mode": _IFS_MODES.get(header.mode),
        },
        "observation": {
            "observation": header.observation,
            "program": header.exposure_id.program,
            "night": header.night.isoformat(),
            "date": f"{start:%Y-%m-%d}",
            "time": start.strftime("%H:%M:%S.%f")[:-3],
            "exposure_number": header.exposure,
        },
        "exposure": {
            "type": str(header.exposure_type),
            "sampling_mode": str(header.sampling_mode),
            "integration_time": header.integration_time_s,
            "exposure_time": header.ramps * header.integration_time_s,
            "read_interval": header.read_interval_s,
            "frame_time": round(header.read_interval_s * 1e6),
            "reads": header.reads,
            "ramps": header.ramps,
            "gain": header.gain,
            "read_noise": header.read_noise_e,
        },
        "pointing": {
            "ra": header.ra_deg,
            "dec": header.dec_deg,
            "position_angle": header.position_angle_deg,
            "airmass": header.airmass,
        },
        "subarray": {"name": "FULL", "xstart": 1, "ystart": 1, "xsize": columns, "ysize": rows},
    }
    meta.telescope, meta.time_system = "TMT", "UTC"
    for group, members in values.items():
        for name, value in members.items():
            setattr(getattr(meta, group), name, value)


_IFS_MODES = {ObservingMode.SLI: "SLICER", ObservingMode.LEN: "LENSLET"}
