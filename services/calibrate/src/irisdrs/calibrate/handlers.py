"""What the service does with events: one event in, events out."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path

from irisdrs.calibrate.identification import crds_parameters, identify
from irisdrs.calibrate.job import RECIPE, REFERENCE_TYPES, Reduced, Reduction
from irisdrs.calibrate.worker import WorkerPool
from irisdrs.shared import crash_points
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import FrameReady, FrameReduced
from irisdrs.shared.events.metadata import from_metadata, to_metadata
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ProductId
from irisdrs.shared.identity import Job, inputs_hash
from irisdrs.shared.references import Reference, References
from irisdrs.shared.store import keys
from irisdrs.shared.store.port import Store


async def on_frame_ready(
    event: FrameReady, *, store: Store, references: References, workers: WorkerPool, scratch: Path
) -> list[FrameReduced]:
    """Reduce a raw science frame of the imager, unless a product of the same frame is there.

    Raises
    ------
    Fatal
        If the frame is not one of the imager's, its bytes are not what was announced, or a reference is missing.
    Retryable
        If the worker process died or took too long.
    """
    if event.detector not in IMAGER_DETECTORS:
        raise Fatal(
            f"{event.product_id} is a frame of {event.detector}: the recipe {RECIPE} reduces imager frames only.",
            remedy="Discard the event: the frame itself is stored and catalogued.",
        )
    product = ProductId(event.exposure_id, 2, "image")
    inputs = (("raw", event.object.sha256),)
    versions = await store.keys(keys.version_prefix(event.night, product, inputs_hash(RECIPE, inputs)))
    found = await store.head(versions[-1]) if versions else None
    if found is not None:
        return [from_metadata(FrameReduced, found)]

    with tempfile.TemporaryDirectory(dir=scratch, prefix="calibrate-") as folder:
        output = Path(folder).absolute() / f"{product}.fits"
        async with store.local(event.object) as raw:
            header = await asyncio.to_thread(crds_parameters, raw)
            chosen = await references.best_references(header, REFERENCE_TYPES, event.crds_context)
            job = identify(inputs, chosen, event.crds_context)
            reduced = await workers.reduce(_reduction(event, product, job, chosen, raw, output))
        crash_points.reach("calibrate.put.before")
        key = keys.product_key(event.night, product, job.inputs_hash, job.job_hash)
        put = await store.put_file(key, output, metadata=to_metadata(_facts(event, product, job, reduced)))
        crash_points.reach("calibrate.put.after")
    return [from_metadata(FrameReduced, put.stored)]


def _reduction(
    event: FrameReady, product: ProductId, job: Job, chosen: Mapping[str, Reference], raw: Path, output: Path
) -> Reduction:
    return Reduction(
        raw=raw.absolute(),
        raw_id=event.product_id,
        product_id=str(product),
        references=tuple(chosen[kind] for kind in sorted(chosen)),
        context=job.context,
        inputs_hash=job.inputs_hash,
        job_hash=job.job_hash,
        software=job.software,
        output=output,
    )


def _facts(event: FrameReady, product: ProductId, job: Job, reduced: Reduced) -> dict[str, object]:
    """What the event that announces the product says, all but the object itself."""
    exposure = ("observation", "exposure_type", "exposure", "detector", "night", "photons_end")
    shared = event.model_dump(mode="json", include={*exposure, "reads_used", "reads_expected"})
    return shared | {
        "product_id": str(product),
        "product_type": product.kind,
        "level": product.level,
        "inputs": [["raw", event.product_id, event.object.sha256]],
        "crds_context": job.context,
        "references": {kind: name for kind, (name, _) in job.references.items()},
        "step_versions": dict(reduced.step_versions),
        "quality": dict(reduced.quality),
        "software_version": job.software,
        "inputs_hash": job.inputs_hash,
        "job_hash": job.job_hash,
    }
