"""Whether the text of a mapping may be given to the `crds` client, which parses and executes it.

The client has a whitelist of its own for what is executed, but none for how much, how deeply nested, and which names. A
mapping has a simple grammar: a header and a selector of strings. This check reads its tokens once, without recursion.
"""

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from irisdrs.shared.crds.names import is_safe_name
from irisdrs.shared.errors import Fatal

#: Largest mapping, bytes: one row of a reference mapping has some 150, so this is room for 100,000 references.
MAX_BYTES = 16 << 20

#: Deepest nesting of brackets: a reference mapping has five.
MAX_DEPTH = 10

#: Longest text in quotes, characters; a description or a rule.
MAX_TEXT = 2000

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
    |(?P<comment>\"{3}[^"\\]*\"{3})
    |(?P<text>'[^'\\\n]*'|"[^"\\\n]*")
    |(?P<name>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9]+(?:\.[0-9]+)?)
    |(?P<open>[({\[])
    |(?P<close>[)}\]])
    |(?P<mark>[:,=])""",
    re.VERBOSE | re.ASCII,
)
_SELECTORS = {"Match", "UseAfter", "ClosestTime"}
_NAMES = _SELECTORS | {"header", "selector", "comment", "True", "False", "None"}
_STEPS = {"open": 1, "close": -1}

#: What a mapping may choose that is no file.
_NO_FILE = {"N/A", "TEMP_N/A", "OMIT", "TEMP_OMIT"}

#: Parts of a header that make the client call functions, or load what an address names.
_FORBIDDEN_KEYS = {"hooks", "schema_uri"}

#: Parts of a header that decide whose functions the client calls.
_OURS = {"observatory": "TMT", "instrument": "IRIS"}

#: Parts of a header that name mappings.
_NAMES_OF_MAPPINGS = {"name", "derived_from"}


def check_mapping_file(path: Path) -> None:
    """Refuse a mapping that the client must not read; the file is not read further than `MAX_BYTES`.

    Raises
    ------
    FileNotFoundError
    Fatal
        If it is too large, is no text, has another grammar than a mapping, or names what can be no CRDS file.
    """
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise _refused(path.name, f"it has more than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(path.name, "it is no text") from None
    check_mapping_text(text, path.name)


def check_mapping_text(text: str, name: str) -> None:
    """Refuse the text of a mapping that the client must not read.

    Parameters
    ----------
    text : str
    name : str
        Of the mapping, for messages.

    Raises
    ------
    Fatal
        As `check_mapping_file`.
    """
    depth, in_selector, key = 0, False, ""
    for before, token in pairwise(_tokens(text, name)):
        depth += _STEPS.get(token.kind, 0)
        if depth > MAX_DEPTH:
            raise _refused(name, f"it is nested more than {MAX_DEPTH} deep")
        if before.kind == token.kind == "text":
            raise _refused(name, f"it joins {before.text} and {token.text}")
        in_selector |= token.text == "selector"
        if token.text == ":":
            key = before.text[1:-1]
        if in_selector and before.text == ":":
            _check_choice(token, name)
        elif before.text == ":" or token.text == ":":
            _check_header(key, token, name)


class _Token(NamedTuple):
    kind: str
    text: str


def _tokens(text: str, name: str) -> Iterator[_Token]:
    """The tokens of a mapping, after an empty one."""
    yield _Token("", "")
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            line = text.count("\n", 0, place) + 1
            raise _refused(name, f"line {line} has {text[place : place + 20]!r}, which is no part of a mapping")
        place, kind = found.end(), found.lastgroup or ""
        if kind == "space":
            continue
        if kind == "name" and found[0] not in _NAMES:
            raise _refused(name, f"it says {found[0][:40]!r}, which is no part of a mapping")
        if kind in {"text", "comment"} and len(found[0]) > MAX_TEXT:
            raise _refused(name, f"a text has more than {MAX_TEXT} characters")
        yield _Token(kind, found[0])


def _check_choice(token: _Token, name: str) -> None:
    """What a selector chooses is a file, nothing, or a further selector."""
    chosen = token.text[1:-1]
    if token.text not in _SELECTORS and not (token.kind == "text" and (chosen in _NO_FILE or is_safe_name(chosen))):
        raise _refused(name, f"it chooses {token.text[:80]}, which is no name of a CRDS file")


def _check_header(key: str, token: _Token, name: str) -> None:
    """A header makes the client call nothing, load no address, and names no folder."""
    if key in _FORBIDDEN_KEYS:
        raise _refused(name, f"its header has {key!r}")
    if key in _OURS and token.kind == "text" and token.text[1:-1] != _OURS[key]:
        raise _refused(name, f"its header says {key} {token.text[:80]}")
    if key in _NAMES_OF_MAPPINGS and set(token.text) & set("/\\"):
        raise _refused(name, f"its header says {key} {token.text[:80]}, which is no name of a mapping")


def _refused(name: str, reason: str) -> Fatal:
    return Fatal(
        f"The CRDS mapping {name} says what none may say, and the whole context is refused: {reason}.",
        remedy="Find out who wrote it; names in it have lower-case letters, digits and underscores only.",
    )
