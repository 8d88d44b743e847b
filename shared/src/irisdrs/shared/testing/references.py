"""Builders of calibration reference files for tests: headers alone, or all that `crds certify` asks for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.crds.reference_types import Plane, Table, Values, reference_types

_BLOCK = 2880

#: Keywords that choose a reference of each type, with values that `HEADER` matches.
CARDS: dict[str, dict[str, str | float]] = {
    "dark": {"DETECTOR": "IMG1", "SAMPMODE": "UTR", "RAMPINTT": 5.76, "SARRMODE": "FULL"},
    "flat": {"DETECTOR": "IMG1", "FILTER": "Ks", "PUPIL": "CLEAR"},
    "gain": {"DETECTOR": "IMG1"},
    "mask": {"DETECTOR": "IMG1"},
    "nonlincoeff": {"DETECTOR": "IMG1"},
    "readnoise": {"DETECTOR": "IMG1", "SAMPMODE": "UTR"},
    "saturation": {"DETECTOR": "IMG1", "SAMPMODE": "ANY"},
}

_IFS: dict[str, str | float] = {"DETECTOR": "IFS", "IFSSCALE": 0.025, "FILTER": "Kbb", "IFSRES": "4000-K"}
_LENSLETS = _IFS | {"IFSSCALE": 0.009, "OBSMODE": "LEN"}

#: Keywords that choose a reference of the types that are not in `CARDS`, and of the spectrograph's flat.
FURTHER_CARDS: dict[str, dict[str, str | float]] = {
    "refpix": {"DETECTOR": "IMG1"},
    "sky": {"DETECTOR": "IMG1", "FILTER": "Ks", "RAMPINTT": 5.76},
    "rectmat": _LENSLETS,
    "trace": _IFS | {"OBSMODE": "SLI"},
    "wavecal": _LENSLETS,
    "distortion": {"DETECTOR": "IMG1", "FILTER": "Ks", "OBSMODE": "IMG"},
    "photom": {"DETECTOR": "IMG1", "FILTER": "Ks", "PUPIL": "CLEAR"},
    "slicemap": {"DETECTOR": "IFS", "IFSSCALE": 0.025, "OBSMODE": "SLI"},
    "lensmap": {"DETECTOR": "IFS", "IFSSCALE": 0.009, "OBSMODE": "LEN"},
    "filteroffset": {"OBSMODE": "IMG", "FILTER": "Ks"},
    "adccoef": {"OBSMODE": "SLI", "IFSSCALE": 0.025, "IFSRES": "4000-K"},
    "apcorr": {"OBSMODE": "IMG", "FILTER": "Ks"},
    "telluric": {"OBSMODE": "SLI", "IFSSCALE": 0.025, "FILTER": "Kbb", "IFSRES": "4000-K"},
    "psf": {"DETECTOR": "IMG1", "FILTER": "Ks"},
    "linelist": {"FILTER": "Kbb", "IFSRES": "4000-K", "OBSMODE": "LEN"},
    "drizpars": {"OBSMODE": "IMG"},
}

#: Keywords that every reference must have to be certified.
_DESCRIPTION = {"PEDIGREE": "DUMMY", "AUTHOR": "a test", "DESCRIP": "made by a test", "HISTORY": "made by a test"}

#: Matching parameters of an exposure that references with `CARDS` serve.
HEADER = {
    "meta.instrument.name": "IRIS",
    "meta.instrument.detector": "IMG1",
    "meta.instrument.mode": "IMG",
    "meta.instrument.filter": "Ks",
    "meta.instrument.pupil": "CLEAR",
    "meta.exposure.type": "SCI",
    "meta.exposure.sampling_mode": "UTR",
    "meta.exposure.integration_time": "5.760",
    "meta.subarray.name": "FULL",
    "meta.observation.date": "2034-08-01",
    "meta.observation.time": "05:04:03.000",
}


def write_reference(path: Path, kind: str, **cards: str | float) -> Path:
    """Write a FITS file without pixels that says it is a reference.

    Parameters
    ----------
    path : Path
    kind : str
        Reference type.
    **cards : str or float
        Keywords that replace those of `CARDS`; an empty text leaves a keyword out.
    """
    path.write_bytes(_primary(kind, cards))
    return path


def write_certifiable(
    path: Path, kind: str, arrays: Mapping[str, NDArray[Any] | None] | None = None, **cards: str | float
) -> Path:
    """Write a small reference that has all that its type must have.

    Parameters
    ----------
    path : Path
    kind : str
        Reference type.
    arrays : mapping of str to array or None
        Extensions that replace those of the type; None leaves one out.
    **cards : str or float
        As `write_reference` takes them.
    """
    extensions: dict[str, NDArray[Any] | None] = {**certifiable_arrays(kind), **(arrays or {})}
    model = {"DATAMODL": reference_types()[kind].model}
    content = _primary(kind, {**model, **_DESCRIPTION, **FURTHER_CARDS.get(kind, {}), **cards})
    path.write_bytes(
        content + b"".join(_extension(name, data) for name, data in extensions.items() if data is not None)
    )
    return path


def certifiable_arrays(kind: str) -> dict[str, NDArray[Any]]:
    """Small arrays and tables of a type, by extension."""
    described = reference_types()[kind]
    arrays = {plane.name: _small_plane(plane) for plane in described.planes}
    return arrays | {table.name: _small_table(table) for table in described.tables}


def _small_plane(plane: Plane) -> NDArray[Any]:
    shape = (plane.length or 3, 4, 4) if plane.dimensions == 3 else (4, 4)
    return np.full(shape, 1.0 if plane.values is not Values.ANY else 0.0).astype(plane.dtype)


def _small_table(table: Table) -> NDArray[Any]:
    return np.ones(2, [(name, "S8" if name == "NAME" else "f8") for name in table.columns])


def _primary(kind: str, cards: Mapping[str, str | float]) -> bytes:
    header = {
        "SIMPLE": True,
        "BITPIX": 8,
        "NAXIS": 0,
        "TELESCOP": "TMT",
        "INSTRUME": "IRIS",
        "REFTYPE": kind,
        "USEAFTER": "2030-01-01T00:00:00",
        **CARDS.get(kind, {}),
        **cards,
    }
    return _header({keyword: value for keyword, value in header.items() if value != ""})


def _extension(name: str, data: NDArray[Any]) -> bytes:
    """An image or, of a structured array, a table."""
    stored = data.astype(data.dtype.newbyteorder(">"))
    if data.dtype.names is not None:
        header: dict[str, str | float] = {"XTENSION": "BINTABLE", "BITPIX": 8, "NAXIS": 2}
        header |= {"NAXIS1": data.dtype.itemsize, "NAXIS2": len(data), "PCOUNT": 0, "GCOUNT": 1}
        header |= {"TFIELDS": len(data.dtype.names)}
        for number, column in enumerate(data.dtype.names, 1):
            kind = data.dtype[column]
            header |= {f"TTYPE{number}": column, f"TFORM{number}": "D" if kind.kind == "f" else f"{kind.itemsize}A"}
    else:
        bits = {"f": -8, "i": 8, "u": 8}[data.dtype.kind] * data.dtype.itemsize
        header = {"XTENSION": "IMAGE   ", "BITPIX": bits, "NAXIS": data.ndim}
        header |= {f"NAXIS{axis}": length for axis, length in enumerate(reversed(data.shape), 1)}
        header |= {"PCOUNT": 0, "GCOUNT": 1}
        if data.dtype.kind == "u":
            zero = 1 << (8 * data.dtype.itemsize - 1)
            header |= {"BZERO": zero, "BSCALE": 1}
            stored = (data.astype(np.int64) - zero).astype(f">i{data.dtype.itemsize}")
    return _header(header | {"EXTNAME": name}) + _padded(stored.tobytes(), b"\0")


def _header(cards: Mapping[str, str | float]) -> bytes:
    lines = "".join(_card(keyword, value) for keyword, value in cards.items()) + "END".ljust(80)
    return _padded(lines.encode("ascii"), b" ")


def _padded(content: bytes, fill: bytes) -> bytes:
    return content.ljust(-(-len(content) // _BLOCK) * _BLOCK, fill)


def write_references(folder: Path) -> list[Path]:
    """Write one reference of every type of `CARDS`; `HEADER` matches all of them."""
    return [write_reference(folder / f"{kind}.fits", kind) for kind in CARDS]


def _card(keyword: str, value: str | float) -> str:
    if keyword == "HISTORY":
        return f"HISTORY {value}".ljust(80)
    text = f"{value!r:<20}" if isinstance(value, str) else f"{'FT'[value] if isinstance(value, bool) else value:>20}"
    return f"{keyword:<8}= {text}".ljust(80)
