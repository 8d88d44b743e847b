"""`iris readout`: the service, and what it does without a bus."""

import functools
from typing import Annotated

import typer

from irisdrs.readout.offline_commands import fit, pack
from irisdrs.readout.refpix_command import refpix
from irisdrs.shared.identifiers import Detector

app = typer.Typer(help="Reads to raw science frames: as a service, or offline.", no_args_is_help=True)


@app.command()
def serve(
    detector: Annotated[
        list[Detector] | None, typer.Option(help="Detector; repeat it [default: $IRIS_READOUT_DETECTORS, all]")
    ] = None,
) -> None:
    """Read out detectors as a service: reads from the bus to raw science frames, until SIGTERM.

    Settings are environment variables: IRIS_AMQP_URL, IRIS_STORE_URL, IRIS_CRDS_URL, IRIS_DEVICE (a CUDA device, or the
    processor) and more, see the README.
    """
    from irisdrs.readout.main import compose  # noqa: PLC0415 - the command line without a bus starts sooner
    from irisdrs.shared.serve import run_service  # noqa: PLC0415

    detectors = tuple(detector or ())
    run_service("-".join(("readout", *detectors)), functools.partial(compose, detectors=detectors))


app.command()(fit)
app.command()(pack)
app.command()(refpix)
