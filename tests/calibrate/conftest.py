"""A raw frame and references of 64 x 128 pixels whose truth is known."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from irisdrs.shared.data.exposure_metadata import apply_read_header
from irisdrs.shared.data.fits import to_bytes
from irisdrs.shared.data.models import DarkModel, FlatModel, GainModel, MaskModel, RawFrameModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.events import FrameReady
from irisdrs.shared.identifiers import Detector, ExposureType, ObservingMode, ProductId, SamplingMode
from irisdrs.shared.quality import Quality
from irisdrs.shared.store.keys import product_key
from irisdrs.shared.store.port import Store

SHAPE = (64, 128)
NIGHT = date(2034, 8, 1)
GAIN = 2.0
DARK = 0.25
SKY_E_S = 40.0
HEADER = ReadHeader(
    observation="2034B-007-123",
    detector=Detector.IMG2,
    exposure_type=ExposureType.SCI,
    exposure=34,
    night=NIGHT,
    ramp=1,
    read=8,
    reads=8,
    ramps=1,
    read_time_s=5.76,
    read_interval_s=0.72,
    sampling_mode=SamplingMode.UTR,
    ended_at=datetime(2034, 8, 1, 5, 4, 8, 760000, tzinfo=UTC),
    mode=ObservingMode.IMG,
    filter="Kbb",
    scale_arcsec=0.004,
    ra_deg=150.0,
    dec_deg=-20.0,
    position_angle_deg=30.0,
    airmass=1.2,
    gain=GAIN,
    shape=SHAPE,
)
RAW_ID = ProductId(HEADER.exposure_id, 1, "raw")
PRODUCT_ID = ProductId(HEADER.exposure_id, 2, "image")


@dataclass(frozen=True)
class Night:
    """Files of one frame, and the truth behind them.

    Attributes
    ----------
    raw : Path
    references : dict of reference type to Path
    truth : ndarray, (ny, nx)
        Light of the sources without sky, electron/s.
    """

    raw: Path
    references: dict[str, Path]
    truth: np.ndarray


async def store_frame(store: Store, data: bytes, context: str) -> FrameReady:
    """Store a raw frame; gives the event that announces it."""
    put = await store.put(product_key(NIGHT, RAW_ID, "a" * 64, "b" * 64), data)
    return FrameReady(
        observation=HEADER.observation,
        exposure_type=HEADER.exposure_type,
        exposure=HEADER.exposure,
        detector=HEADER.detector,
        night=NIGHT,
        photons_end=HEADER.ended_at,
        product_id=str(RAW_ID),
        object=put.stored.ref,
        sampling_mode=HEADER.sampling_mode,
        reads_used=7,
        reads_expected=8,
        saturated_fraction=0.0,
        crds_context=context,
        software_version="0.1",
        inputs_hash="a" * 64,
        job_hash="b" * 64,
    )


def response() -> np.ndarray:
    """Pixel response; one pixel is dead."""
    flat = np.random.default_rng(7).normal(1.0, 0.05, SHAPE).astype(np.float32)
    flat[10, 20] = 0.0
    return flat


def sources() -> np.ndarray:
    """Two stars of 5000 and 20000 electron/s, with cores of 1.5 pixels."""
    y, x = np.indices(SHAPE)
    light = np.zeros(SHAPE)
    for x0, y0, flux in ((40.3, 30.6, 5000.0), (90.0, 20.0, 20000.0)):
        light += flux / (2 * np.pi * 1.5**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 1.5**2))
    return light


def raw_frame() -> RawFrameModel:
    """A raw frame in DN/s: (sources + sky) response / gain + dark + noise, with its variances."""
    rng = np.random.default_rng(8)
    rate = (sources() + SKY_E_S) * response() / GAIN + DARK
    var_poisson = (rate / (GAIN * HEADER.integration_time_s)).astype(np.float32)
    var_rnoise = np.full(SHAPE, 0.04, dtype=np.float32)
    signal = rng.normal(rate, np.sqrt(var_poisson + var_rnoise)).astype(np.float32)
    dq = np.zeros(SHAPE, dtype=np.uint32)
    dq[:4] = dq[-4:] = Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE
    dq[:, :4] = dq[:, -4:] = Quality.REFERENCE_PIXEL | Quality.DO_NOT_USE
    model = RawFrameModel(data=signal, err=np.sqrt(var_poisson + var_rnoise), var_poisson=var_poisson, dq=dq)
    model.var_rnoise = var_rnoise
    apply_read_header(model, HEADER)
    model.meta.product = {"id": str(RAW_ID), "level": 1, "kind": "raw"}
    model.meta.provenance.job_hash = "f" * 64
    model.meta.bunit_data = "DN/s"
    model.meta.cal_step.linearity = "COMPLETE"
    model.meta.ref_file.nonlincoeff.name = "crds://tmt_iris_nonlincoeff_0001.fits"
    return model


def reference_models() -> dict[str, DarkModel | FlatModel | GainModel | MaskModel]:
    """The references that say exactly what the frame was made of."""
    good = np.zeros(SHAPE, dtype=np.uint32)
    bad = good.copy()
    bad[12, 34] = Quality.HOT | Quality.DO_NOT_USE
    models = {
        "dark": DarkModel(data=np.full(SHAPE, DARK, np.float32), err=np.full(SHAPE, 0.01, np.float32), dq=good),
        "flat": FlatModel(data=response(), err=np.full(SHAPE, 0.001, np.float32), dq=good),
        "gain": GainModel(data=np.full(SHAPE, GAIN, np.float32)),
        "mask": MaskModel(dq=bad),
    }
    for kind, model in models.items():
        model.meta.instrument.name, model.meta.instrument.detector = "IRIS", str(HEADER.detector)
        model.meta.reftype, model.meta.useafter = kind, "2034-01-01T00:00:00"
        model.meta.pedigree, model.meta.author = "SIMULATION", "test"
        model.meta.description = f"{kind} of a test"
    models["dark"].meta.exposure.sampling_mode = str(HEADER.sampling_mode)
    models["dark"].meta.exposure.integration_time = HEADER.integration_time_s
    models["dark"].meta.subarray.name = "FULL"
    models["flat"].meta.instrument.filter, models["flat"].meta.instrument.pupil = HEADER.filter, "CLEAR"
    return models


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Night:
    """The frame and its references, written to files."""
    folder = tmp_path_factory.mktemp("night")
    raw = folder / f"{RAW_ID}.fits"
    raw.write_bytes(to_bytes(raw_frame()))
    references = {}
    for kind, model in reference_models().items():
        references[kind] = folder / f"tmt_iris_{kind}_0001.fits"
        references[kind].write_bytes(to_bytes(model))
    return Night(raw, references, sources())
