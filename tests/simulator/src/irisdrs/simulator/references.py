"""Calibration references that say exactly what the simulated detectors are."""

from collections.abc import Iterable, Iterator
from datetime import date
from pathlib import Path

import numpy as np

from irisdrs.shared.data.fits import to_bytes
from irisdrs.shared.data.models import (
    DarkModel,
    FlatModel,
    GainModel,
    MaskModel,
    NonlinCoeffModel,
    ReadnoiseModel,
    ReferenceModel,
    SaturationModel,
)
from irisdrs.shared.quality import Quality
from irisdrs.simulator.detector import DetectorTruth


def write_references(
    directory: Path,
    truths: Iterable[DetectorTruth],
    filter_name: str,
    integration_time_s: float,
    night: date,
) -> list[Path]:
    """Write the references of detectors, seven FITS files each; one is in memory at a time.

    Dark current and the noise of one read hold for every sampling mode (N/A): so the detectors are simulated.

    Parameters
    ----------
    directory : Path
        Made if absent; files of the same names are replaced.
    truths : iterable of DetectorTruth
    filter_name : str
        That the flats hold for.
    integration_time_s : float
        That darks hold for: from the reset to the end of the last read of a ramp, seconds.
    night : date
        From whose beginning (UT) the references are used.

    Returns
    -------
    list of Path
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for truth in truths:
        for kind, model in _references(truth, filter_name, integration_time_s):
            model.meta.telescope = "TMT"
            model.meta.instrument.name = "IRIS"
            model.meta.instrument.detector = str(truth.detector)
            model.meta.reftype = kind
            model.meta.useafter = f"{night.isoformat()}T00:00:00"
            model.meta.pedigree = "SIMULATION"
            model.meta.description = f"True {kind} of the simulated detector, seed {truth.seed}"
            model.meta.author = "IRIS DRS simulator"
            model.add_history_entry("Written from the truth of the simulated detector")
            path = directory / f"iris_{kind}_{str(truth.detector).lower()}.fits"
            model.meta.filename = path.name
            path.write_bytes(to_bytes(model))
            written.append(path)
    return written


def _references(
    truth: DetectorTruth, filter_name: str, integration_time_s: float
) -> Iterator[tuple[str, ReferenceModel]]:
    """Reference types and models, one after another, so that one is in memory at a time."""
    gain = np.broadcast_to(truth.gain().astype(np.float32), truth.shape)
    none = np.zeros(truth.shape, np.float32)
    good = np.zeros(truth.shape, np.uint32)

    dark = DarkModel(data=truth.dark() / gain, err=none, dq=good)
    dark.meta.bunit_data = "DN/s"
    dark.meta.exposure.sampling_mode = "N/A"
    dark.meta.exposure.integration_time = integration_time_s
    dark.meta.subarray.name = "FULL"
    yield "dark", dark

    response = truth.flat()
    unlit = np.where(response > 0.0, 0, int(Quality.NO_FLAT_FIELD | Quality.DO_NOT_USE)).astype(np.uint32)
    flat = FlatModel(data=response, err=none, dq=unlit)
    flat.meta.instrument.filter = filter_name
    flat.meta.instrument.pupil = "CLEAR"
    yield "flat", flat

    yield "mask", MaskModel(dq=truth.quality())
    yield "nonlincoeff", NonlinCoeffModel(coeffs=truth.linearity(), dq=good)
    saturation = SaturationModel(data=truth.saturation(), dq=good)
    saturation.meta.bunit_data = "DN"
    saturation.meta.exposure.sampling_mode = "ANY"
    yield "saturation", saturation
    conversion = GainModel(data=np.array(gain))
    conversion.meta.bunit_data = "electron/DN"
    yield "gain", conversion

    noise = ReadnoiseModel(data=truth.read_noise())
    noise.meta.bunit_data = "DN"
    noise.meta.exposure.sampling_mode = "N/A"
    yield "readnoise", noise
