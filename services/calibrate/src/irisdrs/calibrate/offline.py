"""Reduce files without bus, store or services: references from files, or from a CRDS cache on disk."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import crds

from irisdrs.calibrate.identification import crds_parameters, identify, primary_cards
from irisdrs.calibrate.job import REFERENCE_TYPES, Reduced, Reduction
from irisdrs.calibrate.reduction import reduce
from irisdrs.shared.crds import register
from irisdrs.shared.crds.cache import Cache, context_in_force
from irisdrs.shared.crds.registration import OBSERVATORY, client_environment
from irisdrs.shared.errors import CorruptObject, Fatal, MissingReference
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ProductId
from irisdrs.shared.references import Reference

#: What the header names as the CRDS context when every reference was given by hand.
NO_CONTEXT = "NONE"


@dataclass(frozen=True, slots=True)
class Library:
    """Where references come from.

    Attributes
    ----------
    overrides : mapping of reference type to Path
        Files given by hand; they go before CRDS.
    cache : Path, optional
        CRDS cache (CRDS_PATH) for all other types.
    context : str, optional
        CRDS context; without it the one in force in the cache.
    """

    overrides: Mapping[str, Path]
    cache: Path | None = None
    context: str | None = None

    def choose(self, parameters: Mapping[str, str]) -> tuple[dict[str, Reference], str]:
        """Best reference of each type for CRDS matching parameters, and the context they were chosen under.

        Raises
        ------
        MissingReference
            If a type has neither override nor match; names all of them.
        """
        wanted = [kind for kind in REFERENCE_TYPES if kind not in self.overrides]
        paths, context = dict(self.overrides), NO_CONTEXT
        if wanted:
            if self.cache is None:
                raise MissingReference(
                    f"No reference is given for {', '.join(wanted)}.",
                    remedy="Give --override TYPE=FILE for each, or a CRDS cache with --crds-path.",
                )
            found, context = _ask_crds(self.cache, self.context, parameters, wanted)
            paths |= found
        return {kind: _reference(kind, path) for kind, path in paths.items()}, context


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
    chosen, context = library.choose(crds_parameters(raw))
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


def _ask_crds(
    cache: Path, context: str | None, parameters: Mapping[str, str], wanted: list[str]
) -> tuple[dict[str, Path], str]:
    register()
    context = context or context_in_force(Cache(cache.absolute()))
    if context is None:
        raise MissingReference(f"The CRDS cache {cache} holds no context.", remedy="Is it the right folder?")
    header = {name.upper(): value for name, value in parameters.items()}
    try:
        with _environment(client_environment(cache)):
            answers = crds.getreferences(header, reftypes=wanted, context=context, observatory=OBSERVATORY)
    except (Exception, SystemExit) as error:
        raise MissingReference(f"CRDS cannot choose {', '.join(wanted)} under {context}: {error}") from error
    missing = [kind for kind in wanted if not Path(answers[kind]).is_file()]
    if missing:
        raise MissingReference(
            f"{context} knows no {', '.join(missing)} for this configuration: {dict(parameters)}.",
            remedy="Give them with --override TYPE=FILE.",
        )
    return {kind: Path(answers[kind]) for kind in wanted}, context


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Environment variables, the only way to tell the CRDS client its cache, for as long as they are needed."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reference(kind: str, path: Path) -> Reference:
    if not path.is_file():
        raise MissingReference(f"The {kind} reference {path} is no file.")
    return Reference(kind, path.name, _sha256(path), path.absolute())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
