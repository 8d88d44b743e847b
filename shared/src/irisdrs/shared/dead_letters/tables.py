"""Dead letters as a terminal shows them."""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from irisdrs.shared.dead_letters.letters import Action, Decision, Found, Letter
from irisdrs.shared.events.registry import READERS

#: Columns of what is no terminal: a file or a pipe breaks no line, and has room for every column.
UNBOUNDED = 500

#: Columns of a terminal from which on the error's text has a column, too.
WIDE = 140

#: What was done to a letter, by what was decided.
PAST = {Action.REDRIVE: "re-driven", Action.DISCARD: "discarded"}


def letter_table(letters: Sequence[Letter], width: int) -> Table:
    """What is parked, for a terminal of so many columns."""
    table = _table("id", "parked (UTC)", "queue", "error", "event")
    if width >= WIDE:
        table.add_column("message")
    for letter in letters:
        cells = [letter.id, _time(letter.parked_at), _queue(letter.queue), letter.error_class, _event(letter)]
        table.add_row(*map(_text, [*cells, letter.message] if width >= WIDE else cells))
    return table


def decision_table(decisions: Sequence[Decision]) -> Table:
    """What was decided, by whom and why."""
    table = _table("id", "decided (UTC)", "what", "by", "reason", "event")
    for decision in decisions:
        letter = decision.letter
        cells = (letter.id, _time(decision.at), PAST[decision.action], decision.by, decision.reason, _event(letter))
        table.add_row(*map(_text, cells))
    return table


def letter_page(found: Found) -> RenderableType:
    """Everything of one letter."""
    letter = found.letter
    facts = Table(box=None, show_header=False)
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    for name, value in _facts(letter):
        facts.add_row(name, _text(value))
    facts.add_row("state", "parked" if found.parked else PAST[found.decisions[-1].action])
    for number, decision in enumerate(found.decisions, 1):
        effect = "" if number == len(found.decisions) and not found.parked else ", without effect"
        why = f": {decision.reason}" if decision.reason else ""
        facts.add_row("decision", _text(f"{_time(decision.at)} {decision.action} by {decision.by}{why}{effect}"))
    for decision in found.same_event:
        what = f"{_time(decision.at)} {decision.letter.id} {PAST[decision.action]} by {decision.by}"
        facts.add_row("same event", _text(what))
    # The traceback last: it is the longest.
    return Group(facts, Text(), _text(_readable(letter)), Text(), _text(letter.traceback or "(no traceback)"))


def _facts(letter: Letter) -> Iterator[tuple[str, str]]:
    yield "id", letter.id
    yield "queue", letter.queue
    yield "parked", f"{_time(letter.parked_at)} UTC, after {letter.attempts} attempts"
    if letter.redriven_by:
        yield "before that", f"re-driven by {letter.redriven_by}"
    yield "error", f"{letter.error_class}: {letter.message}"
    yield "event", letter.event_type or "unreadable"
    yield "event id", letter.event_id
    yield "subject", letter.subject
    yield "observation", letter.correlation


def _text(text: str) -> Text:
    """A text of others with what would steer a terminal made visible."""
    return Text("".join(map(_visible, text)))


def _visible(character: str) -> str:
    # Cc: ESC, BEL and the like; Cf: those that turn the direction of what follows, or take no room.
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf"):
        return character
    return character.encode("unicode_escape").decode()


def _readable(letter: Letter) -> str:
    if letter.encoding == "base64":
        return f"base64: {letter.body}"
    try:
        return json.dumps(json.loads(letter.body), indent=2)
    except (ValueError, RecursionError):
        return letter.body


def _table(name: str, time: str, *others: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column(name, no_wrap=True, min_width=12)
    table.add_column(time, min_width=10)
    for other in others:
        table.add_column(other, overflow="fold")
    return table


def counted(number: int) -> str:
    """``1 dead letter``, ``2 dead letters``."""
    return f"{number} dead letter{'' if number == 1 else 's'}"


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _queue(name: str) -> str:
    return name.removeprefix("iris.q.")


def _event(letter: Letter) -> str:
    kind = READERS.get(letter.event_type)
    return f"{kind.__name__ if kind else letter.event_type or 'unreadable'} {letter.subject}".strip()
