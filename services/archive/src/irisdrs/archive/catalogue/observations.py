"""The observation table: what was planned, and how far it is. States only ever advance, in any order of events."""

from enum import StrEnum

from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.tables import Exposure, Observation
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan


class State(StrEnum):
    """How far an observation or an exposure is, in the order of their lives."""

    PLANNED = "planned"
    STARTED = "started"
    ENDED = "ended"
    ABORTED = "aborted"


_ORDER = list(State)


def record_plan(session: Session, plan: ObservationPlan, state: State) -> None:
    """Note an observation, and every exposure that it plans."""
    known = session.get(Observation, plan.observation)
    if known is None:
        session.add(
            Observation(
                observation=plan.observation,
                program=plan.program,
                night=plan.night,
                mode=plan.mode,
                filter=plan.filter,
                ra_deg=plan.ra_deg,
                dec_deg=plan.dec_deg,
                plan=plan.model_dump(mode="json"),
                state=state,
            )
        )
    else:
        known.state = _later(known.state, state)
    for exposure in plan.exposure_ids():
        record_exposure(session, exposure, State.PLANNED)


def record_exposure(session: Session, exposure: ExposureId, state: State) -> None:
    """Note how far an exposure of one detector is."""
    key = (exposure.observation, str(exposure.type), exposure.number, str(exposure.detector))
    known = session.get(Exposure, key)
    if known is None:
        observation, kind, number, detector = key
        session.add(
            Exposure(observation=observation, exposure_type=kind, exposure=number, detector=detector, state=state)
        )
    else:
        known.state = _later(known.state, state)


def is_behind(known: str | None, state: State) -> bool:
    """Whether a state that is catalogued, None where there is no row, is earlier than another."""
    return known is None or _ORDER.index(State(known)) < _ORDER.index(state)


def _later(one: str, other: str) -> State:
    return max(State(one), State(other), key=_ORDER.index)
