"""What a job is: the header that references are chosen by, and the identity of frame and references together."""

from collections.abc import Mapping
from pathlib import Path

from irisdrs.calibrate.job import RECIPE
from irisdrs.shared.crds.parameters import PARAMETERS
from irisdrs.shared.data.fits import headers
from irisdrs.shared.identity import Job, software_version
from irisdrs.shared.references import Reference


def crds_parameters(raw: Path) -> dict[str, str]:
    """CRDS matching parameters of a raw frame, from its header alone.

    Raises
    ------
    CorruptObject
        If it is no readable FITS file.
    """
    cards = primary_cards(raw)
    return {row.path.lower(): str(cards[row.keyword]) for row in PARAMETERS if row.keyword in cards}


def primary_cards(raw: Path) -> dict[str, object]:
    """Keywords of the primary header.

    Raises
    ------
    CorruptObject
        If it is no readable FITS file.
    """
    cards = headers(raw)[0]["cards"]
    assert isinstance(cards, dict)  # by the contract of `headers`, whose type cannot say it
    return cards


def identify(inputs: tuple[tuple[str, str], ...], chosen: Mapping[str, Reference], context: str) -> Job:
    """The job that a frame and its references make."""
    return Job(
        recipe=RECIPE,
        inputs=inputs,
        context=context,
        software=software_version(),
        references={kind: (reference.name, reference.sha256) for kind, reference in chosen.items()},
    )
