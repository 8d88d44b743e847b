"""Kernels of the reference pixels as a reference file, and what must agree before they are used."""

import math

import numpy as np

from irisdrs.readout.sampling.reference_kernels import ReferenceKernels
from irisdrs.shared.data.models import RefpixModel
from irisdrs.shared.errors import CorruptObject, MissingReference

#: Relative difference of two times to read a detector that are meant to be the same.
_SAME_CADENCE = 1e-3

#: Most that the absolute taps of a kernel add up to: no output feels the noise a hundred times as side columns do.
_LARGEST_SUM = 100.0


def kernels_of(
    model: RefpixModel, shape: tuple[int, int], read_interval_s: float | None, detector: object = None
) -> ReferenceKernels:
    """Kernels for reads of a detector.

    Parameters
    ----------
    model : RefpixModel
    shape : (rows, columns)
        Of the detector.
    read_interval_s : float, optional
        Time to read it once, s; None if it is not known.
    detector : optional
        Its name, if it is known.

    Raises
    ------
    MissingReference
        If they were trained on another detector, one of another shape, or that was read at another pace.
    CorruptObject
        If they are no numbers, absurd ones, of no whole number of stripes, or longer than a column.
    """
    meta = model.meta
    own = meta.instrument.detector
    if detector and own and own not in (detector, "ANY"):
        raise MissingReference(
            f"Its kernels are for {own}, the reads are of {detector}.",
            remedy="Give kernels that were trained on darks of this detector: `iris readout refpix`.",
        )
    trained_on = meta.subarray.ysize, meta.subarray.xsize
    if trained_on != shape:
        raise MissingReference(
            f"Its kernels are for {trained_on[0]} x {trained_on[1]} pixels, the detector has {shape[0]} x {shape[1]}.",
            remedy="Give kernels that were trained on darks of this detector: `iris readout refpix`.",
        )
    cadence = meta.exposure.read_interval
    if cadence and read_interval_s and not math.isclose(cadence, read_interval_s, rel_tol=_SAME_CADENCE):
        raise MissingReference(
            f"Its kernels are for reads of {cadence} s, these take {read_interval_s} s: the noise has another rhythm.",
            remedy="Give kernels that were trained on darks which were read at this pace: `iris readout refpix`.",
        )
    taps = np.ascontiguousarray(model.kernels, np.float32)
    columns = int(meta.kernels.stripe_columns or 0)
    if taps.ndim != 3 or len(taps) != 2 or taps.shape[1] * columns != shape[1]:
        raise CorruptObject(
            f"Its kernels are {taps.shape} for stripes of {columns} columns: they do not cover {shape[1]} columns.",
            remedy="Make them anew: `iris readout refpix`.",
        )
    reach = taps.shape[2]
    if reach % 2 == 0 or reach > shape[0]:
        raise CorruptObject(
            f"Its kernels of {reach} rows have no middle, or are longer than the {shape[0]} rows of the detector.",
            remedy="Make them anew: `iris readout refpix`.",
        )
    bad = np.flatnonzero(~(np.abs(taps).sum(axis=(0, 2), dtype=np.float64) <= _LARGEST_SUM))
    if bad.size:
        raise CorruptObject(
            f"Kernels of {bad.size} stripes of columns are no numbers, or add up to more than {_LARGEST_SUM:g}; the "
            f"first one is from column {bad[0] * columns}.",
            remedy="Make them anew: `iris readout refpix`.",
        )
    return ReferenceKernels(taps, columns)
