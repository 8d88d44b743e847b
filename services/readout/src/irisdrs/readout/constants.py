"""A detector's calibration, read from its reference files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import KERNELS_TYPE, Calibration, calibrate_for
from irisdrs.readout.named_errors import about
from irisdrs.readout.refpix_files import kernels_of
from irisdrs.shared.data.fits import image_shape, open_model
from irisdrs.shared.data.models import (
    GainModel,
    IrisModel,
    MaskModel,
    NonlinCoeffModel,
    ReadnoiseModel,
    RefpixModel,
    SaturationModel,
)
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.window import Window


def load_for(paths: Mapping[str, Path], header: ReadHeader) -> Calibration:
    """Read the references for a read: those of its window, without its guide windows; all else as `load`.

    Kernels of the reference pixels are used if they are among them.
    """
    calibration = load(paths, header.shape, window=header.window).without(header.guide_windows)
    if KERNELS_TYPE not in paths:
        return calibration
    path = paths[KERNELS_TYPE]
    with about(path), open_model(path, RefpixModel) as model:
        return calibration.with_kernels(kernels_of(model, calibration.detector_shape, header.read_interval_s))


def load(paths: Mapping[str, Path], shape: tuple[int, int], *, window: Window | None = None) -> Calibration:
    """Read the references of a detector.

    Parameters
    ----------
    paths : mapping of reference type to file
        All of `calibration.REFERENCE_TYPES`.
    shape : (rows, columns)
        Of the reads.
    window : Window, optional
        Of the detector, if the reads are not of all of it: the references are cut to it.

    Raises
    ------
    CorruptObject
        If a file cannot be read.
    MissingReference
        If a reference is of another shape than the reads, or than the mask when there is a window.
    WrongShape
        If the window does not lie within the references.
    """
    if window is not None:
        rows, columns = image_shape(paths["mask"])[-2:]
        return load(paths, (rows, columns)).cut(window)
    mask = _arrays(paths["mask"], MaskModel, shape, dq=np.uint32)
    linearity = _arrays(paths["nonlincoeff"], NonlinCoeffModel, shape, coeffs=np.float32, dq=np.uint32)
    saturation = _arrays(paths["saturation"], SaturationModel, shape, data=np.float32, dq=np.uint32)
    return calibrate_for(
        mask=mask["dq"],
        coefficients=linearity["coeffs"],
        coefficients_dq=linearity["dq"],
        saturation=saturation["data"],
        saturation_dq=saturation["dq"],
        gain=_arrays(paths["gain"], GainModel, shape, data=np.float32)["data"],
        read_noise=_arrays(paths["readnoise"], ReadnoiseModel, shape, data=np.float32)["data"],
    )


def _arrays(path: Path, model_class: type[IrisModel], shape: tuple[int, int], **kinds: type) -> dict[str, NDArray[Any]]:
    found = {}
    with open_model(path, model_class) as model:
        for name, kind in kinds.items():
            array: NDArray[Any] = np.ascontiguousarray(getattr(model, name), dtype=kind)
            _check_shape(path, array, shape)
            found[name] = array
    return found


def _check_shape(path: Path, array: NDArray[Any], shape: tuple[int, int]) -> None:
    rows, columns = array.shape[-2:]
    if (rows, columns) != shape:
        raise MissingReference(
            f"{path.name} is of {rows} x {columns} pixels, the reads of {shape[0]} x {shape[1]}.",
            remedy="Deliver a reference of this detector's format.",
        )
