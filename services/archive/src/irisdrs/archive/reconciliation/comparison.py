"""The comparison: an observation's plan and objects against its rows. Data in, findings out."""

from collections.abc import Collection, Iterator

from irisdrs.archive.catalogue.observations import State, is_behind
from irisdrs.archive.reconciliation.catalogued import Catalogued
from irisdrs.archive.reconciliation.contents import Contents, ExposureContents
from irisdrs.archive.reconciliation.findings import Comparison, Wanted
from irisdrs.shared.events.event import Event
from irisdrs.shared.events.facts import (
    ExposureAborted,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ReadWritten,
)
from irisdrs.shared.events.jobs import ExposureDue
from irisdrs.shared.identifiers import IMAGER_DETECTORS, ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import fact_key, observation_ended_key, observation_key

#: What the facts of an exposure say of it, and the event of each: the first that is there counts.
_FACTS: tuple[tuple[str, State, type[Event]], ...] = (
    ("aborted", State.ABORTED, ExposureAborted),
    ("ended", State.ENDED, ExposureEnded),
    ("started", State.STARTED, ExposureStarted),
)

#: Facts whose name is not what the catalogue has not heard.
_VERBS = {"aborted": "been aborted"}

_NO_ROW = "the catalogue has not all of its rows"
_NO_FRAME = "no frame of it is in the store"


def compare(
    plan: ObservationPlan,
    ended: bool,
    contents: Contents,
    catalogued: Catalogued,
    exposures: Collection[ExposureId] | None = None,
) -> Comparison:
    """Find what was missed, what is left over, and what is in conflict.

    Parameters
    ----------
    plan : ObservationPlan
    ended : bool
        Whether the store says that the observation has ended.
    contents : Contents
        Objects, listed before `catalogued` was asked: what comes in between is no row without its object.
    catalogued : Catalogued
    exposures : collection of ExposureId, optional
        Those to which objects and rows are limited.
    """
    chosen = plan.exposure_ids() if exposures is None else list(exposures)
    wanted = [*_observation(plan, ended, contents, catalogued)]
    for exposure in chosen:
        wanted += _exposure(plan, ended, exposure, contents.of(exposure), catalogued)
    listed = set(contents.keys()) | {stray.key for stray in contents.strays}
    return Comparison(
        wanted=tuple(dict.fromkeys(wanted)),
        open=tuple(exposure for exposure in chosen if _is_open(contents.of(exposure))),
        absent=tuple(key for key in catalogued.rows if key not in listed),
        strays=tuple(contents.strays),
        conflicts=tuple(catalogued.conflicts),
        whole=ended and not wanted and all(_is_whole(plan, contents.of(exposure)) for exposure in chosen),
    )


def _observation(plan: ObservationPlan, ended: bool, contents: Contents, catalogued: Catalogued) -> Iterator[Wanted]:
    """Events of the observation whose row, or the rows of whose planned exposures, are missing or behind."""
    if ended and is_behind(catalogued.state, State.ENDED):
        key = observation_ended_key(plan.night, plan.observation)
        yield Wanted(ObservationEnded, key, why="the catalogue does not know that it has ended")
    elif is_behind(catalogued.state, State.STARTED) or any(
        exposure not in catalogued.exposures for exposure in plan.exposure_ids()
    ):
        key = observation_key(plan.night, plan.observation)
        yield Wanted(ObservationStarted, key, why="the catalogue does not know all of its exposures")


def _exposure(
    plan: ObservationPlan, ended: bool, exposure: ExposureId, has: ExposureContents, catalogued: Catalogued
) -> Iterator[Wanted]:
    for fact, state, kind in _FACTS:
        if fact in has.facts:
            if is_behind(catalogued.exposures.get(exposure), state):
                key = fact_key(plan.night, exposure, fact)
                yield Wanted(
                    kind, key, exposure, why=f"the catalogue does not know that it has {_VERBS.get(fact, fact)}"
                )
            break
    for key in has.reads:
        if not catalogued.rows.get(key):
            yield Wanted(ReadWritten, key, exposure, why=_NO_ROW)
    if "aborted" not in has.facts and not has.raw:
        yield from _closing(plan, ended, exposure, has)
    for key in has.raw:
        if not catalogued.rows.get(key):
            yield Wanted(FrameReady, key, exposure, why=_NO_ROW)
        elif _awaits_reduction(exposure, key, has, catalogued):
            yield Wanted(FrameReady, key, exposure, why="no reduced frame of it is in the store")
    for key in has.reduced:
        if not catalogued.rows.get(key):
            yield Wanted(FrameReduced, key, exposure, why=_NO_ROW)


def _closing(plan: ObservationPlan, ended: bool, exposure: ExposureId, has: ExposureContents) -> Iterator[Wanted]:
    """What makes the frame of an exposure that has none."""
    if "ended" in has.facts:
        yield Wanted(ExposureEnded, fact_key(plan.night, exposure, "ended"), exposure, why=_NO_FRAME)
    elif has.reads or "started" in has.facts:
        at_once = bool(has.reads) and (ended or _all_reads(plan, has))
        if at_once or "started" in has.facts:
            yield Wanted(ExposureDue, fact_key(plan.night, exposure, "started"), exposure, at_once, _NO_FRAME)


def _awaits_reduction(exposure: ExposureId, key: str, has: ExposureContents, catalogued: Catalogued) -> bool:
    """Whether this is the current raw frame of an imager detector, and nothing that was made of it is there.

    A listing that lags only has it announced again: whoever takes it finds what is there.
    """
    sha256 = catalogued.current.get(key)
    if exposure.detector not in IMAGER_DETECTORS or sha256 is None:
        return False
    return not any(sha256 in catalogued.inputs.get(reduced, ()) for reduced in has.reduced)


def _all_reads(plan: ObservationPlan, has: ExposureContents) -> bool:
    return len(has.slots) >= plan.sampling.ramps * plan.sampling.reads


def _is_open(has: ExposureContents) -> bool:
    return "started" in has.facts and not has.facts & {"ended", "aborted"} and not has.raw


def _is_whole(plan: ObservationPlan, has: ExposureContents) -> bool:
    """Whether nothing more can come of an exposure. One of which there is nothing was never begun."""
    return "aborted" in has.facts or not (has.facts or has.reads) or (bool(has.raw) and _all_reads(plan, has))
