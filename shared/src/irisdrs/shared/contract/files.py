"""The contract as files: written beside the one that was last released, which it must not break."""

import json
from collections.abc import Mapping
from pathlib import Path

from irisdrs.shared.bus.topology import PRODUCERS
from irisdrs.shared.contract.asyncapi import SCHEMAS, document
from irisdrs.shared.contract.compatibility import Break, Contract, breaks
from irisdrs.shared.contract.schemas import Document, message_name, message_schema, told
from irisdrs.shared.errors import BadMessage, IrisError
from irisdrs.shared.events.envelope import decode

#: Name of the AsyncAPI document.
ASYNCAPI = "asyncapi.json"

#: Folder of the contract of the last release, beside the current one.
RELEASED = "released"


class BrokenContract(IrisError):
    """A change of events that services of the last release, or their messages, would not survive."""

    consequence = "Nothing is written."


def current() -> Contract:
    """The contract of this version."""
    return Contract({message_name(*each): message_schema(*each) for each in told(PRODUCERS)}, document())


def read(folder: Path) -> Contract:
    """A contract that was written."""
    schemas = {path.stem: _load(path) for path in sorted((folder / SCHEMAS).glob("*.json"))}
    return Contract(schemas, _load(folder / ASYNCAPI))


def files(contract: Contract) -> dict[str, str]:
    """Text of every file of a contract, by its path in the folder."""
    named = {ASYNCAPI: contract.asyncapi} | {f"{SCHEMAS}/{name}.json": one for name, one in contract.schemas.items()}
    return {name: text(content) for name, content in named.items()}


def text(content: Document) -> str:
    """A document as it is written."""
    return json.dumps(content, indent=1) + "\n"


def broken(released: Contract, now: Contract) -> list[Break]:
    """Everything in which a contract, and this version's readers, break what was released."""
    return breaks(released, now) + [found for found in map(_unread, *_examples(released)) if found]


def write(folder: Path) -> None:
    """Write the contract of this version.

    Raises
    ------
    BrokenContract
        If it breaks the contract in the folder's `RELEASED`.
    """
    now = current()
    if (folder / RELEASED).is_dir() and (found := broken(read(folder / RELEASED), now)):
        raise BrokenContract(
            "The events break the contract of the last release:\n" + "\n".join(f"- {one}" for one in found),
            remedy=(
                "\nAdd an optional field instead; or give the event the next major version: raise its `version`, "
                "and say in `from_previous` how data of the version before become its own."
            ),
        )
    _write(folder, now)


def freeze(folder: Path) -> None:
    """Make the contract of this version the released one: at a release, and only then.

    Raises `BrokenContract` as `write`.
    """
    write(folder)
    _write(folder / RELEASED, current())


def _write(folder: Path, contract: Contract) -> None:
    (folder / SCHEMAS).mkdir(parents=True, exist_ok=True)
    made = files(contract)
    for path in (folder / SCHEMAS).glob("*.json"):
        if f"{SCHEMAS}/{path.name}" not in made:
            path.unlink()
    for name, content in made.items():
        (folder / name).write_text(content, encoding="utf-8")


def _examples(contract: Contract) -> tuple[list[str], list[Document]]:
    """Name and example message of every event of a contract."""
    messages = contract.asyncapi["components"]
    found = messages["messages"] if isinstance(messages, Mapping) else {}
    return list(found), [message["examples"][0]["payload"] for message in found.values()]


def _unread(name: str, message: Document) -> Break | None:
    """Whether this version no longer reads a message, or takes it for another event."""
    try:
        decode(json.dumps(message).encode())
    except BadMessage as problem:
        return Break(name, f"this version does not read the example of the release: {problem}")
    return None


def _load(path: Path) -> Document:
    content: Document = json.loads(path.read_text(encoding="utf-8"))
    return content
