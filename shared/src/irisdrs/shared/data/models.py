"""Data models: what a file holds, checked against its schema.

The arrays and keywords of each model are in `schemas/`. A value that does not fit its schema is an error, not a
warning.
"""

from typing import Any

from stdatamodels import DataModel

from irisdrs.shared.data.schema_resources import SCHEMA_URI

#: CRDS matching parameters by the path of what they are in a model.
_CRDS_PATHS = (
    "meta.instrument.name",
    "meta.instrument.detector",
    "meta.instrument.mode",
    "meta.instrument.filter",
    "meta.instrument.pupil",
    "meta.instrument.scale",
    "meta.instrument.grating",
    "meta.exposure.type",
    "meta.exposure.sampling_mode",
    "meta.exposure.integration_time",
    "meta.subarray.name",
    "meta.observation.date",
    "meta.observation.time",
)


class IrisModel(DataModel):
    """What all models of IRIS share: their metadata and how CRDS is asked about them."""

    schema_url = f"{SCHEMA_URI}core.schema"

    def __init__(self, init: Any = None, **kwargs: Any) -> None:
        kwargs.setdefault("strict_validation", True)
        super().__init__(init, **kwargs)

    @property
    def crds_observatory(self) -> str:
        """Observatory code of CRDS."""
        return "tmt"

    def get_crds_parameters(self) -> dict[str, str]:
        """CRDS matching parameters: dotted names and strings; numbers (arcsec, seconds) with three decimals."""
        found = {path: self._said(path) for path in _CRDS_PATHS}
        return {
            path: f"{value:.3f}" if isinstance(value, float) else str(value)
            for path, value in found.items()
            if value is not None
        }

    def _said(self, path: str) -> Any:
        node: Any = self._instance
        for name in path.split("."):
            if node is None:
                return None
            node = node.get(name)
        return float(node) if path.endswith((".scale", ".integration_time")) and node is not None else node

    def on_init(self, init: Any) -> None:
        """Keep the name that the file says; an open stream has none of its own."""
        super().on_init(init if isinstance(init, str) else None)

    def on_save(self, path: Any = None) -> None:
        """Name the file after its product, never after where it is written."""
        super().on_save(None)
        product = self._said("meta.product.id")
        if product is not None:
            self.meta.filename = f"{product}.fits"

    def _migrate_hdulist(self, hdulist: Any) -> Any:
        """Leave checksums behind: they hold for the file, not for the model."""
        for hdu in hdulist:
            for keyword in ("CHECKSUM", "DATASUM"):
                hdu.header.remove(keyword, ignore_missing=True)
        return hdulist


class ReadModel(IrisModel):
    """One read: `data` uint16, DN."""

    schema_url = f"{SCHEMA_URI}read.schema"


class RampModel(IrisModel):
    """All reads of an exposure: `data` uint16 (ramp, read, row, column), DN; `read_times`, seconds since the reset.

    `reset_times` says when each ramp began; `use_read` and `use_interval` are there when something is left out.
    """

    schema_url = f"{SCHEMA_URI}ramp.schema"


class RawFrameModel(IrisModel):
    """Raw science frame (level 1): `data` and `err` in DN/s, `var_poisson`, `var_rnoise`, `dq`.

    Of ramps that were summed in DN, with their `exposure_time` in seconds.
    """

    schema_url = f"{SCHEMA_URI}raw_frame.schema"


class ImageModel(IrisModel):
    """Reduced image (level 2): `data` and `err` in electron/s, `var_poisson`, `var_rnoise`, `var_flat`, `dq`."""

    schema_url = f"{SCHEMA_URI}image.schema"


class ReferenceModel(IrisModel):
    """What all calibration references share."""

    schema_url = f"{SCHEMA_URI}reference.schema"


class DarkModel(ReferenceModel):
    """Dark current: `data` and `err` in DN/s, `dq`."""

    schema_url = f"{SCHEMA_URI}dark.schema"


class FlatModel(ReferenceModel):
    """Relative response to light, median about 1: `data`, `err`, `dq`."""

    schema_url = f"{SCHEMA_URI}flat.schema"


class MaskModel(ReferenceModel):
    """Bad pixels: `dq`."""

    schema_url = f"{SCHEMA_URI}mask.schema"

    def get_primary_array_name(self) -> str:
        return "dq"


class NonlinCoeffModel(ReferenceModel):
    """Linearity correction: `coeffs` float32 (6, row, column), y = sum a_i x**i; x in DN after reference pixels."""

    schema_url = f"{SCHEMA_URI}nonlincoeff.schema"

    def get_primary_array_name(self) -> str:
        return "coeffs"


class RefpixModel(ReferenceModel):
    """Kernels of the reference pixels: `kernels` float32 (side, stripe, tap), see `ReferenceKernels` of the readout.

    XSIZE, YSIZE and READTIME are those of the darks that they were trained on.
    """

    schema_url = f"{SCHEMA_URI}refpix.schema"

    def get_primary_array_name(self) -> str:
        return "kernels"


class SaturationModel(ReferenceModel):
    """Saturation level: `data` in raw DN, `dq`."""

    schema_url = f"{SCHEMA_URI}saturation.schema"


class GainModel(ReferenceModel):
    """Conversion gain: `data` in electron/DN."""

    schema_url = f"{SCHEMA_URI}gain.schema"


class ReadnoiseModel(ReferenceModel):
    """Noise of one read: `data` in DN."""

    schema_url = f"{SCHEMA_URI}readnoise.schema"


#: Models that a file can hold, by the DATAMODL keyword.
MODELS: dict[str, type[IrisModel]] = {
    model.__name__: model
    for model in (
        ReadModel,
        RampModel,
        RawFrameModel,
        ImageModel,
        DarkModel,
        FlatModel,
        MaskModel,
        NonlinCoeffModel,
        RefpixModel,
        SaturationModel,
        GainModel,
        ReadnoiseModel,
    )
}
