"""`iris readout fit` and `iris readout pack`: reads to frames and to ramps, from files, without a bus."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from irisdrs.readout import compiling
from irisdrs.readout.backend import Processor
from irisdrs.readout.calibration import KERNELS_TYPE
from irisdrs.readout.coadding import RampWeights
from irisdrs.readout.exposure_files import open_exposure
from irisdrs.readout.exposure_reads import ExposureReads, Rejection, leave_out
from irisdrs.readout.fitting import JumpTest
from irisdrs.readout.given_references import Given, border_of, calibration_of, types_for
from irisdrs.readout.offline import Choices, UtrEstimator, sample, settle
from irisdrs.readout.offline_frame import frame_model, reads_used, steps_done
from irisdrs.readout.offline_summary import as_text, summary
from irisdrs.readout.ramp_models import to_ramp
from irisdrs.readout.sampling.options import ReferenceAlgorithm
from irisdrs.shared.data.fits import to_bytes
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import SamplingMode

Files = Annotated[
    list[Path],
    typer.Argument(
        help="Reads of one exposure, folders that hold them, or one ramp file", exists=True, metavar="FILES"
    ),
]
ReadTime = Annotated[
    float | None,
    typer.Option("--read-time", help="Seconds from one read to the next, for a ramp whose file does not say"),
]
ResetTime = Annotated[
    list[str] | None,
    typer.Option("--reset-time", metavar="UTC", help="Reset of a ramp whose file does not say; once for each ramp"),
]


def _file(words: str, panel: str | None = None) -> Any:
    """An option that names a file, in a panel of the help."""
    return typer.Option(exists=True, dir_okay=False, help=words, rich_help_panel=panel)


def fit(
    files: Files,
    mode: Annotated[
        SamplingMode | None, typer.Option(help="Sampling mode; by default the reads' own, of a foreign ramp UTR")
    ] = None,
    group_reads: Annotated[
        int | None, typer.Option(help="MCDS: reads of each of the two groups; by default the reads' own", min=1)
    ] = None,
    estimator: Annotated[
        UtrEstimator | None,
        typer.Option(help="UTR: how reads become a rate; by default likelihood up to 150 reads, then optimal"),
    ] = None,
    jumps: Annotated[
        JumpTest | None,
        typer.Option(help="How cosmic rays are found; by default likelihood with that estimator, else none"),
    ] = None,
    jump_threshold: Annotated[
        float | None, typer.Option(help="Limit of the jump test, sigma; by default 4.5, two-point 4", min=0.1)
    ] = None,
    coadd: Annotated[
        RampWeights | None,
        typer.Option(help="How ramps are added; by default variance, with SINGLE and optimal time; sum gives DN"),
    ] = None,
    grow_saturation: Annotated[
        bool, typer.Option("--grow-saturation", help="The eight neighbours of a saturated pixel are saturated too")
    ] = False,
    reject_reads: Annotated[Path | None, _file("Table of telemetry: leave out reads")] = None,
    reject_intervals: Annotated[
        Path | None, _file("Table of telemetry: leave out intervals, with their photons")
    ] = None,
    minimum: Annotated[float | None, typer.Option(help="Smallest value of the tables to use")] = None,
    maximum: Annotated[float | None, typer.Option(help="Largest value of the tables to use")] = None,
    read_time: ReadTime = None,
    reset_time: ResetTime = None,
    nonlincoeff: Annotated[
        Path | None, _file("Linearity coefficients: a_0 to a_5, or five planes of iris_readout", "References")
    ] = None,
    saturation: Annotated[Path | None, _file("Count from which on a pixel is saturated, DN", "References")] = None,
    mask: Annotated[Path | None, _file("Flags of bad pixels, as in DQ", "References")] = None,
    gain: Annotated[
        str | None, typer.Option(help="File, or a number: electrons per DN", rich_help_panel="References")
    ] = None,
    readnoise: Annotated[
        str | None, typer.Option(help="File, or a number: noise of one read, DN", rich_help_panel="References")
    ] = None,
    reference_pixels: Annotated[
        int | None,
        typer.Option(
            help="Rows and columns of reference pixels on each edge; by default 4, of foreign ramps 0",
            min=0,
            rich_help_panel="References",
        ),
    ] = None,
    reference_algorithm: Annotated[
        ReferenceAlgorithm | None,
        typer.Option(
            help="How they are used: mean; sirs with --refpix, its default, or with kernels from CRDS",
            rich_help_panel="References",
        ),
    ] = None,
    refpix: Annotated[
        Path | None, _file("Kernels from `iris readout refpix`, which take correlated noise off the rows", "References")
    ] = None,
    crds_path: Annotated[
        Path | None,
        typer.Option(envvar="CRDS_PATH", help="CRDS cache for what is not given", rich_help_panel="References"),
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            envvar="CRDS_CONTEXT", help="CRDS context; by default the one in force", rich_help_panel="References"
        ),
    ] = None,
    output: Annotated[Path, typer.Option(help="Frame to write; nothing is overwritten")] = Path("frame.fits"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON")] = False,
) -> None:
    """Fit the rate of every pixel (DN/s) to the reads of an exposure of one detector.

    FILES are our reads, or one ramp: an image of (integrations,) reads, rows, columns, ours or of another program.

    As the service does: iris readout fit reads/ --crds-path CACHE

    Sampled anew: iris readout fit reads/ --mode MCDS --group-reads 4 --crds-path CACHE

    Without poor seeing: iris readout fit reads/ --reject-intervals seeing.ecsv --maximum 0.8 --crds-path CACHE

    Somebody else's ramp: iris readout fit ramp.fits --read-time 0.72 --gain 2.5 --readnoise 6

    A table of telemetry is an ECSV file with the columns time and value: UTC dates, or seconds since the first reset.
    A value holds until the next. Rejected reads cost no photons; rejected intervals do, and with them what was bad.

    References of our reads come from CRDS unless they are given. What is not given for a foreign ramp is not done;
    gain and read noise it needs. Linearity may be a file of the C library iris_readout (five planes).

    Missing reads are left out, and the frame is flagged DROPOUT. Exit status: 0 done, 1 bad input, 2 wrong usage.
    """
    rejection = Rejection(
        reject_reads,
        reject_intervals,
        -np.inf if minimum is None else minimum,
        np.inf if maximum is None else maximum,
    )
    rejection.check()
    check_absent(output)
    exposure = leave_out(open_exposure(files, read_time, reset_time or ()), rejection)
    for warning in exposure.warnings:
        typer.echo(f"Warning: {warning}", err=True)
    algorithm = reference_algorithm or (ReferenceAlgorithm.SIRS if refpix else ReferenceAlgorithm.MEAN)
    wanted = Choices(
        mode or exposure.mode, estimator, group_reads, jumps, jump_threshold, coadd, grow_saturation, algorithm
    )
    choices = settle(wanted, exposure)
    files_given = {"nonlincoeff": nonlincoeff, "saturation": saturation, "mask": mask, KERNELS_TYPE: refpix}
    by_hand: dict[str, Given] = {kind: path for kind, path in files_given.items() if path is not None}
    for kind, text in (("gain", gain), ("readnoise", readnoise)):
        if text is not None:
            by_hand[kind] = _file_or_number(kind, text)
    types = types_for(algorithm, by_hand, exposure)
    given, crds_context = _references(exposure, by_hand, types, crds_path, context)
    border = border_of(exposure, reference_pixels)
    calibration = calibration_of(given, exposure, border)
    processor = Processor()
    console = Console(stderr=True)
    with (
        compiling.saying_so(console.print),
        Progress(console=console, transient=True, disable=as_json or not console.is_terminal) as progress,
    ):
        task = progress.add_task("reads", total=reads_used(exposure, choices))
        arrays = sample(processor, exposure, calibration, choices, lambda: progress.advance(task))
    processor.shutdown()
    steps = steps_done(exposure, choices, given, border)
    with frame_model(arrays, exposure, choices, steps) as model:
        for kind, found in given.items():
            getattr(model.meta.ref_file, kind).name = _name_of(found, kind in by_hand)
        model.meta.ref_file.crds.context_used = crds_context
        write_new(output, to_bytes(model))
    facts = summary(arrays, exposure, choices, steps, given, output)
    typer.echo(json.dumps(facts) if as_json else as_text(facts))


def pack(
    files: Files,
    output: Annotated[Path, typer.Option(help="Ramp to write; nothing is overwritten")] = Path("ramp.fits"),
    read_time: ReadTime = None,
    reset_time: ResetTime = None,
) -> None:
    """Pack all reads of an exposure into one ramp file, with their times: what `strun iris_readout` takes.

    iris readout pack reads/ --output ramp.fits
    """
    check_absent(output)
    exposure = open_exposure(files, read_time, reset_time or ())
    with to_ramp(exposure) as model:
        write_new(output, to_bytes(model))
    typer.echo(f"{output} has {exposure.number} reads of {exposure.expected}.")


def check_absent(output: Path) -> None:
    """Refuse to overwrite anything, and to compute for a file that has no folder.

    Raises
    ------
    Fatal
        If there is something of that name, or no folder for it.
    """
    if output.exists():
        raise Fatal(f"{output} is there already.", remedy="Remove it, or name another file with --output.")
    if not output.parent.is_dir():
        raise Fatal(f"There is no folder {output.parent}.", remedy="Make it, or name another file with --output.")


def write_new(output: Path, data: bytes) -> None:
    """Write a file, or leave nothing behind: the bytes go beside it, and an exclusive link makes it appear whole.

    Raises
    ------
    Fatal
        If there is something of that name, or it cannot be written.
    """
    check_absent(output)
    part = output.with_name(f".{uuid4().hex}.part")
    try:
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, output)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Fatal(f"{output} cannot be written: {error.strerror}.", remedy="Name another file or folder.") from error


def _file_or_number(kind: str, text: str) -> Given:
    """A gain or a read noise as it is given on the command line."""
    path = Path(text)
    if path.is_file():
        return path
    try:
        number = float(text)
    except ValueError:
        raise Fatal(f"{text} is neither a file nor a number.", remedy=f"Give one of them with --{kind}.") from None
    return number


def _references(
    exposure: ExposureReads,
    by_hand: Mapping[str, Given],
    types: Sequence[str],
    cache: Path | None,
    context: str | None,
) -> tuple[dict[str, Given], str | None]:
    """References by type, and the CRDS context of those that were not given by hand."""
    wanted = [kind for kind in types if kind not in by_hand]
    if exposure.foreign or not wanted:
        return dict(by_hand), None
    from irisdrs.shared.crds.library import Library  # noqa: PLC0415 - the client of CRDS takes a second

    found, chosen_under = Library({}, cache, context).choose(exposure.crds_parameters, wanted)
    return {**by_hand, **found}, chosen_under


def _name_of(found: Given, by_hand: bool) -> str:
    """What the header says of a reference."""
    if not isinstance(found, Path):
        return str(found)
    return found.name if by_hand else f"crds://{found.name}"
