"""What the service does with events: one event in, events out."""

import asyncio
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irisdrs.calibrate.identification import crds_parameters, identify, primary_cards
from irisdrs.calibrate.job import RECIPE, REFERENCE_TYPES, Reduced, Reduction
from irisdrs.calibrate.worker import WorkerPool
from irisdrs.shared import crash_points
from irisdrs.shared.data.exposure_cards import check_exposure
from irisdrs.shared.errors import Fatal
from irisdrs.shared.events import CombinationRequested, FrameReady, FrameReduced, ReductionRequested
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.metadata import from_metadata, to_metadata
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ProductId
from irisdrs.shared.identity import Job, inputs_hash
from irisdrs.shared.references import Reference, References
from irisdrs.shared.store import keys
from irisdrs.shared.store.port import Store


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the handlers work with.

    Attributes
    ----------
    store, references
        The ports.
    workers : WorkerPool
    scratch : Path
        For temporary files.
    """

    store: Store
    references: References
    workers: WorkerPool
    scratch: Path


async def on_frame_ready(event: FrameReady, workshop: Workshop) -> list[FrameReduced]:
    """Reduce a raw science frame of the imager, unless a product of the same frame is there, however it was made.

    Raises
    ------
    Fatal
        If the frame is not one of the imager's, its bytes are not what was announced, or a reference is missing.
    Retryable
        If the worker process died, ran out of memory or took too long.
    """
    done = keys.version_prefix(event.night, _product(event), inputs_hash(RECIPE, _inputs(event)))
    versions = await workshop.store.keys(done)
    found = await workshop.store.head(versions[-1]) if versions else None
    if found is not None:
        return [from_metadata(FrameReduced, found)]
    return await _reduced(event, event.crds_context, workshop)


async def on_reduction_requested(event: ReductionRequested, workshop: Workshop) -> list[FrameReduced]:
    """Reduce a raw science frame under the context that is asked for, unless this very job was done.

    Raises as `on_frame_ready`.
    """
    return await _reduced(event.frame, event.crds_context, workshop)


async def on_combination_requested(event: CombinationRequested) -> list[Event]:
    """Refuse: no recipe combines frames yet.

    Raises
    ------
    Fatal
        Always.
    """
    raise Fatal(
        f"The rule {event.rule} asks for frames of {event.observation} to be combined, and this version has no recipe "
        "that combines: the request is parked.",
        remedy="Re-drive it after an upgrade to a version that combines frames.",
    )


async def _reduced(frame: FrameReady, context: str, workshop: Workshop) -> list[FrameReduced]:
    """The announcement of a frame's product under a context; it is made unless it is there.

    The same frame, references, context and software make the same job, and the job makes the key.
    """
    product, store = _product(frame), workshop.store
    with tempfile.TemporaryDirectory(dir=workshop.scratch, prefix="calibrate-") as folder:
        output = Path(folder).absolute() / f"{product}.fits"
        async with store.local(frame.object) as raw:
            header = await asyncio.to_thread(_parameters, raw, frame)
            chosen = await workshop.references.best_references(header, REFERENCE_TYPES, context)
            job = identify(_inputs(frame), chosen, context)
            key = keys.product_key(frame.night, product, job.inputs_hash, job.job_hash)
            found = await store.head(key)
            if found is not None:
                return [from_metadata(FrameReduced, found)]
            reduced = await workshop.workers.reduce(_reduction(frame, product, job, chosen, raw, output))
        crash_points.reach("calibrate.put.before")
        put = await store.put_file(key, output, metadata=to_metadata(_facts(frame, product, job, reduced)))
        crash_points.reach("calibrate.put.after")
    return [from_metadata(FrameReduced, put.stored)]


def _parameters(raw: Path, frame: FrameReady) -> dict[str, str]:
    """CRDS matching parameters of a frame, after a look whether the file is the frame that was announced."""
    check_exposure(primary_cards(raw), frame.exposure_id)
    return crds_parameters(raw)


def _product(frame: FrameReady) -> ProductId:
    """Id of what a frame is reduced to."""
    if frame.detector not in IMAGER_DETECTORS:
        raise Fatal(
            f"{frame.product_id} is a frame of {frame.detector}: the recipe {RECIPE} reduces imager frames only.",
            remedy="Discard the event: the frame itself is stored and catalogued.",
        )
    return ProductId(frame.exposure_id, 2, "image")


def _inputs(frame: FrameReady) -> tuple[tuple[str, str], ...]:
    """(role, SHA-256) of what the product is made of."""
    return (("raw", frame.object.sha256),)


def _reduction(
    frame: FrameReady, product: ProductId, job: Job, chosen: Mapping[str, Reference], raw: Path, output: Path
) -> Reduction:
    return Reduction(
        raw=raw.absolute(),
        raw_id=frame.product_id,
        product_id=str(product),
        references=tuple(chosen[kind] for kind in sorted(chosen)),
        context=job.context,
        inputs_hash=job.inputs_hash,
        job_hash=job.job_hash,
        software=job.software,
        output=output,
    )


def _facts(frame: FrameReady, product: ProductId, job: Job, reduced: Reduced) -> dict[str, object]:
    """What the event that announces the product says, all but the object itself."""
    exposure = ("observation", "exposure_type", "exposure", "detector", "night", "photons_end")
    shared = frame.model_dump(mode="json", include={*exposure, "reads_used", "reads_expected"})
    return shared | {
        "product_id": str(product),
        "product_type": product.kind,
        "level": product.level,
        "inputs": [["raw", frame.product_id, frame.object.sha256]],
        "crds_context": job.context,
        "references": {kind: name for kind, (name, _) in job.references.items()},
        "step_versions": dict(reduced.step_versions),
        "quality": dict(reduced.quality),
        "software_version": job.software,
        "inputs_hash": job.inputs_hash,
        "job_hash": job.job_hash,
    }
