"""The calibration of a detector from what is given by hand: some references or all, as files of ours or of others.

`constants` reads what CRDS has, which is always all of it. Here a reference that is not given does nothing, and gain
and read noise may be numbers.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from irisdrs.readout.calibration import KERNELS_TYPE, REFERENCE_TYPES, Calibration, calibrate_for
from irisdrs.readout.exposure_reads import ExposureReads
from irisdrs.readout.named_errors import about
from irisdrs.readout.refpix_files import kernels_of
from irisdrs.readout.sampling.linearity import COEFFICIENTS, IRIS_READOUT_PLANES, from_iris_readout
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.readout.sampling.reference_pixels import PARITIES
from irisdrs.readout.sampling.saturation import ADC_MAX
from irisdrs.shared.data.fits import first_image, headers, image_shape, open_model
from irisdrs.shared.data.models import (
    MODELS,
    GainModel,
    IrisModel,
    MaskModel,
    NonlinCoeffModel,
    ReadnoiseModel,
    RefpixModel,
    SaturationModel,
)
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference
from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER, channel_width
from irisdrs.shared.quality import Quality

#: Smallest and largest gain (electrons per DN) and noise of a read (DN): no detector comes near them. Far beyond them
#: variances leave what 32-bit floats hold, and all pixels of a frame would be flagged zeros.
SMALLEST, LARGEST = 1e-6, 1e9

#: A reference: a file, a model in memory, or a number for all pixels.
Given = Path | IrisModel | float

_MODELS: Mapping[str, type[IrisModel]] = {
    "gain": GainModel,
    "mask": MaskModel,
    "nonlincoeff": NonlinCoeffModel,
    "readnoise": ReadnoiseModel,
    "saturation": SaturationModel,
}


def border_of(exposure: ExposureReads, wanted: int | None) -> int:
    """Rows and columns of reference pixels on an edge: what is wanted, else those of our detectors; of others none."""
    if wanted is not None:
        return wanted
    return 0 if exposure.foreign else REFERENCE_PIXEL_BORDER


def types_for(algorithm: ReferenceAlgorithm, by_hand: Collection[str], exposure: ExposureReads) -> tuple[str, ...]:
    """Types of references that are wanted, when some are given by hand.

    Raises
    ------
    Fatal
        If kernels are given that shall not be used.
    MissingReference
        If they shall be used, and nobody has any for a ramp of another program.
    """
    if algorithm is ReferenceAlgorithm.MEAN:
        if KERNELS_TYPE in by_hand:
            raise Fatal("Kernels of reference pixels are given, and shall not be used.", remedy="Leave one out.")
        return REFERENCE_TYPES
    if exposure.foreign and KERNELS_TYPE not in by_hand:
        raise MissingReference(
            "CRDS has no kernels of reference pixels for a ramp of another program.",
            remedy="Make some of darks (`iris readout refpix`), and give them with --refpix.",
        )
    return (*REFERENCE_TYPES, KERNELS_TYPE)


def calibration_of(given: Mapping[str, Given], exposure: ExposureReads, border: int) -> Calibration:
    """Prepare the references of an exposure.

    Parameters
    ----------
    given : mapping of reference type to file, model or number
        Gain (electrons per DN) and read noise (DN) are needed. Without a mask no pixel is bad, without coefficients
        counts are linear, without a saturation level only the largest count of the converter is saturated. A file may
        be a data model of ours, or hold the pixels in its first image; linearity of five planes is that of the C
        library `iris_readout`.
    exposure : ExposureReads
        If it is of a window, references are of the whole detector, and there is a mask.
    border : int
        Rows and columns of reference pixels on each edge of the detector; 0: no correction by reference pixels.

    Raises
    ------
    MissingReference
        If gain or read noise are not given, or a file is of another shape.
    Fatal
        If no pixel has a usable gain, read noise or linearity, or channels cannot have reference pixels.
    CorruptObject
        If a file cannot be read.
    """
    missing = [kind for kind in ("gain", "readnoise") if kind not in given]
    if missing:
        raise MissingReference(
            f"No {' and no '.join(missing)} is known, and errors and weights need both.",
            remedy="Give a file or a number: --gain in electrons per DN, --readnoise in DN for one read.",
        )
    shape = exposure.shape if exposure.window is None else _shape(given["mask"])
    if 2 * border >= min(shape):
        raise Fatal(
            f"{border} reference pixels on each edge leave nothing of {shape[0]} x {shape[1]} pixels.",
            remedy="Give fewer with --reference-pixels, 0 for none.",
        )
    if border and channel_width(shape[1]) % PARITIES:
        raise Fatal(
            f"An output channel of {shape[1]} columns has not as many odd ones as even ones, whose offsets differ.",
            remedy="Give a ramp with a whole number of channels, or --reference-pixels 0.",
        )
    planes = {kind: _planes(kind, found, shape) for kind, found in given.items() if kind != KERNELS_TYPE}
    nothing = np.zeros(shape, np.uint32)
    identity = np.zeros((COEFFICIENTS, *shape), np.float32)
    identity[1] = 1
    whole = calibrate_for(
        mask=planes.get("mask", {}).get("dq", nothing),
        coefficients=planes.get("nonlincoeff", {}).get("coeffs", identity),
        coefficients_dq=planes.get("nonlincoeff", {}).get("dq", nothing),
        saturation=planes.get("saturation", {}).get("data", np.full(shape, ADC_MAX, np.float32)),
        saturation_dq=planes.get("saturation", {}).get("dq", nothing),
        gain=planes["gain"]["data"],
        read_noise=planes["readnoise"]["data"],
        border=border,
    )
    found = whole if exposure.window is None else whole.cut(exposure.window)
    found = found.without(exposure.guide_windows)
    _check_usable(found)
    return found if KERNELS_TYPE not in given else _with_kernels(found, given[KERNELS_TYPE], exposure)


def _with_kernels(calibration: Calibration, given: Given, exposure: ExposureReads) -> Calibration:
    if calibration.border == 0 or exposure.window is not None:
        raise Fatal(
            "Kernels of reference pixels are for reads of a whole detector with reference pixels.",
            remedy="Leave them out; of a ramp of another program say with --reference-pixels how many there are.",
        )
    cadence = exposure.facts.get("exposure", {}).get("read_interval")
    known = calibration.detector_shape, cadence, exposure.facts.get("instrument", {}).get("detector")
    if isinstance(given, RefpixModel):
        return calibration.with_kernels(kernels_of(given, *known))
    if not isinstance(given, Path):
        raise TypeError("kernels of reference pixels are a file or a model")
    with about(given), open_model(given, RefpixModel) as model:
        return calibration.with_kernels(kernels_of(model, *known))


def _check_usable(calibration: Calibration) -> None:
    """Refuse references that are of no use for any pixel, which are surely the wrong files."""
    dq = calibration.dq[calibration.science]
    if dq.size == 0:
        return  # a window of reference pixels alone
    for flag, what, options in (
        (Quality.NO_LIN_CORR, "The linearity coefficients of no pixel are finite numbers", "--nonlincoeff"),
        (Quality.NO_GAIN_VALUE, "The gain of no pixel is a positive number", "--gain"),
        (
            Quality.DO_NOT_USE,
            "No pixel has a gain, a read noise and no flag against its use",
            "--gain, --readnoise and --mask",
        ),
    ):
        if (dq & np.uint32(flag)).all():
            raise Fatal(f"{what}.", remedy=f"Look at what is given with {options}, or comes from CRDS.")
    usable = (dq & np.uint32(Quality.DO_NOT_USE)) == 0
    for plane, what, unit, option in (
        (calibration.gain, "gain", "electrons per DN", "gain"),
        (calibration.read_noise, "read noise", "DN", "readnoise"),
    ):
        known = plane[calibration.science][usable]
        if not ((known >= SMALLEST) & (known <= LARGEST)).any():
            raise Fatal(
                f"The {what} of no pixel lies between {SMALLEST:g} and {LARGEST:g} {unit}.",
                remedy=f"Look at the number or the file of --{option}, or what comes from CRDS.",
            )


def _shape(found: Given) -> tuple[int, int]:
    if isinstance(found, float):
        raise TypeError("a number has no shape")
    rows, columns = image_shape(found)[-2:] if isinstance(found, Path) else found.shape[-2:]
    return rows, columns


def _planes(kind: str, found: Given, shape: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Arrays of a reference by their names in its model."""
    if isinstance(found, float):
        return {"data": np.full(shape, found, np.float32)}
    if isinstance(found, IrisModel):
        planes = _of_model(kind, found)
    else:
        with about(found):
            planes = _of_file(kind, found)
    for array in planes.values():
        if array.shape[-2:] != shape:
            name = found.name if isinstance(found, Path) else f"The {kind} model"
            raise MissingReference(
                f"{name} is of {' x '.join(map(str, array.shape[-2:]))} pixels, the reads of {shape[0]} x {shape[1]}.",
                remedy=f"Give one of the reads' format with --{kind}.",
            )
    return planes


def _of_file(kind: str, path: Path) -> dict[str, NDArray[Any]]:
    cards = headers(path)[0]["cards"]
    assert isinstance(cards, dict)  # by the contract of `headers`, whose type cannot say it
    held = cards.get("DATAMODL")
    if held not in MODELS:
        return _of_image(kind, first_image(path))
    if MODELS[held] is not _MODELS[kind]:
        raise CorruptObject(f"It holds a {held}, and is given as {kind}.", remedy="Were two files swapped?")
    with open_model(path, _MODELS[kind]) as model:
        return _of_model(kind, model)


def _of_model(kind: str, model: IrisModel) -> dict[str, NDArray[Any]]:
    names: Mapping[str, Mapping[str, type]] = {
        "mask": {"dq": np.uint32},
        "nonlincoeff": {"coeffs": np.float32, "dq": np.uint32},
        "saturation": {"data": np.float32, "dq": np.uint32},
    }
    wanted = names.get(kind, {"data": np.float32})
    return {name: np.ascontiguousarray(getattr(model, name), dtype=dtype) for name, dtype in wanted.items()}


def _of_image(kind: str, pixels: NDArray[Any]) -> dict[str, NDArray[Any]]:
    if kind == "nonlincoeff":
        if pixels.ndim != 3 or len(pixels) not in (IRIS_READOUT_PLANES, COEFFICIENTS):
            raise CorruptObject(
                f"It is {pixels.shape}, and no file of linearity coefficients.",
                remedy="Give six planes a_0 to a_5, or the five planes of the C library iris_readout.",
            )
        planes = pixels.astype(np.float32)
        return {"coeffs": from_iris_readout(planes) if len(planes) == IRIS_READOUT_PLANES else planes}
    if pixels.ndim != 2:
        raise CorruptObject(
            f"It has {pixels.ndim} axes, a {kind} reference has two.", remedy="Give an image of rows and columns."
        )
    return {"dq": pixels.astype(np.uint32)} if kind == "mask" else {"data": pixels.astype(np.float32)}
