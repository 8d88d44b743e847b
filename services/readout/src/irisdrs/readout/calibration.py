"""Calibration references of one detector in the form that the readout computes with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.sampling.linearity import linearity_terms
from irisdrs.readout.sampling.planes import Place, placed
from irisdrs.readout.sampling.reference_correction import (
    DEFAULT_CORRECTION,
    ReferenceCorrection,
    ReferenceVectors,
    SideColumns,
    reference_vectors,
)
from irisdrs.readout.sampling.reference_kernels import KernelFilter, ReferenceKernels
from irisdrs.readout.sampling.reference_pixels import reference_offsets
from irisdrs.readout.sampling.saturation import saturation_threshold
from irisdrs.readout.sampling.side_columns import mean_variance, row_means, side_counts, wiener_gain
from irisdrs.shared.crds.reference_types import READOUT_TYPES
from irisdrs.shared.errors import WrongShape
from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER, channel_width
from irisdrs.shared.quality import Quality
from irisdrs.shared.window import Window

#: Reference types that the readout uses, in CRDS.
REFERENCE_TYPES = READOUT_TYPES

#: The one that it uses besides, if it shall use kernels of reference pixels.
KERNELS_TYPE = "refpix"

_REFERENCE_PIXEL = np.uint32(Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE)

#: Pixels of a guide window are read, and reset, at times of their own.
_GUIDE_WINDOW = np.uint32(Quality.NON_SCIENCE | Quality.DO_NOT_USE)


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Calibration:
    """What the fold needs of the references; planes are (rows, columns).

    Attributes
    ----------
    threshold : uint16
        Smallest saturated count, DN.
    terms : float32 (5, rows, columns)
        Linearity coefficients a_1 to a_5; each plane is contiguous.
    gain : float32
        Electrons per DN; 1 where it is not known.
    read_noise : float32
        Noise of one read, DN; 0 where it is not known.
    dq : uint32
        Flags that are known before any read.
    usable : bool (2, border, columns)
        Reference pixels of the first and last rows that may be used.
    usable_sides : bool (2, rows, border)
        Those of the first and last columns.
    channel_columns : int
        Columns of an output channel.
    window : Window
        What the planes are of the detector.
    detector_shape : (rows, columns)
        Of the whole detector.
    science : (slice, slice)
        Rows and columns of the planes that are no reference pixels.
    kernels : KernelFilter, optional
        What takes the correlated noise off whole frames, see `with_kernels`.
    """

    threshold: NDArray[np.uint16]
    terms: NDArray[np.float32]
    gain: NDArray[np.float32]
    read_noise: NDArray[np.float32]
    dq: NDArray[np.uint32]
    usable: NDArray[np.bool_]
    usable_sides: NDArray[np.bool_]
    channel_columns: int
    window: Window
    detector_shape: tuple[int, int]
    science: tuple[slice, slice]
    kernels: KernelFilter | None = None

    @property
    def border(self) -> int:
        """Rows that are held to be an edge with reference pixels."""
        return int(self.usable.shape[1])

    @property
    def first_column(self) -> int:
        """First column on the detector: where output channels and odd columns begin."""
        return self.window.col0

    @property
    def stripes(self) -> int:
        """Stripes of columns whose rows have offsets of their own: 1 unless there are kernels."""
        return 1 if self.kernels is None else int(self.kernels.response.shape[1])

    def cut(self, window: Window) -> "Calibration":
        """The calibration of a window that is read alone, through the outputs that read it in the full frame.

        Parameters
        ----------
        window : Window
            Of the detector.

        Returns
        -------
        Calibration
            With the reference pixels that the window has, maybe none. Columns that have lost their last one are
            flagged UNRELIABLE_BIAS: their counts keep the offset of the output.

        Raises
        ------
        WrongShape
            If this is not the calibration of the whole detector, or the detector has not all of the window.
        """
        height, width = self.detector_shape
        if self.gain.shape != self.detector_shape or not window.within(self.detector_shape):
            raise WrongShape(
                f"The window {window.section} does not lie within {self.gain.shape[0]} x {self.gain.shape[1]} pixels "
                "of the references, or these are of a window themselves.",
                remedy="Look at XSTART, YSTART, XSIZE and YSIZE, and at the format of the references.",
            )
        rows, columns = window.slices
        edges = [edge[:, columns] for edge in self.usable]
        sides = [side[rows].T for side in self.usable_sides]
        bottom, top, left, right = window.border(self.detector_shape, self.border)
        return replace(
            self,
            threshold=placed(self.threshold[window.slices], Place.THRESHOLD),
            terms=placed(self.terms[:, rows, columns], Place.TERMS),
            gain=placed(self.gain[window.slices], Place.GAIN),
            read_noise=placed(self.read_noise[window.slices], Place.READ_NOISE),
            dq=self.dq[window.slices].copy(),
            usable=_edges_of(edges, window.row0, window.row1, height),
            usable_sides=_edges_of(sides, window.col0, window.col1, width).transpose(0, 2, 1),
            window=window,
            science=(slice(bottom, window.shape[0] - top), slice(left, window.shape[1] - right)),
            kernels=None,  # a window has other reference pixels, and is read at another pace
        )._with_bias_flags(self.border > 0)

    def without(self, guide_windows: Sequence[Window]) -> "Calibration":
        """The same, with the pixels of guide windows given up: they are read and reset more often than the frame.

        They are flagged NON_SCIENCE and DO_NOT_USE, and serve as reference pixels no more.

        Parameters
        ----------
        guide_windows : sequence of Window
            Of the detector; what lies outside this calibration's window does not matter.
        """
        if not guide_windows:
            return self
        given_up: NDArray[np.bool_] = np.zeros(self.dq.shape, np.bool_)
        for guide in guide_windows:
            given_up[guide.slices_in(self.window)] = True
        rows, side = self.border, self.usable_sides.shape[2]
        edges = np.stack([given_up[:rows], given_up[given_up.shape[0] - rows :]])
        sides = np.stack([given_up[:, :side], given_up[:, given_up.shape[1] - side :]])
        return replace(
            self,
            dq=self.dq | np.where(given_up, _GUIDE_WINDOW, np.uint32(0)),
            usable=self.usable & ~edges,
            usable_sides=self.usable_sides & ~sides,
        )._with_bias_flags(rows > 0)

    def reference_vectors(
        self, read: NDArray[np.uint16], correction: ReferenceCorrection = DEFAULT_CORRECTION
    ) -> ReferenceVectors:
        """What the reference pixels of a read (rows, columns) take off its columns and rows, DN."""
        return reference_vectors(
            read, self.usable, self.usable_sides, self.channel_columns, correction, self.first_column
        )

    def with_kernels(self, kernels: ReferenceKernels) -> "Calibration":
        """The same, with kernels that take correlated noise off the reads (`ramp_reference`).

        Raises
        ------
        WrongShape
            If the kernels are not of so many columns, or this is the calibration of a window.
        """
        rows, columns = self.gain.shape
        covered = kernels.taps.shape[1] * kernels.stripe_columns
        if covered != columns or self.window.shape != self.detector_shape:
            raise WrongShape(
                f"Kernels of reference pixels for {covered} columns do not go with reads of {rows} x {columns} pixels "
                f"of a detector of {self.detector_shape[0]} x {self.detector_shape[1]}.",
                remedy="They are for reads of the whole detector that they were trained on.",
            )
        no_signal = 0 if self.usable_sides.any() else Quality.UNRELIABLE_BIAS
        return replace(self, kernels=kernels.filter_for(rows), dq=self.dq | np.uint32(no_signal))

    def side_counts(self, read: NDArray[np.uint16], column_offset: NDArray[np.float32]) -> NDArray[np.float32]:
        """The side columns (2, rows, border) of a read (rows, columns) without the offsets of their columns, DN.

        NaN where a pixel may not be used. Kernels work on their changes.
        """
        return side_counts(read, self.usable_sides, column_offset)

    def flagged_for(self, correction: ReferenceCorrection) -> "Calibration":
        """The same, with UNRELIABLE_BIAS for the rows that a correction by the side columns cannot reach."""
        if correction.side_columns is SideColumns.NONE:
            return self
        nothing = np.broadcast_to(np.zeros((), np.uint16), self.dq.shape)
        missing = self.reference_vectors(nothing, correction).missing_rows
        flags = np.where(missing, np.uint32(Quality.UNRELIABLE_BIAS), np.uint32(0))
        return replace(self, dq=self.dq | flags[:, None])

    def row_signal(self, read: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Mean of the side columns of a read (rows, columns) for every row, DN: what `row_power` is estimated from."""
        offset = self.reference_vectors(read).column_offset
        return row_means(self.side_counts(read, offset))

    def side_variance(self) -> float:
        """Variance of the read noise in `row_signal`, DN^2."""
        side, columns = self.usable_sides.shape[2], self.read_noise.shape[1]
        noise = np.stack([self.read_noise[:, :side], self.read_noise[:, columns - side :]])[self.usable_sides]
        rms = float(np.sqrt(np.mean(noise.astype(np.float64) ** 2))) if noise.size else 0.0
        return mean_variance(self.usable_sides, rms)

    def wiener_correction(self, power: NDArray[np.float64]) -> ReferenceCorrection:
        """The correction by the Wiener filter, for a row signal whose power is known.

        Parameters
        ----------
        power : float64 (n + 1,)
            From `row_power`, DN^2; n is the number of rows of the reads that it was estimated from, at any window.
        """
        rows, known = self.dq.shape[0], len(power) - 1
        own = np.interp(np.arange(rows + 1) / rows, np.arange(known + 1) / known, power)
        return ReferenceCorrection(side_columns=SideColumns.WIENER, gain=wiener_gain(own, self.side_variance()))

    def _with_bias_flags(self, expected: bool) -> "Calibration":
        """Flag columns without a usable reference pixel, where the detector has any; changes `dq` in place."""
        if expected:
            border, columns = self.usable.shape[1:]
            nothing = np.zeros((2 * border, columns), np.uint16)
            _, missing = reference_offsets(nothing, self.usable, self.channel_columns, self.first_column)
            self.dq[:, missing] |= np.uint32(Quality.UNRELIABLE_BIAS)
        return self


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
    rows, columns = gain.shape
    threshold, no_check = saturation_threshold(saturation, saturation_dq)
    terms, no_correction = linearity_terms(coefficients, coefficients_dq)
    no_gain = ~(np.isfinite(gain) & (gain > 0))
    no_noise = ~(np.isfinite(read_noise) & (read_noise >= 0))
    dq = mask | no_check | no_correction
    dq[no_gain] |= np.uint32(Quality.NO_GAIN_VALUE | Quality.DO_NOT_USE)
    dq[no_noise] |= np.uint32(Quality.DO_NOT_USE)
    if border:
        dq[_is_border(gain.shape, border)] |= _REFERENCE_PIXEL
    return Calibration(
        threshold=placed(threshold, Place.THRESHOLD),
        terms=terms,
        gain=placed(np.where(no_gain, np.float32(1), gain).astype(np.float32), Place.GAIN),
        read_noise=placed(np.where(no_noise, np.float32(0), read_noise).astype(np.float32), Place.READ_NOISE),
        dq=dq,
        usable=_usable(mask, border),
        usable_sides=_usable(mask.T, border).transpose(0, 2, 1),
        channel_columns=channel_width(columns),
        window=Window.at((0, 0), (rows, columns)),
        detector_shape=(rows, columns),
        science=(slice(border, rows - border), slice(border, columns - border)),
    )._with_bias_flags(border > 0)


def _usable(mask: NDArray[np.uint32], border: int) -> NDArray[np.bool_]:
    """Reference pixels of the first and last rows that no one has called bad.

    DO_NOT_USE beside REFERENCE_PIXEL only says that it sees no sky.
    """
    edges = np.stack([mask[:border], mask[mask.shape[0] - border :]])
    bad = (edges & Quality.BAD_REF_PIXEL) != 0
    unnamed = (edges & np.uint32(Quality.DO_NOT_USE | Quality.REFERENCE_PIXEL)) == Quality.DO_NOT_USE
    return np.asarray(~(bad | unnamed))


def _edges_of(edges: Sequence[NDArray[np.bool_]], first: int, end: int, rows: int) -> NDArray[np.bool_]:
    """Usable reference pixels of the first and last rows of a window, from those of a detector of so many rows.

    As many rows as the detector has on an edge, or all of a lower window; those that are no reference pixels are not
    usable.
    """
    border, columns = edges[0].shape
    height = min(border, end - first)
    found = np.zeros((2, height, columns), np.bool_)
    for i in range(height):
        low, high = first + i, end - height + i - (rows - border)
        if low < border:
            found[0, i] = edges[0][low]
        if high >= 0:
            found[1, i] = edges[1][high]
    return found


def _is_border(shape: tuple[int, ...], border: int) -> NDArray[np.bool_]:
    inside = np.ones(shape, np.bool_)
    inside[border : shape[0] - border, border : shape[1] - border] = False
    return inside
