"""Which calibrations are missing for a planned observation: before the night, not in it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from irisdrs.shared.crds.parameters import BY_PATH, matching_parameters
from irisdrs.shared.crds.reference_types import READOUT_TYPES, REDUCTION_TYPES, reference_types
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.references import References


@dataclass(frozen=True, slots=True)
class Missing:
    """A reference that the pipelines will ask for, and not get.

    Attributes
    ----------
    detector : Detector
    type : str
        Reference type.
    configuration : mapping of str to str
        Values that a reference must have to match, by FITS keyword.
    reason : str
        Why there is none: no match, or a file that is absent or damaged.
    """

    detector: Detector
    type: str
    configuration: Mapping[str, str]
    reason: str


def types_asked_for(detector: Detector) -> tuple[str, ...]:
    """Reference types that the pipelines ask for to make what they make of a detector's exposures."""
    reduction = (
        REDUCTION_TYPES if detector in IMAGER_DETECTORS else ()
    )  # frames of the spectrograph are not reduced yet
    return tuple(sorted({*READOUT_TYPES, *reduction}))


async def missing_references(
    references: References, plan: ObservationPlan, context: str, at: datetime, also: Sequence[str] = ()
) -> tuple[list[Missing], int]:
    """What is missing, by detector and type, and how many were asked for.

    Parameters
    ----------
    references : References
    plan : ObservationPlan
    context : str
    at : datetime
        Time (UTC) at which the exposures are taken to be made.
    also : sequence of str
        Types that are asked for besides, because a setting says so.

    Raises
    ------
    MissingReference
        If the context itself is unknown or damaged.
    """
    await references.best_references({}, [], context)
    missing, asked = [], 0
    for detector, kind, parameters in _questions(plan, at, also):
        asked += 1
        try:
            await references.best_references(parameters, [kind], context)
        except MissingReference as error:
            reason = error.message.rpartition(f" {kind}: ")[2].removeprefix("NOT FOUND ").rstrip(".")
            missing.append(Missing(detector, kind, _configuration(kind, parameters), reason))
    return missing, asked


def _questions(
    plan: ObservationPlan, at: datetime, also: Sequence[str]
) -> Iterator[tuple[Detector, str, Mapping[str, str]]]:
    """Every question once: no type is matched on the type of an exposure."""
    for detector in plan.detectors:
        parameters = plan.crds_parameters(detector, plan.exposures[0].type, at)
        for kind in sorted({*types_asked_for(detector), *also}):
            yield detector, kind, parameters


def _configuration(kind: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """What the type is matched on, by FITS keyword."""
    values, described = matching_parameters(parameters), reference_types()[kind]
    keys = described.keys if described.divider is None else described.applying_keys(values[described.divider])
    return {BY_PATH[key].keyword: values[key] for key in keys}
