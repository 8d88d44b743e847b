"""Calibration references of one detector in the form that the readout computes with."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.linearity import linearity_terms
from irisdrs.readout.sampling.reference_pixels import reference_offsets
from irisdrs.readout.sampling.saturation import saturation_threshold
from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER, channel_width
from irisdrs.shared.quality import Quality

#: Reference types that the readout uses, in CRDS.
REFERENCE_TYPES = ("gain", "mask", "nonlincoeff", "readnoise", "saturation")

_REFERENCE_PIXEL = np.uint32(Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE)


@dataclass(frozen=True, slots=True)
class Calibration:
    """What the fold needs of the references; planes are (rows, columns).

    Attributes
    ----------
    threshold : uint16
        Smallest saturated count, DN.
    terms : float32 (5, rows, columns)
        Linearity coefficients a_1 to a_5.
    gain : float32
        Electrons per DN; 1 where it is not known.
    read_noise : float32
        Noise of one read, DN; 0 where it is not known.
    dq : uint32
        Flags that are known before any read.
    usable : bool (2, border, columns)
        Reference pixels of the first and last rows that may be used.
    channel_columns : int
        Columns of an output channel.
    """

    threshold: NDArray[np.uint16]
    terms: NDArray[np.float32]
    gain: NDArray[np.float32]
    read_noise: NDArray[np.float32]
    dq: NDArray[np.uint32]
    usable: NDArray[np.bool_]
    channel_columns: int

    @property
    def border(self) -> int:
        """Rows and columns of reference pixels on each edge."""
        return int(self.usable.shape[1])


def calibrate_for(
    *,
    mask: NDArray[np.uint32],
    coefficients: NDArray[np.float32],
    coefficients_dq: NDArray[np.uint32],
    saturation: NDArray[np.float32],
    saturation_dq: NDArray[np.uint32],
    gain: NDArray[np.float32],
    read_noise: NDArray[np.float32],
    border: int = REFERENCE_PIXEL_BORDER,
) -> Calibration:
    """Prepare the references of a detector.

    Parameters
    ----------
    mask, coefficients_dq, saturation_dq : uint32 (rows, columns)
        Flags.
    coefficients : float32 (6, rows, columns)
        a_0 to a_5.
    saturation, gain, read_noise : float32 (rows, columns)
        Raw DN, electrons per DN, DN.
    border : int
        Rows and columns of reference pixels on each edge.

    Returns
    -------
    Calibration
        Pixels without a gain are flagged NO_GAIN_VALUE and DO_NOT_USE, those without a read noise DO_NOT_USE,
        reference pixels REFERENCE_PIXEL and DO_NOT_USE, columns without a reference pixel UNRELIABLE_BIAS.
    """
    columns = gain.shape[1]
    threshold, no_check = saturation_threshold(saturation, saturation_dq)
    terms, no_correction = linearity_terms(coefficients, coefficients_dq)
    no_gain = ~(np.isfinite(gain) & (gain > 0))
    no_noise = ~(np.isfinite(read_noise) & (read_noise >= 0))
    dq = mask | no_check | no_correction
    dq[no_gain] |= np.uint32(Quality.NO_GAIN_VALUE | Quality.DO_NOT_USE)
    dq[no_noise] |= np.uint32(Quality.DO_NOT_USE)
    usable = _usable(mask, border)
    width = channel_width(columns)
    if border:
        dq[_is_border(gain.shape, border)] |= _REFERENCE_PIXEL
        dq[:, _uncorrected(usable, width)] |= np.uint32(Quality.UNRELIABLE_BIAS)
    return Calibration(
        threshold=threshold,
        terms=terms,
        gain=np.where(no_gain, np.float32(1), gain).astype(np.float32),
        read_noise=np.where(no_noise, np.float32(0), read_noise).astype(np.float32),
        dq=dq,
        usable=usable,
        channel_columns=width,
    )


def _usable(mask: NDArray[np.uint32], border: int) -> NDArray[np.bool_]:
    """Reference pixels that no one has called bad; DO_NOT_USE beside REFERENCE_PIXEL only says that it sees no sky."""
    edges = np.stack([mask[:border], mask[mask.shape[0] - border :]])
    bad = (edges & Quality.BAD_REF_PIXEL) != 0
    unnamed = (edges & np.uint32(Quality.DO_NOT_USE | Quality.REFERENCE_PIXEL)) == Quality.DO_NOT_USE
    return np.asarray(~(bad | unnamed))


def _is_border(shape: tuple[int, ...], border: int) -> NDArray[np.bool_]:
    inside = np.ones(shape, np.bool_)
    inside[border : shape[0] - border, border : shape[1] - border] = False
    return inside


def _uncorrected(usable: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    border, columns = usable.shape[1:]
    return reference_offsets(np.zeros((2 * border, columns), np.uint16), usable, width)[1]
