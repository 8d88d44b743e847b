"""Images of files that are no data model: those of other programs."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.data.fits.hdus import check_size, check_unpacked, opened, readable
from irisdrs.shared.errors import CorruptObject


def image_shape(source: bytes | Path) -> tuple[int, ...]:
    """Shape of a file's first image, without reading it; slowest axis first, () if there is no image.

    Raises
    ------
    CorruptObject
        If it is no FITS file.
    """
    with readable("the file"), opened(source) as (hdus, _):
        return next((tuple(hdu.shape) for hdu in hdus if hdu.is_image and hdu.shape), ())


def first_image(source: bytes | Path) -> NDArray[Any]:
    """A file's first image, in the machine's byte order.

    Raises
    ------
    CorruptObject
        If it is cut short, damaged, no FITS file, has no image, or a compressed one.
    """
    with readable("the image"), opened(source) as (hdus, size):
        check_size(hdus[-1], size)
        check_unpacked(hdus)
        for hdu in hdus:
            if hdu.is_image and hdu.shape:
                return np.asarray(hdu.data, dtype=hdu.data.dtype.newbyteorder("="))
        raise CorruptObject("The file has no image.", remedy="Is it the right file?")
