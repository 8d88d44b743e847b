"""Headers of any FITS file, as plain mappings."""

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
