"""How far an observation is: what of its plan has started, has come and has ended, as keys in store and spool say."""

import re
from collections.abc import Iterable

from irisdrs.shared.errors import Fatal
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.store.keys import exposure_prefix, fact_key, observation_key
from irisdrs.shared.store.port import Store

_READ = re.compile(r"(\d{4})/(\d{5})-[0-9a-f]{16}\.fits")
_FAILED = re.compile(r"failed-(\d{4})-(\d{5})\.json")


class Progress:
    """What is known of an observation.

    Parameters
    ----------
    plan : ObservationPlan
    """

    def __init__(self, plan: ObservationPlan) -> None:
        self.plan = plan
        self._exposures = {exposure_prefix(plan.night, exposure): exposure for exposure in plan.exposure_ids()}
        self._keys: set[str] = set()
        self._came: dict[ExposureId, set[tuple[int, int]]] = {exposure: set() for exposure in plan.exposure_ids()}
        self._failed: dict[ExposureId, set[tuple[int, int]]] = {exposure: set() for exposure in plan.exposure_ids()}

    def note(self, key: str) -> None:
        """Take note of an object that is in store or spool."""
        self._keys.add(key)
        prefix = "/".join(key.split("/")[:7]) + "/"
        exposure = self._exposures.get(prefix)
        if exposure is None:
            return
        name = key.removeprefix(prefix)
        if found := _READ.fullmatch(name):
            self._came[exposure].add((int(found[1]), int(found[2])))
        elif found := _FAILED.fullmatch(name):
            self._failed[exposure].add((int(found[1]), int(found[2])))

    def has(self, key: str) -> bool:
        """Whether an object is in store or spool."""
        return key in self._keys

    @property
    def begun(self) -> bool:
        """Whether the observation has started."""
        return self.has(observation_key(self.plan.night, self.plan.observation))

    def has_started(self, exposure: ExposureId) -> bool:
        """Whether an exposure has started."""
        return self.has(fact_key(self.plan.night, exposure, "started"))

    def has_ended(self, exposure: ExposureId) -> bool:
        """Whether an exposure has ended or was given up."""
        return any(self.has(fact_key(self.plan.night, exposure, fact)) for fact in ("ended", "aborted"))

    def has_come(self, exposure: ExposureId, ramp: int, read: int) -> bool:
        """Whether a read has come."""
        return (ramp, read) in self._came[exposure]

    def all_in(self, exposure: ExposureId) -> bool:
        """Whether every read of an exposure has come or will not."""
        sampling = self.plan.sampling
        return len(self._came[exposure] | self._failed[exposure]) >= sampling.reads * sampling.ramps

    @property
    def complete(self) -> bool:
        """Whether every exposure has ended."""
        return all(self.has_ended(exposure) for exposure in self._came)


async def survey(plan: ObservationPlan, store: Store, spooled: Iterable[str]) -> Progress:
    """See how far an observation is.

    Parameters
    ----------
    plan : ObservationPlan
    store : Store
    spooled : iterable of str
        Keys that were in the spool *before* the store is looked at: what is put meanwhile is then in one or the other.

    Raises
    ------
    Fatal
        If the observation was started with another plan.
    Outage
        If the store is away.
    """
    progress = Progress(plan)
    for key in spooled:
        progress.note(key)
    stored = await store.head(observation_key(plan.night, plan.observation))
    if stored is not None:
        progress.note(stored.ref.key)
        if ObservationPlan.model_validate_json(await store.get(stored.ref), extra="ignore") != plan:
            raise Fatal(
                f"{plan.observation} was started on {plan.night} with another plan.",
                remedy=f"Give the plan that is in the store under {stored.ref.key}, or another observation.",
            )
    for exposure in plan.exposure_ids():
        for key in await store.keys(exposure_prefix(plan.night, exposure)):
            progress.note(key)
    return progress
