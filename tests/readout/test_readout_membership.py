"""Which reads an exposure has, and how much is gone through to say so."""

from hypothesis import given, settings
from hypothesis import strategies as st

from irisdrs.readout.membership import Membership, Slot
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import MAX_READS, Sampling
from irisdrs.shared.store.port import ObjectRef
from irisdrs.shared.testing.small_observation import small_plan

(EXPOSURE,) = small_plan(exposures=1).exposure_ids()


def membership(reads: int, ramps: int) -> Membership:
    return Membership(
        EXPOSURE, Sampling(mode=SamplingMode.UTR, reads=reads, ramps=ramps, read_time_s=0.72, shape=(8, 8))
    )


def ref_of(slot: Slot) -> ObjectRef:
    return ObjectRef(key=f"0/{slot[0]:04d}/{slot[1]:05d}.fits", sha256="0" * 64, size=1)


def close(made: Membership) -> int:
    """Fold what is known and wait for nothing else; how often something was left out."""
    steps = 0
    while not made.complete:
        while (following := made.next()) is not None:
            made.folded(following[0])
        if not made.complete:
            made.leave_out_missing()
            steps += 1
    return steps


def test_an_exposure_of_which_nearly_nothing_came_is_closed_at_once() -> None:
    made = membership(MAX_READS, 1000)
    known = [(1, 1), (1, 5), (999, MAX_READS)]
    for slot in reversed(known):
        made.note(slot, ref_of(slot))
    made.fail((1001, 1))  # no slot of it
    assert not made.settled
    assert close(made) == 3
    assert list(made.used) == known
    assert not made.outdated
    made.note((500, 7), ref_of((500, 7)))
    assert made.outdated


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_settled_and_outdated_is_what_going_through_all_slots_says(data: st.DataObject) -> None:
    made = membership(3, 2)
    slots = [made.slot(position) for position in range(6)]
    assert [made.position_of(slot) for slot in slots] == list(range(6))
    some = st.sets(st.sampled_from(slots))
    for slot in data.draw(st.permutations(slots))[: data.draw(st.integers(0, 6))]:
        made.note(slot, ref_of(slot))
    for slot in data.draw(some):
        made.fail(slot)
    if data.draw(st.booleans()):
        close(made)
    for slot in data.draw(some) & made.known.keys():
        made.lost[slot] = CorruptObject("damaged")
    for slot in data.draw(some) - made.known.keys():
        made.note(slot, ref_of(slot))
    passed = set(slots[: made.position])
    late = any(slot in passed and slot not in made.used and slot not in made.lost for slot in made.known)
    assert made.outdated == (late or any(slot in made.lost for slot in made.used))
    assert made.settled == (made.known.keys() | made.failed >= set(slots))
