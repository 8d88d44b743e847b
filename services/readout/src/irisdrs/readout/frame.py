"""A raw science frame as a product: identity, file, announcement."""

from collections.abc import Mapping
from datetime import datetime

from irisdrs.readout.backend import RateFrame
from irisdrs.readout.calibration import KERNELS_TYPE
from irisdrs.readout.estimation import Estimation
from irisdrs.readout.membership import Membership
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.shared.data.exposure_metadata import apply_read_header
from irisdrs.shared.data.fits import to_bytes
from irisdrs.shared.data.models import RawFrameModel
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import ProductId
from irisdrs.shared.identity import Job, software_version
from irisdrs.shared.references import Reference

#: Steps that every raw frame has gone through, by their names in the data model.
STEPS = ("refpix", "saturation", "linearity", "ramp_fit")


def product_of(membership: Membership) -> ProductId:
    """Id of the raw frame of an exposure."""
    return ProductId(membership.exposure, 1, "raw")


def recipe_of(membership: Membership) -> str:
    """Name of the recipe, ``readout.utr`` or ``readout.cds``.

    It says nothing of the estimator: with the inputs it says of what a frame is, and in real time a frame of these
    inputs that is there is the frame, whichever estimator or version has made it. `job_of` says exactly how.
    """
    return f"readout.{membership.sampling.mode.lower()}"


def job_of(membership: Membership, estimation: Estimation, references: Mapping[str, Reference], context: str) -> Job:
    """Everything that decides the frame's bytes."""
    return Job(
        recipe=recipe_of(membership),
        inputs=membership.inputs(),
        parameters={
            "reads": membership.sampling.reads,
            "ramps": membership.sampling.ramps,
            **estimation.parameters(),
            **({"reference_algorithm": ReferenceAlgorithm.SIRS} if KERNELS_TYPE in references else {}),
        },
        references={kind: (found.name, found.sha256) for kind, found in references.items()},
        context=context,
        software=software_version(),
    )


def announcement_of(
    arrays: RateFrame, header: ReadHeader, photons_end: datetime, membership: Membership, job: Job
) -> dict[str, object]:
    """Fields of the `FrameReady` that announces the frame, all but its object: the object's metadata."""
    return {
        "observation": header.observation,
        "exposure_type": header.exposure_type,
        "exposure": header.exposure,
        "detector": header.detector,
        "night": header.night.isoformat(),
        "photons_end": photons_end.isoformat(),
        "product_id": str(product_of(membership)),
        "sampling_mode": membership.sampling.mode,
        "reads_used": len(membership.used),
        "reads_expected": membership.expected,
        "saturated_fraction": round(arrays.saturated_fraction, 9),
        "crds_context": job.context,
        "software_version": job.software,
        "inputs_hash": job.inputs_hash,
        "job_hash": job.job_hash,
    }


def to_file(
    arrays: RateFrame,
    header: ReadHeader,
    photons_end: datetime,
    reads_used: int,
    references: Mapping[str, str],
    job: Job | None = None,
    estimation: Estimation | None = None,
) -> bytes:
    """The frame as a FITS file.

    Parameters
    ----------
    arrays : RateFrame
    header : ReadHeader
        Of the first used read.
    photons_end : datetime
        End of the last used read (UTC).
    reads_used : int
    references : mapping of reference type to name
    job : Job, optional
        Of a frame that goes into the store.
    estimation : Estimation, optional
        How the rates were found.
    """
    product = ProductId(header.exposure_id, 1, "raw")
    with RawFrameModel() as model:
        model.data, model.err, model.dq = arrays.data, arrays.err, arrays.dq
        model.var_poisson, model.var_rnoise = arrays.var_poisson, arrays.var_rnoise
        apply_read_header(model, header)
        meta = model.meta
        meta.exposure.photons_end = photons_end.isoformat()
        meta.exposure.reads_used, meta.exposure.reads_expected = reads_used, header.reads * header.ramps
        meta.product.id, meta.product.level, meta.product.kind = str(product), product.level, product.kind
        meta.bunit_data = "DN/s"
        for kind, name in references.items():
            getattr(meta.ref_file, kind).name = name
        for step in STEPS:
            setattr(meta.cal_step, step, "COMPLETE")
        if KERNELS_TYPE in references:
            meta.sampling.reference_algorithm = ReferenceAlgorithm.SIRS.upper()
        if estimation is not None:
            meta.exposure.estimator = estimation.name
            meta.cal_step.jump = "COMPLETE" if estimation.finds_jumps else "SKIPPED"
            if estimation.grows_saturation:
                meta.sampling.saturation_grown = True
        if job is not None:
            meta.provenance.inputs_hash, meta.provenance.job_hash = job.inputs_hash, job.job_hash
            meta.provenance.software_version = job.software
            meta.ref_file.crds.context_used = job.context
        return to_bytes(model)
