"""Copies: letters of one queue that tell the same event are one letter to people.

An event that fails is tried again for a quarter of an hour before it is parked. Until then reconciliation cannot know
that it waits for a person, and announces it again; each copy comes to the parking, too.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from irisdrs.shared.dead_letters.letters import Letter
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events.envelope import decode


def by_event(letters: Sequence[Letter]) -> list[list[Letter]]:
    """Letters with their copies, in the order of the first ones.

    What cannot be read is a copy of nothing, whatever id it claims: nobody knows what else it says.
    """
    counts = Counter((letter.queue, letter.event_id) for letter in letters)
    groups: dict[tuple[str, ...], list[Letter]] = {}
    for letter in letters:
        event = letter.queue, letter.event_id
        name = event if counts[event] > 1 and _is_readable(letter) else (letter.queue, "", letter.id)
        groups.setdefault(name, []).append(letter)
    return list(groups.values())


def ids(letters: Iterable[Letter]) -> list[str]:
    """Their ids, each once."""
    return list(dict.fromkeys(letter.id for letter in letters))


def _is_readable(letter: Letter) -> bool:
    if letter.encoding != "utf-8":
        return False
    try:
        decode(letter.body.encode())
    except BadMessage:
        return False
    return True
