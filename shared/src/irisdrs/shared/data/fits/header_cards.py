"""Headers of any FITS file, as plain mappings; and files with other headers."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from astropy.io import fits

from irisdrs.shared.data.fits.hdus import check_size, one_at_a_time, opened, readable


@one_at_a_time
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
    with readable("the headers"), opened(source, disable_image_compression=True) as (hdus, size):
        found = [_described(hdu) for hdu in hdus]
        check_size(hdus[-1], size)
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


@one_at_a_time
def write_with_cards(source: Path, target: Path, cards: Mapping[str, str], history: str) -> None:
    """Copy a FITS file with other cards in its primary header; every byte after that header stays as it is.

    Parameters
    ----------
    source, target : Path
    cards : mapping of str to str
        Values by keyword.
    history : str
        Is added to the HISTORY.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged or no FITS file.
    """
    with readable(f"{source.name}"), opened(source, disable_image_compression=True) as (hdus, size):
        check_size(hdus[-1], size)
        header, begin = hdus[0].header.copy(), hdus[0].fileinfo()["datLoc"]
    for keyword in ("CHECKSUM", "DATASUM"):
        header.remove(keyword, ignore_missing=True)
    header.update(cards)
    header.add_history(history)
    with source.open("rb") as reader, target.open("wb") as writer:
        writer.write(header.tostring().encode("ascii"))
        reader.seek(begin)
        shutil.copyfileobj(reader, writer)
