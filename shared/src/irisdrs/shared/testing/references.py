"""Builders of calibration reference files for tests that care for their headers only."""

from pathlib import Path

_BLOCK = 2880

#: Keywords that choose a reference of each type, with values that `HEADER` matches.
CARDS: dict[str, dict[str, str | float]] = {
    "dark": {"DETECTOR": "IMG1", "SAMPMODE": "UTR", "RAMPINTT": 5.76, "SARRMODE": "FULL"},
    "flat": {"DETECTOR": "IMG1", "FILTER": "Ks", "PUPIL": "CLEAR"},
    "gain": {"DETECTOR": "IMG1"},
    "mask": {"DETECTOR": "IMG1"},
    "nonlincoeff": {"DETECTOR": "IMG1"},
    "readnoise": {"DETECTOR": "IMG1", "SAMPMODE": "UTR"},
    "saturation": {"DETECTOR": "IMG1"},
}

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
    lines = "".join(_card(keyword, value) for keyword, value in header.items() if value != "") + "END".ljust(80)
    path.write_bytes(lines.ljust(-(-len(lines) // _BLOCK) * _BLOCK).encode("ascii"))
    return path


def write_references(folder: Path) -> list[Path]:
    """Write one reference of every type; `HEADER` matches all of them."""
    return [write_reference(folder / f"{kind}.fits", kind) for kind in CARDS]


def _card(keyword: str, value: str | float) -> str:
    text = f"{value!r:<20}" if isinstance(value, str) else f"{'FT'[value] if isinstance(value, bool) else value:>20}"
    return f"{keyword:<8}= {text}".ljust(80)
