"""`iris readout`: reads to frames without a bus, from files."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from pydantic import ValidationError
from rich.console import Console
from rich.progress import track
from rich.table import Table

from irisdrs.readout import constants
from irisdrs.readout.backend import Processor, RateFrame
from irisdrs.readout.builders import FrameBuilder, begin_frame
from irisdrs.readout.estimation import estimation_of
from irisdrs.readout.frame import to_file
from irisdrs.readout.ring import DEFAULT_BYTES, Room
from irisdrs.shared.data.fits import decode_read, read_header
from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality

app = typer.Typer(help="Reads to raw science frames: as a service, or offline.", no_args_is_help=True)

File = Annotated[Path, typer.Option(exists=True, dir_okay=False)]


@app.command()
def serve(
    detector: Annotated[
        list[Detector] | None, typer.Option(help="Detector; repeat it [default: $IRIS_READOUT_DETECTORS, all]")
    ] = None,
) -> None:
    """Read out detectors as a service: reads from the bus to raw science frames, until SIGTERM.

    Settings are environment variables: IRIS_AMQP_URL, IRIS_STORE_URL, IRIS_CRDS_URL and more, see the README.
    """
    from irisdrs.readout.main import compose  # noqa: PLC0415 - the command line without a bus starts sooner
    from irisdrs.shared.serve import run_service  # noqa: PLC0415

    detectors = tuple(detector or ())
    run_service("-".join(("readout", *detectors)), functools.partial(compose, detectors=detectors))


@app.command()
def fit(
    files: Annotated[list[Path], typer.Argument(help="Reads of one exposure, or folders that hold them", exists=True)],
    nonlincoeff: File,
    saturation: File,
    gain: File,
    readnoise: File,
    mask: File,
    mode: Annotated[SamplingMode | None, typer.Option(help="Sampling mode [default: the reads' own]")] = None,
    group_reads: Annotated[
        int | None, typer.Option(help="MCDS: reads in each of the two groups [default: the reads' own]", min=1)
    ] = None,
    output: Annotated[Path, typer.Option(help="Frame to write")] = Path("frame.fits"),
    as_json: Annotated[bool, typer.Option("--json", help="Print a summary as JSON")] = False,
) -> None:
    """Fit the slope of every pixel to the reads of an exposure of one detector, as the service does.

    Missing reads are left out, and the frame is flagged DROPOUT. The references are files, for instance those of
    `iris crds bestrefs`; the linearity may also be a file of the C library iris_readout (an image of five planes).
    """
    paths = {"nonlincoeff": nonlincoeff, "saturation": saturation, "gain": gain, "readnoise": readnoise, "mask": mask}
    reads = sorted(_headers(files), key=lambda read: (read.header.ramp, read.header.read))
    first = reads[0].header
    _check(reads)
    if output.exists():
        raise Fatal(f"{output} is there already.", remedy="Remove it, or name another file with --output.")
    processor = Processor()
    calibration = constants.load_for(paths, first, foreign=True)
    sampling = _sampling(first, mode or first.sampling_mode, group_reads)
    header = first.model_copy(update={"sampling_mode": sampling.mode, "group_reads": sampling.group_reads})
    estimation = estimation_of(sampling)
    builder = begin_frame(processor, Room(DEFAULT_BYTES, output.parent), calibration, sampling, estimation)
    _fold(builder, reads, quiet=as_json)
    whole = len(reads) == first.reads * first.ramps
    arrays = builder.close(Quality.GOOD if whole else Quality.DROPOUT)
    processor.shutdown()
    names = {kind: path.name for kind, path in paths.items()}
    output.write_bytes(to_file(arrays, header, reads[-1].header.ended_at, len(reads), names, estimation=estimation))
    _say(arrays, reads, output, as_json)


def _sampling(first: ReadHeader, mode: SamplingMode, group_reads: int | None) -> Sampling:
    """How the reads are to become a frame.

    Raises
    ------
    typer.BadParameter
        If their ramps do not suit the mode.
    """
    own = first.group_reads if mode is SamplingMode.MCDS else 1
    try:
        return Sampling(
            mode=mode,
            reads=first.reads,
            ramps=first.ramps,
            read_time_s=first.read_interval_s,
            shape=first.shape,
            group_reads=group_reads or own,
        )
    except ValidationError as wrong:
        raise typer.BadParameter(wrong.errors()[0]["msg"].removeprefix("Value error, ")) from wrong


@dataclass(frozen=True, slots=True)
class _Read:
    path: Path
    header: ReadHeader


def _headers(files: Sequence[Path]) -> list[_Read]:
    paths = [path for file in files for path in (sorted(file.rglob("*.fits")) if file.is_dir() else [file])]
    if not paths:
        raise Fatal("There is no FITS file in what you gave.", remedy="Name reads, or a folder that holds them.")
    return [_Read(path, read_header(path)) for path in paths]


def _check(reads: Sequence[_Read]) -> None:
    first, seen = reads[0].header, set()
    for read in reads:
        header = read.header
        if _exposure_of(header) != _exposure_of(first):
            raise Fatal(
                f"{read.path} is of {header.exposure_id}, {reads[0].path} of {first.exposure_id}, "
                "or one is of another window or sampling than the other.",
                remedy="Give the reads of one exposure of one detector, in one window.",
            )
        if header.read > header.reads:
            raise Fatal(f"{read.path} is read {header.read} of {header.reads}.", remedy="Look at READ_NO and NUMREADS.")
        if header.read_id in seen:
            raise Fatal(f"{read.path} is {header.read_id}, and another file is too.", remedy="Give each read once.")
        seen.add(header.read_id)


def _exposure_of(header: ReadHeader) -> tuple[object, ...]:
    """What all reads of an exposure have in common."""
    return header.exposure_id, header.shape, header.window, _sampling_of(header)


def _sampling_of(header: ReadHeader) -> Sampling:
    return Sampling(
        mode=header.sampling_mode,
        reads=header.reads,
        ramps=header.ramps,
        read_time_s=header.read_interval_s,
        shape=header.shape,
        group_reads=header.group_reads,
    )


def _fold(builder: FrameBuilder, reads: Sequence[_Read], *, quiet: bool) -> None:
    for read in track(reads, "folding", disable=quiet, console=Console(stderr=True)):
        pixels, header = decode_read(read.path.read_bytes(), read.header.shape)
        builder.fold(header.ramp, pixels, header.read_time_s)


def _say(arrays: RateFrame, reads: Sequence[_Read], output: Path, as_json: bool) -> None:
    good: NDArray[np.bool_] = (arrays.dq & np.uint32(Quality.DO_NOT_USE)) == 0
    header = reads[0].header
    facts = {
        "exposure": str(header.exposure_id),
        "output": str(output),
        "reads_used": len(reads),
        "reads_expected": header.reads * header.ramps,
        "median_rate_dn_s": float(np.median(arrays.data[good])) if good.any() else None,
        "median_err_dn_s": float(np.median(arrays.err[good])) if good.any() else None,
        "saturated_fraction": arrays.saturated_fraction,
        "usable_fraction": float(good.mean()),
    }
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table(show_header=False)
    for name, value in facts.items():
        table.add_row(name, str(value))
    Console().print(table)
