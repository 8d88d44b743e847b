"""Which reads an exposure has, which it still misses, and which it must do without. No pixels, no I/O."""

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from irisdrs.shared.errors import IrisError, ReadConflict
from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import Sampling
from irisdrs.shared.store.port import ObjectRef

#: One read's place in an exposure: ramp and read, both from 1.
Slot = tuple[int, int]


@dataclass(slots=True)
class Membership:
    """The reads of one exposure of one detector.

    An exposure is complete when each of its slots is known or cannot come any more; never because a last read came.
    What is announced may be far more than what comes: nothing here goes through slots of which nothing is known.

    Attributes
    ----------
    known : dict of Slot to ObjectRef
        Reads that are in the store.
    lost : dict of Slot to IrisError
        Reads that are there and cannot be used: damaged, of the wrong shape, in conflict.
    failed : set of Slot
        Reads that the edge said will not come.
    position : int
        Slots before it are folded or left out.
    order : list of int
        Positions of the known reads, increasing.
    """

    exposure: ExposureId
    sampling: Sampling
    known: dict[Slot, ObjectRef] = field(default_factory=dict)
    lost: dict[Slot, IrisError] = field(default_factory=dict)
    failed: set[Slot] = field(default_factory=set)
    used: dict[Slot, ObjectRef] = field(default_factory=dict)
    position: int = 0
    order: list[int] = field(default_factory=list)

    @property
    def expected(self) -> int:
        """Reads that the exposure should have."""
        return self.sampling.ramps * self.sampling.reads

    def slot(self, position: int) -> Slot:
        """Ramp and read at a position in the order of folding."""
        return position // self.sampling.reads + 1, position % self.sampling.reads + 1

    def position_of(self, slot: Slot) -> int:
        """Position of a slot in the order of folding, from 0."""
        return (slot[0] - 1) * self.sampling.reads + slot[1] - 1

    def has_slot(self, slot: Slot) -> bool:
        """Whether the exposure has such a slot."""
        return 1 <= slot[0] <= self.sampling.ramps and 1 <= slot[1] <= self.sampling.reads

    def note(self, slot: Slot, ref: ObjectRef) -> None:
        """Take note of a read that is in the store.

        Two different contents for one slot: neither is used.
        """
        before = self.known.get(slot)
        if before is not None and before.sha256 != ref.sha256 and not isinstance(self.lost.get(slot), ReadConflict):
            self.lost[slot] = ReadConflict(
                f"{self.exposure} ramp {slot[0]} read {slot[1]} came with two contents: {before.key} and {ref.key}.",
                remedy="Neither is used. Decide which is right and remove the other from the store.",
            )
        if before is None:
            self.known[slot] = ref
            insort(self.order, self.position_of(slot))

    def fail(self, slot: Slot) -> None:
        """Take note that a read will not come."""
        if self.has_slot(slot):
            self.failed.add(slot)

    def next(self) -> tuple[Slot, ObjectRef] | None:
        """The next read to fold, in index order; None when it is not known yet, or all is folded."""
        while self.position < self.expected:
            slot = self.slot(self.position)
            if slot in self.lost or (slot in self.failed and slot not in self.known):
                self.position += 1
                continue
            ref = self.known.get(slot)
            return None if ref is None else (slot, ref)
        return None

    def folded(self, slot: Slot) -> None:
        """A read has been folded."""
        self.used[slot] = self.known[slot]
        self.position += 1

    def leave_out_missing(self) -> None:
        """Stop waiting for the slots before the next known read."""
        following = bisect_left(self.order, self.position)
        self.position = self.order[following] if following < len(self.order) else self.expected

    @property
    def complete(self) -> bool:
        """Whether every slot is folded or left out."""
        return self.next() is None and self.position >= self.expected

    @property
    def settled(self) -> bool:
        """Whether every slot is known or cannot come: nothing more is waited for."""
        return len(self.known) + sum(slot not in self.known for slot in self.failed) == self.expected

    @property
    def whole(self) -> bool:
        """Whether every slot is known and usable."""
        return len(self.known) == self.expected and not self.lost

    @property
    def outdated(self) -> bool:
        """Whether what is folded must be folded again: a read in it is in conflict, or one was late."""
        left_out = sum(slot not in self.used and self.position_of(slot) < self.position for slot in self.lost)
        late = bisect_left(self.order, self.position) > len(self.used) + left_out
        return late or any(slot in self.used for slot in self.lost)

    def start_again(self) -> None:
        """Forget what was folded, and what was found wrong on the way: some of it may be due to reads used till now."""
        self.position = 0
        self.used = {}
        # Two contents are a fact of the store; all else is found again, as by a process that remembers nothing.
        self.lost = {slot: problem for slot, problem in self.lost.items() if isinstance(problem, ReadConflict)}

    def inputs(self) -> tuple[tuple[str, str], ...]:
        """(role, SHA-256) of the reads that are used."""
        return tuple((f"read-{ramp:04d}-{read:05d}", ref.sha256) for (ramp, read), ref in sorted(self.used.items()))
