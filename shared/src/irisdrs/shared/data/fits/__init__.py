"""The only reader and writer of FITS: `reads` (level 0), `model_files` (data models), `ramps` (our own and
foreign ones), `header_cards` and `images` (of anything).

Nothing that is written depends on the wall clock, a path or the order of a set, so that the same content gives the same
bytes.
"""

from irisdrs.shared.data.fits.header_cards import headers, write_with_cards
from irisdrs.shared.data.fits.images import first_image, image_shape
from irisdrs.shared.data.fits.model_files import model_name, open_model, to_bytes
from irisdrs.shared.data.fits.ramps import open_ramp
from irisdrs.shared.data.fits.reads import (
    check_read,
    claimed_header,
    decode_detector_read,
    decode_read,
    encode_read,
    is_packed,
    read_header,
)

__all__ = [
    "check_read",
    "claimed_header",
    "decode_detector_read",
    "decode_read",
    "encode_read",
    "first_image",
    "headers",
    "image_shape",
    "is_packed",
    "model_name",
    "open_model",
    "open_ramp",
    "read_header",
    "to_bytes",
    "write_with_cards",
]
