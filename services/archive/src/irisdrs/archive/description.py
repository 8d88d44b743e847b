"""What an object's own headers say: kept whole, and read for what the catalogue asks by."""

from collections.abc import Mapping
from pathlib import Path

from irisdrs.archive.catalogue.arrival import Description, Hdu
from irisdrs.archive.footprint import footprint
from irisdrs.shared.data.exposure_cards import check_exposure
from irisdrs.shared.data.fits import headers
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.identifiers import ExposureId


def describe(path: Path, exposure: ExposureId) -> Description:
    """Read the headers of a FITS file; no pixel is read.

    Raises
    ------
    CorruptObject
        If it is no readable FITS file, or is of another exposure than announced.
    """
    return description_of(headers(path), exposure)


def description_of(hdus: list[Hdu], exposure: ExposureId) -> Description:
    """What headers say. Raises `CorruptObject` when it is of another exposure than announced."""
    if not hdus:
        raise CorruptObject(f"The file announced for {exposure} has no HDU.")
    primary, image = _cards(hdus[0]), _cards(_image(hdus))
    check_exposure(primary, exposure)
    shape = _shape(image)
    circle = footprint({**primary, **image}, shape, exposure.detector) if shape else None
    return Description(
        hdus=tuple(hdus),
        mode=_text(primary, "OBSMODE"),
        filter=_text(primary, "FILTER"),
        circle=circle,
        sampling_mode=_text(primary, "SAMPMODE"),
    )


def _image(hdus: list[Hdu]) -> Hdu:
    """The HDU named SCI, else the first that has one, else the primary."""
    return next((hdu for hdu in hdus if _cards(hdu).get("EXTNAME") == "SCI"), hdus[0])


def _cards(hdu: Hdu) -> Mapping[str, object]:
    cards = hdu["cards"]
    if not isinstance(cards, Mapping):
        raise CorruptObject("A header has no cards.")
    return cards


def _text(cards: Mapping[str, object], keyword: str) -> str | None:
    value = cards.get(keyword)
    return value if isinstance(value, str) and value else None


def _shape(cards: Mapping[str, object]) -> tuple[int, int] | None:
    prefix = "ZNAXIS" if cards.get("ZIMAGE") else "NAXIS"
    rows, columns = cards.get(f"{prefix}2"), cards.get(f"{prefix}1")
    if not isinstance(rows, int) or not isinstance(columns, int) or rows < 1 or columns < 1:
        return None
    return rows, columns
