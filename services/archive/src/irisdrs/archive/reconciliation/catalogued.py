"""What the catalogue has of an observation."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from sqlalchemy import ColumnElement, and_, case, exists, func, or_, select
from sqlalchemy.orm import Session

from irisdrs.archive.catalogue.observations import State
from irisdrs.archive.catalogue.tables import Artifact, Exposure, Header, Observation, Product, Provenance
from irisdrs.archive.reconciliation.contents import LEVELS
from irisdrs.archive.reconciliation.findings import Conflict
from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType
from irisdrs.shared.store.keys import exposure_prefix, night_prefix


@dataclass(slots=True)
class Catalogued:
    """Rows of an observation, or of some of its exposures.

    Attributes
    ----------
    state : str, optional
        Of the observation.
    exposures : mapping of ExposureId to str
        States of all exposures of the observation.
    rows : dict of str to bool
        Keys of objects, and whether all rows of an object are there: artifact, product, header, and of a reduced frame
        its inputs.
    current : dict of str to str
        Key and SHA-256 of the raw frames that are current.
    inputs : dict of str to set of str
        Keys of reduced frames, and SHA-256 of what each was made of.
    conflicts : list of Conflict
    """

    state: str | None = None
    exposures: Mapping[ExposureId, str] = field(default_factory=dict)
    rows: dict[str, bool] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, set[str]] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Tally:
    """What is counted of an observation: as long as it is the same, no row of it has gone.

    Attributes
    ----------
    complete : int
        Objects all of whose rows are there.
    exposures : int
        Exposures that are known.
    finished : int
        Exposures that have ended or were aborted.
    state : str
        Of the observation.
    """

    complete: int = 0
    exposures: int = 0
    finished: int = 0
    state: str = ""


def prefixes(night: date, observation: str, exposures: Collection[ExposureId] | None = None) -> list[str]:
    """Prefixes of all objects of an observation, or of some of its exposures."""
    if exposures is None:
        return [f"{night_prefix(night, level)}{observation}/" for level in LEVELS]
    return [
        prefix
        for exposure in exposures
        for prefix in (
            exposure_prefix(night, exposure),
            *(f"{night_prefix(night, level)}{observation}/{exposure}-L{level}-" for level in LEVELS if level),
        )
    ]


def catalogued(session: Session, observation: str, key_prefixes: Sequence[str]) -> Catalogued:
    """Look up an observation, and the rows of the objects under some prefixes."""
    found = Catalogued(
        state=session.scalar(select(Observation.state).where(Observation.observation == observation)),
        exposures=_exposures(session, observation),
    )
    for prefix in key_prefixes:
        _note_rows(session, prefix, found)
        if prefix.startswith("2/"):
            _note_inputs(session, prefix, found)
    return found


def tallies(session: Session, observations: Collection[str]) -> dict[str, Tally]:
    """Tallies of several observations, in one pass over their rows."""
    finished = func.sum(case((Exposure.state.in_([State.ENDED, State.ABORTED]), 1), else_=0))
    exposures = (
        select(Exposure.observation, func.count(), finished)
        .where(Exposure.observation.in_(observations))
        .group_by(Exposure.observation)
    )
    complete = (
        select(Product.observation, func.count())
        .join(Artifact, Artifact.id == Product.artifact_id)
        .join(Header, Header.artifact_id == Product.artifact_id)
        .where(Product.observation.in_(observations), or_(Product.level < 2, _has_inputs()))
        .group_by(Product.observation)
    )
    states = observation_states(session, observations)
    begun = {name: (count, done) for name, count, done in session.execute(exposures)}
    counts = {row[0]: row[1] for row in session.execute(complete)}
    return {name: Tally(counts.get(name, 0), *begun.get(name, (0, 0)), states.get(name, "")) for name in observations}


def observation_states(session: Session, observations: Collection[str] | None = None) -> dict[str, str]:
    """State of every observation that is known, or of some."""
    query = select(Observation.observation, Observation.state)
    if observations is not None:
        query = query.where(Observation.observation.in_(observations))
    return {row[0]: row[1] for row in session.execute(query)}


def _exposures(session: Session, observation: str) -> dict[ExposureId, str]:
    rows = session.execute(
        select(Exposure.exposure_type, Exposure.exposure, Exposure.detector, Exposure.state).where(
            Exposure.observation == observation
        )
    )
    return {
        ExposureId(observation, Detector(detector), ExposureType(kind), number): state
        for kind, number, detector, state in rows
    }


def _note_rows(session: Session, prefix: str, into: Catalogued) -> None:
    parts: list[ColumnElement[bool]] = [Product.id.is_not(None), Header.artifact_id.is_not(None)]
    if prefix.startswith("2/"):
        parts.append(_has_inputs())
    rows = session.execute(
        select(
            Artifact.key,
            and_(*parts),
            case((Product.conflicted, Product.product_id)),
            case((Product.conflicted, Product.version)),
            case((and_(Product.current, Product.level == 1), Artifact.sha256)),
        )
        .outerjoin(Product, Product.artifact_id == Artifact.id)
        .outerjoin(Header, Header.artifact_id == Artifact.id)
        .where(_under(prefix))
    )
    for key, complete, conflict, version, current in rows:
        into.rows[key] = bool(complete)
        if conflict is not None and version is not None:
            into.conflicts.append(Conflict(conflict, version, key))
        if current is not None:
            into.current[key] = current


def _note_inputs(session: Session, prefix: str, into: Catalogued) -> None:
    rows = session.execute(
        select(Artifact.key, Provenance.input_sha256)
        .join(Product, Product.id == Provenance.product_row)
        .join(Artifact, Artifact.id == Product.artifact_id)
        .where(_under(prefix))
    )
    for key, sha256 in rows:
        into.inputs.setdefault(key, set()).add(sha256)


def _has_inputs() -> ColumnElement[bool]:
    return exists().where(Provenance.product_row == Product.id)


def _under(prefix: str) -> ColumnElement[bool]:
    """Keys that begin with a prefix: a range, for which there is an index."""
    return and_(Artifact.key >= prefix, Artifact.key < prefix[:-1] + chr(ord(prefix[-1]) + 1))
