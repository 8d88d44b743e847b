"""Does a file belong to the exposure that it was announced for?"""

from collections.abc import Mapping

from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.identifiers import ExposureId


def check_exposure(cards: Mapping[str, object], exposure: ExposureId) -> None:
    """Hold the keywords of a file's headers against an exposure; a keyword that is not there says nothing.

    Raises
    ------
    CorruptObject
        If one says another exposure.
    """
    announced = {
        "OBS_ID": exposure.observation,
        "DETECTOR": str(exposure.detector),
        "EXPTYPE": str(exposure.type),
        "EXP_NO": exposure.number,
    }
    for keyword, value in announced.items():
        if keyword in cards and cards[keyword] != value:
            raise CorruptObject(
                f"The file announced for {exposure} says {keyword} = {cards[keyword]!r}.",
                remedy="It belongs to another exposure: look at who announced it.",
            )
