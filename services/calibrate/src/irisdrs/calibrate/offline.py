"""Reduce files without bus, store or services: references from files, or from a CRDS cache on disk."""

import hashlib
from pathlib import Path

from irisdrs.calibrate.identification import crds_parameters, identify, primary_cards
from irisdrs.calibrate.job import REFERENCE_TYPES, Reduced, Reduction
from irisdrs.calibrate.reduction import reduce
from irisdrs.shared.crds.library import Library
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ProductId
from irisdrs.shared.references import Reference


def reduce_file(raw: Path, library: Library, folder: Path) -> tuple[Path, Reduced]:
    """Reduce one raw science frame; gives the product's path in the folder, and what is known of it.

    Raises
    ------
    CorruptObject
        If the frame cannot be read or is no raw frame.
    MissingReference
        If a reference is missing.
    Fatal
        If it is no frame of the imager.
    """
    raw_id = _raw_id(raw)
    product = ProductId(raw_id.exposure, 2, "image")
    paths, context = library.choose(crds_parameters(raw), REFERENCE_TYPES)
    chosen = {kind: _reference(kind, path) for kind, path in paths.items()}
    job = identify((("raw", _sha256(raw)),), chosen, context)
    output = folder.absolute() / f"{product}.fits"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = output.with_suffix(".part")
    try:
        reduced = reduce(
            Reduction(
                raw=raw.absolute(),
                raw_id=str(raw_id),
                product_id=str(product),
                references=tuple(chosen[kind] for kind in sorted(chosen)),
                context=context,
                inputs_hash=job.inputs_hash,
                job_hash=job.job_hash,
                software=job.software,
                output=unfinished,
            )
        )
        unfinished.replace(output)
    finally:
        unfinished.unlink(missing_ok=True)
    return output, reduced


def _raw_id(raw: Path) -> ProductId:
    if not raw.is_file():
        raise CorruptObject(f"{raw} is no file.")
    try:
        found = ProductId.parse(str(primary_cards(raw).get("PRODID")))
    except ValueError as error:
        raise CorruptObject(f"{raw} is no raw science frame: {error}.") from error
    if found.level != 1 or found.exposure.detector not in IMAGER_DETECTORS:
        raise Fatal(f"{raw} holds {found}: only level 1 frames of the imager are reduced.")
    return found


def _reference(kind: str, path: Path) -> Reference:
    if not path.is_file():
        raise MissingReference(f"The {kind} reference {path} is no file.")
    return Reference(kind, path.name, _sha256(path), path.absolute())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
