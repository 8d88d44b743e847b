"""What clients call a context: its name, a moment at which it was in force, or that it is in force now."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from irisdrs.crds_proxy.holdings import Catalogue
from irisdrs.shared.crds.names import is_mapping_name
from irisdrs.shared.errors import MissingReference

#: As the client spells it (``CONTEXT_RE`` of `crds.core.config`), for this observatory.
_SPECIFIED = re.compile(
    r"(?:tmt-(?:(?P<instrument>[a-z][a-z0-9]*)-(?:(?P<kind>[a-z][a-z0-9]*)-)?)?)?"
    r"(?P<when>latest|operational|edit|versions|build|\d{4}-\d\d-\d\d(?:T\d\d:\d\d:\d\d(?:\.\d{1,9})?)?)",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Specified:
    """A mapping that somebody named.

    Attributes
    ----------
    name : str
        Of the mapping; of the context in which it is, if `instrument` is given.
    instrument, kind : str
        Of the instrument or reference mapping that is meant; empty for `name` itself.
    """

    name: str
    instrument: str = ""
    kind: str = ""


def specified(text: str, catalogue: Catalogue) -> Specified:
    """Understand what a client calls a mapping.

    Parameters
    ----------
    text : str
        ``tmt_0001.pmap``, ``tmt_iris_0001.imap`` and so on, ``tmt-latest``, ``tmt-edit``, ``tmt-operational``,
        ``latest``, ``tmt-2021-01-01T00:00:00``, ``tmt-iris-dark-latest``.
    catalogue : Catalogue

    Raises
    ------
    MissingReference
        If it is none of these, or no context was in force then.
    """
    if is_mapping_name(text):
        return Specified(text)
    found = _SPECIFIED.fullmatch(text)
    if found is None:
        raise MissingReference(
            f"{text[:200]!r} is no context of the observatory tmt.",
            remedy="Contexts are called as tmt_0001.pmap, tmt-latest or tmt-2034-08-01T00:00:00.",
        )
    return Specified(_in_force(found["when"], catalogue), found["instrument"] or "", found["kind"] or "")


def _in_force(when: str, catalogue: Catalogue) -> str:
    context = catalogue.context_at(_moment(when)) if when[0].isdigit() else catalogue.context
    if context is None:
        first = f", the first one came into force at {catalogue.changes[0].at}" if catalogue.changes else ""
        raise MissingReference(
            f"No context of tmt was in force at {when}{first}.", remedy="Name a later moment, or a context."
        )
    return context


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise MissingReference(
            f"{text!r} is no date of a context.", remedy="Write it as 2034-08-01T00:00:00, UTC."
        ) from error
