"""Bring what an observation will need, before its first read ends: the references of its plan, verified."""

from collections.abc import Sequence
from functools import partial

import structlog

from irisdrs.crds_proxy.missing import missing_references
from irisdrs.shared.errors import MissingReference
from irisdrs.shared.events import Event, ObservationStarted
from irisdrs.shared.references import References
from irisdrs.shared.service import Handlers

_log = structlog.get_logger(__name__)


def preloading(references: References) -> Handlers:
    """Handlers of the queue ``iris.q.crds.preload``."""
    return {ObservationStarted: partial(on_observation_started, references=references)}


async def on_observation_started(event: ObservationStarted, references: References) -> Sequence[Event]:
    """Bring and verify the references of all configurations of an observation.

    What is missing is logged: who asks for it is told again, and its reads wait for it.

    Raises
    ------
    Outage
        If they cannot be brought now: the event waits, the observation does not.
    """
    plan = event.plan
    try:
        missing, asked = await missing_references(references, plan, plan.crds_context, plan.foreseen_at)
    except MissingReference as problem:
        _log.error("the context of an observation is not there", observation=plan.observation, problem=str(problem))
        return []
    for one in missing:
        _log.error(
            "a reference of an observation is missing",
            observation=plan.observation,
            detector=one.detector,
            type=one.type,
            configuration=dict(one.configuration),
            reason=one.reason,
        )
    _log.info("references of an observation are here", observation=plan.observation, here=asked - len(missing))
    return []
