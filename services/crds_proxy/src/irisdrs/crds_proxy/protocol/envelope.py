"""A call of the CRDS protocol as it is sent, and the envelope of its answer: ``result``, ``error``, ``id``."""

import html
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from irisdrs.crds_proxy.pinned_context import Unanswerable
from irisdrs.crds_proxy.protocol.methods import METHODS, Methods
from irisdrs.shared.errors import IrisError

#: Largest call, bytes: the header of a frame with all its history has 20 kB, the names of 20,000 files have 600 kB.
MAX_CALL_BYTES = 1 << 20

#: Letters of a message that are told: values in it are the client's, of any length.
_TOLD = 2_000


class BadCall(Exception):
    """This is no call; the text says why."""


class TooLarge(BadCall):
    """It has more bytes than a call may have."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call.

    Attributes
    ----------
    method : str
        As the client wrote it.
    parameters : list or dict
        By place or by name.
    id : str, int or None
        Is told with the answer.
    """

    method: str
    parameters: list[Any] | dict[str, Any]
    id: str | int | None


def read_call(body: bytes) -> Call:
    """Read a call.

    Raises
    ------
    BadCall
        If it is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadCall(f"The call is no JSON: {type(error).__name__}: {error}"[:_TOLD]) from error
    if not isinstance(found, dict):
        raise BadCall("The call is no JSON object.")
    method, parameters, number = found.get("method"), found.get("params", []), found.get("id")
    if not isinstance(method, str) or not isinstance(parameters, list | dict):
        raise BadCall("A call has a method (text) and params (a list or an object).")
    return Call(method, parameters, number if isinstance(number, str | int) else None)


async def answer(methods: Methods, call: Call) -> tuple[object, str | None]:
    """Do what is asked for; gives the result, or why there is none."""
    if call.method not in METHODS:
        return None, f"There is no method {call.method[:_TOLD]!r}; there are {', '.join(METHODS)}."
    method = getattr(methods, call.method)
    try:
        if isinstance(call.parameters, dict):
            return await method(**call.parameters), None
        return await method(*call.parameters), None
    except ValidationError as error:
        return None, f"{call.method} cannot be called so: {_mistakes(call.method, error)}."
    except IrisError as error:
        return None, str(error)
    except Unanswerable as error:
        return None, f"{error}."


def envelope(number: str | int | None, result: object, error: str | None) -> bytes:
    """The answer as it is sent. The client takes markup out of messages, so it is put in."""
    told = None if error is None else {"name": "CrdsError", "message": html.escape(error[:_TOLD], quote=False)}
    return json.dumps({"result": result, "error": told, "id": number}, separators=(",", ":")).encode()


def _mistakes(method: str, error: ValidationError) -> str:
    """What is wrong with parameters, by their names."""
    names = list(inspect.signature(getattr(Methods, method)).parameters)[1:]

    def where(place: tuple[int | str, ...]) -> str:
        first, *more = place
        # The first of them is the object itself, which the client does not give.
        named = names[first - 1] if isinstance(first, int) and 0 < first <= len(names) else first
        return ".".join(map(str, (named, *more)))

    found = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{where(one['loc'])}: {one['msg']}" for one in found[:5])


def with_addresses(info: Mapping[str, object], base_url: str) -> Mapping[str, object]:
    """Add to the answer of `get_server_info` where files are, as the client reached this server."""
    base = base_url.rstrip("/")
    return {
        **info,
        "mapping_url": {"tmt": f"{base}/mappings/tmt"},
        "reference_url": {"tmt": f"{base}/references/tmt"},
        # There is no server_config and no pickled context to be fetched.
        "config_url": {"tmt": "none"},
        "pickle_url": {"tmt": "none"},
    }
