"""Ramps as files: our own data model, and those of other programs with axes (integrations,) reads, rows, columns."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from numpy.typing import NDArray

from irisdrs.shared.data.fits.hdus import check_size, opened, readable
from irisdrs.shared.data.fits.model_files import open_model
from irisdrs.shared.data.models import RampModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.instrument import ADC_MAX_DN, DETECTOR_SIZE

#: Pixels of a ramp file that are read at most, in all its reads: 1024 reads of a whole detector, 34 GB in memory.
MAX_PIXELS = 1024 * DETECTOR_SIZE**2

#: Keywords that may say the time from one read to the next, seconds: ours, and JWST's time between groups.
_CADENCE = ("READTIME", "TGROUP")


def open_ramp(source: Path) -> RampModel:
    """Open a ramp, all of it in memory; what a file of another program says of itself is taken where it is clear.

    That is: counts of the image extension SCI, or of the first image; times of an extension READTIMES (reads, or
    integrations and reads; seconds, unless BUNIT names another unit), or the cadence in READTIME or TGROUP, seconds;
    the reset in DATE-OBS and TIME-OBS (UTC). Nothing else: flags and variances of other programs stay behind. All
    sizes are checked before a pixel is read.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, or has no image of three or four axes.
    Fatal
        If it is larger than `MAX_PIXELS`, or its pixels are no counts of a 16-bit converter.
    """
    with readable(f"the ramp {source}"), opened(source, disable_image_compression=True) as (hdus, size):
        image = _ramp_image(hdus, source)
        check_size(hdus[-1], size, str(source))
        if hdus[0].header.get("DATAMODL") != RampModel.__name__ or "READTIMES" not in hdus or "ASDF" not in hdus:
            return _foreign(hdus, image, source)
    return open_model(source, RampModel)


def _ramp_image(hdus: Any, source: Path) -> Any:
    images = [hdu for hdu in hdus if hdu.is_image and len(hdu.shape) in (3, 4)]
    found = next((hdu for hdu in images if hdu.name == "SCI"), images[0] if images else None)
    if found is None or 0 in found.shape:
        raise CorruptObject(
            f"{source} has no image of reads, rows and columns.",
            remedy="A ramp is one image of three or four axes, not compressed: (integrations,) reads, rows, columns.",
        )
    pixels = int(np.prod(found.shape, dtype=object))
    if pixels > MAX_PIXELS:
        raise Fatal(
            f"{source} says that it has {' x '.join(map(str, found.shape))} pixels, more than the {MAX_PIXELS} of "
            f"1024 reads of a detector.",
            remedy="If that is what it has, cut it into files of fewer integrations or rows.",
        )
    return found


def _foreign(hdus: Any, image: Any, source: Path) -> RampModel:
    cards = {**image.header, **hdus[0].header}
    shape = (1,) * (4 - len(image.shape)) + tuple(image.shape)
    data = np.empty(shape, np.uint16)
    for ramp, read in np.ndindex(*shape[:2]):
        section = image.section[read] if len(image.shape) == 3 else image.section[ramp, read]
        data[ramp, read] = _counts(section, source)
    model = RampModel(data=data)
    times = next((hdu for hdu in hdus if hdu.name == "READTIMES" and hdu.is_image), None)
    if times is not None:
        model.read_times = _times(times, shape[:2], source)
    for keyword in _CADENCE:
        said = cards.get(keyword)
        if isinstance(said, bool) or not isinstance(said, (int, float)):
            continue  # T is no number
        if model.meta.exposure.read_interval is None:
            model.meta.exposure.read_interval = float(said)
    reset = _reset(cards)
    if reset is not None:
        model.meta.observation.date = f"{reset:%Y-%m-%d}"
        model.meta.observation.time = reset.strftime("%H:%M:%S.%f")[:-3]
    model.meta.filename = source.name
    return model


def _counts(pixels: NDArray[Any], source: Path) -> NDArray[np.uint16]:
    """Pixels as counts of the converter, when that is what they are."""
    with np.errstate(invalid="ignore"):
        counts = pixels.astype(np.uint16)
    if pixels.dtype.kind not in "iuf" or not np.array_equal(counts, pixels):
        raise Fatal(
            f"{source} has pixels that are no whole numbers from 0 to {ADC_MAX_DN}: it holds no raw counts.",
            remedy="Give the ramp as the detector wrote it, before any calibration.",
        )
    return counts


def _times(times: Any, shape: tuple[int, ...], source: Path) -> NDArray[np.float64]:
    """Times of reads, s (integration, read)."""
    found = np.asarray(times.data, np.float64)
    if found.shape not in (shape, shape[1:]):
        raise CorruptObject(
            f"{source} has times of {found.shape}, and {shape} integrations and reads.",
            remedy="Correct READTIMES, or remove it and give --read-time.",
        )
    unit = times.header.get("BUNIT", "s")
    try:
        factor = units.Unit(unit).to(units.s)
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise CorruptObject(
            f"The unit of the times in {source} is none of time: {unit!r}.", remedy="Correct BUNIT: s or ms."
        ) from error
    return np.asarray(np.broadcast_to(found, shape) * factor, np.float64)


def _reset(cards: Mapping[str, Any]) -> datetime | None:
    """When the first ramp was reset (UTC), if the cards say so."""
    date, time = str(cards.get("DATE-OBS", "")), str(cards.get("TIME-OBS", ""))
    try:
        found = datetime.fromisoformat(date if "T" in date else f"{date}T{time}")
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):  # overflow: a zone moves it out of the calendar
        return None
