"""Reduce one frame: a pure function of its job. Heavy to import: only worker processes and the command line do."""

import hashlib
import importlib.metadata

from irisdrs.calibrate.job import Reduced, Reduction
from irisdrs.calibrate.pipelines.image2 import Image2Pipeline
from irisdrs.shared import crash_points
from irisdrs.shared.data.fits import open_model, to_bytes
from irisdrs.shared.data.models import ImageModel, RawFrameModel


def reduce(job: Reduction) -> Reduced:
    """Run the pipeline with exactly the references of the job, and write the product.

    Nothing is asked of CRDS, and neither clock, path nor environment gets into the file: the same job gives the same
    bytes.

    Raises
    ------
    CorruptObject
        If the frame or a reference cannot be read.
    WrongShape
        If a reference is not of the frame's shape.
    """
    pipeline = Image2Pipeline()
    for reference in job.references:
        for name, step in pipeline.step_defs.items():
            if reference.type in step.reference_file_types:
                setattr(getattr(pipeline, name), f"override_{reference.type}", str(reference.path))
    image = pipeline.run(open_model(job.raw, RawFrameModel))
    crash_points.reach("calibrate.worker.reduce")
    _describe(image, job)
    data = to_bytes(image)
    job.output.write_bytes(data)
    return Reduced(
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        quality=_quality(image),
        step_versions=_step_versions(image, pipeline),
    )


def _describe(image: ImageModel, job: Reduction) -> None:
    """Write the job into the header: which references by their names in CRDS, under which context."""
    image.meta.product.id = job.product_id
    image.meta.provenance = {
        "inputs_hash": job.inputs_hash,
        "job_hash": job.job_hash,
        "software_version": job.software,
        "input_ids": job.raw_id,
    }
    image.meta.ref_file.crds.context_used = job.context
    for reference in job.references:
        getattr(image.meta.ref_file, reference.type).name = f"crds://{reference.name}"


def _quality(image: ImageModel) -> dict[str, float]:
    figures = {
        "sky_level": image.meta.quality.sky_level,
        "sky_noise": image.meta.quality.sky_noise,
        "bad_fraction": image.meta.quality.bad_fraction,
    }
    return {name: float(value) for name, value in figures.items() if value is not None}


def _step_versions(image: ImageModel, pipeline: Image2Pipeline) -> dict[str, str]:
    version = importlib.metadata.version("irisdrs-calibrate")
    return {name: version for name in pipeline.step_defs if getattr(image.meta.cal_step, name) == "COMPLETE"}
