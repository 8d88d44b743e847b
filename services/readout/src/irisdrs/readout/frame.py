"""A raw science frame as a product: identity, file, announcement."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from irisdrs.readout.backend import RateFrame
from irisdrs.readout.membership import Membership
from irisdrs.shared.data.fits import apply_read_header, to_bytes
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.events.facts import FrameReady
from irisdrs.shared.identifiers import ProductId
from irisdrs.shared.identity import Job, software_version
from irisdrs.shared.references import Reference
from irisdrs.shared.store.keys import product_key
from irisdrs.shared.store.port import ObjectRef

#: Steps that every raw frame has gone through, by their names in the data model.
STEPS = ("refpix", "saturation", "linearity", "ramp_fit")


def product_of(membership: Membership) -> ProductId:
    """Id of the raw frame of an exposure."""
    return ProductId(membership.exposure, 1, "raw")


def recipe_of(membership: Membership) -> str:
    """Name of the recipe, ``readout.utr`` or ``readout.cds``."""
    return f"readout.{membership.sampling.mode.lower()}"


def job_of(membership: Membership, references: Mapping[str, Reference], context: str) -> Job:
    """Everything that decides the frame's bytes."""
    return Job(
        recipe=recipe_of(membership),
        inputs=membership.inputs(),
        parameters={"reads": membership.sampling.reads, "ramps": membership.sampling.ramps},
        references={kind: (found.name, found.sha256) for kind, found in references.items()},
        context=context,
        software=software_version(),
    )


@dataclass(frozen=True, slots=True)
class RawFrame:
    """A frame that is ready to be stored."""

    key: str
    data: bytes
    announcement: FrameReady


def build(
    arrays: RateFrame,
    header: ReadHeader,
    photons_end: datetime,
    membership: Membership,
    job: Job,
) -> RawFrame:
    """Make the frame's file.

    Parameters
    ----------
    arrays : RateFrame
    header : ReadHeader
        Of the first used read.
    photons_end : datetime
        End of the last used read (UTC).
    membership : Membership
    job : Job
    """
    product = product_of(membership)
    with RawFrameModel() as model:
        model.data, model.err, model.dq = arrays.data, arrays.err, arrays.dq
        model.var_poisson, model.var_rnoise = arrays.var_poisson, arrays.var_rnoise
        apply_read_header(model, header)
        _describe(model, photons_end, membership, job, product)
        data = to_bytes(model)
    key = product_key(header.night, product, job.inputs_hash, job.job_hash)
    announcement = FrameReady(
        observation=header.observation,
        exposure_type=header.exposure_type,
        exposure=header.exposure,
        detector=header.detector,
        night=header.night,
        photons_end=photons_end,
        product_id=str(product),
        object=ObjectRef(key=key, sha256="0" * 64, size=len(data)),
        sampling_mode=membership.sampling.mode,
        reads_used=len(membership.used),
        reads_expected=membership.expected,
        saturated_fraction=round(arrays.saturated_fraction, 9),
        crds_context=job.context,
        software_version=job.software,
        inputs_hash=job.inputs_hash,
        job_hash=job.job_hash,
    )
    return RawFrame(key, data, announcement)


def _describe(
    model: RawFrameModel, photons_end: datetime, membership: Membership, job: Job, product: ProductId
) -> None:
    exposure = model.meta.exposure
    exposure.photons_end = photons_end.isoformat()
    exposure.reads_used, exposure.reads_expected = len(membership.used), membership.expected
    exposure.exposure_time = membership.sampling.ramps * membership.sampling.ramp_time_s
    model.meta.product.id, model.meta.product.level, model.meta.product.kind = str(product), 1, product.kind
    model.meta.bunit_data = "DN/s"
    model.meta.provenance.inputs_hash, model.meta.provenance.job_hash = job.inputs_hash, job.job_hash
    model.meta.provenance.software_version = job.software
    model.meta.ref_file.crds.context_used = job.context
    for kind, (name, _) in job.references.items():
        getattr(model.meta.ref_file, kind).name = f"crds://{name}"
    for step in STEPS:
        setattr(model.meta.cal_step, step, "COMPLETE")
