"""`iris readout refpix`: darks to the kernels of the reference pixels, from files, without a bus."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from irisdrs.readout.exposure_files import open_exposure
from irisdrs.readout.given_references import Given, calibration_of
from irisdrs.readout.offline_commands import check_absent, write_new
from irisdrs.readout.refpix_training import Dark, Training, check_darks, train
from irisdrs.readout.sampling.reference_kernels import HALF_WIDTH
from irisdrs.shared.data.fits import to_bytes
from irisdrs.shared.data.models import RefpixModel
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import REFERENCE_PIXEL_BORDER

#: What CRDS takes as PEDIGREE.
_PEDIGREE = re.compile(r"GROUND|SIMULATION|DUMMY|INFLIGHT \d{4}-\d\d-\d\d \d{4}-\d\d-\d\d")


def _pedigree(text: str) -> str:
    if not _PEDIGREE.fullmatch(text):
        raise typer.BadParameter("CRDS takes GROUND, SIMULATION, DUMMY or INFLIGHT with two dates, YYYY-MM-DD")
    return text


def _author(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("CRDS takes no reference without an author")
    return text


def refpix(
    darks: Annotated[
        list[Path],
        typer.Argument(
            help="Dark exposures: folders that hold the reads of one each, or ramp files", exists=True, metavar="DARKS"
        ),
    ],
    output: Annotated[Path, typer.Option(help="Reference to write; nothing is overwritten")] = Path("refpix.fits"),
    mask: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Bad pixels and reference pixels, if known")
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Parts of each channel's rows with a kernel of their own; 64 is each column", min=1)
    ] = 1,
    half_width: Annotated[
        int | None,
        typer.Option(
            help=f"Rows that kernels reach to either side; by default {HALF_WIDTH}, at most a quarter of all", min=1
        ),
    ] = None,
    detector: Annotated[Detector | None, typer.Option(help="Detector of the darks, if their files do not say")] = None,
    useafter: Annotated[
        datetime | None, typer.Option(help="Use from this time on (UTC); by default from the first dark")
    ] = None,
    pedigree: Annotated[
        str,
        typer.Option(help="GROUND, SIMULATION, DUMMY or 'INFLIGHT YYYY-MM-DD YYYY-MM-DD'", callback=_pedigree),
    ] = "GROUND",
    author: Annotated[str, typer.Option(help="Who answers for it", callback=_author)] = "IRIS DRS",
    read_time: Annotated[
        float | None, typer.Option(help="Seconds from one read to the next, for ramps whose files do not say")
    ] = None,
) -> None:
    """Train the kernels of the reference pixels on darks, for `iris readout fit --refpix` and for CRDS.

    iris readout refpix dark-1/ dark-2/ dark-3.fits --output refpix.fits

    They predict the 1/f noise of every output channel from the columns of reference pixels left and right. Some tens
    of reads are enough. Exit status: 0 done, 1 bad input, 2 wrong usage.
    """
    check_absent(output)
    found = [Dark(str(path), open_exposure([path], read_time)) for path in darks]
    check_darks(found)
    given: dict[str, Given] = {"gain": 1.0, "readnoise": 1.0}
    if mask is not None:
        given["mask"] = mask
    calibration = calibration_of(given, found[0].exposure, REFERENCE_PIXEL_BORDER)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("reads", total=sum(dark.exposure.number for dark in found))
        training = train(found, calibration, samples, half_width, lambda: progress.advance(task))
    with _model(found, training, detector, useafter) as model:
        model.meta.pedigree, model.meta.author, model.meta.filename = pedigree, author, output.name
        write_new(output, to_bytes(model))
    typer.echo(f"{output} has kernels of {training.kernels.taps.shape[1]} stripes, trained on {training.reads} reads.")


def _model(darks: list[Dark], training: Training, detector: Detector | None, useafter: datetime | None) -> RefpixModel:
    first = darks[0].exposure
    own = first.facts.get("instrument", {}).get("detector")
    resets = [dark.exposure.reset for dark in darks if dark.exposure.reset is not None]
    begin = useafter or (min(resets) if resets else None)
    if (detector or own) is None or begin is None:
        raise Fatal(
            "The darks do not say of which detector they are, or when they were taken.",
            remedy="Give --detector and --useafter.",
        )
    if detector and own and detector != own:
        raise Fatal(f"The darks are of {own}, not of {detector}.", remedy="Leave out --detector.")
    model = RefpixModel(kernels=training.kernels.taps)
    meta = model.meta
    meta.instrument.name, meta.instrument.detector = "IRIS", str(detector or own)
    meta.reftype, meta.useafter, meta.telescope = "refpix", f"{begin:%Y-%m-%dT%H:%M:%S}", "TMT"
    meta.description = f"Kernels of the reference pixels, {training.reads} reads of {len(darks)} darks"
    meta.exposure.read_interval = first.facts.get("exposure", {}).get("read_interval")
    meta.subarray.name, (meta.subarray.ysize, meta.subarray.xsize) = "FULL", first.shape
    meta.kernels.stripe_columns, meta.kernels.reads = training.kernels.stripe_columns, training.reads
    model.add_history_entry("Trained by iris readout refpix on the darks of INPUTIDS")
    meta.provenance.input_ids = ",".join(str(dark.exposure.identity or Path(dark.name).name) for dark in darks)
    return model
