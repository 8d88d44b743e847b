"""A detector's calibration, read from its reference files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import Calibration, calibrate_for
from irisdrs.shared.data.fits import open_model
from irisdrs.shared.data.models import (
    GainModel,
    IrisModel,
    MaskModel,
    NonlinCoeffModel,
    ReadnoiseModel,
    SaturationModel,
)
from irisdrs.shared.errors import MissingReference


def load(paths: Mapping[str, Path], shape: tuple[int, int]) -> Calibration:
    """Read the references of a detector.

    Parameters
    ----------
    paths : mapping of reference type to file
        All of `calibration.REFERENCE_TYPES`.
    shape : (rows, columns)
        Of the reads.

    Raises
    ------
    CorruptObject
        If a file cannot be read.
    MissingReference
        If a reference is of another shape than the reads.
    """
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
            rows, columns = array.shape[-2:]
            if (rows, columns) != shape:
                raise MissingReference(
                    f"{path.name} is of {rows} x {columns} pixels, the reads of {shape[0]} x {shape[1]}.",
                    remedy="Deliver a reference of this detector's format.",
                )
            found[name] = array
    return found
