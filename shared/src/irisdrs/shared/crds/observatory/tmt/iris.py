"""Hooks of the instrument IRIS that the CRDS client calls while it matches.

The client itself hands out whatever a mapping names, also ``/etc/passwd``. The one hook here looks at the names before
anything is chosen, so that a plain client in a process of a user's is as safe as the services are.
"""

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from irisdrs.shared.crds.mappings import check_reference_names

#: Mappings whose names were looked at.
_checked: weakref.WeakSet[Any] = weakref.WeakSet()


def _check_names(mapping: Any, header: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave the header as it is.

    Raises
    ------
    Fatal
        If the mapping chooses what is no reference; the client then finds none.
    """
    if mapping not in _checked:
        check_reference_names(mapping)
        _checked.add(mapping)
    return header


def __getattr__(name: str) -> Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]:
    """The hook of every type (``precondition_header_iris_dark_v1``), also by a name that a mapping gives it."""
    if name.startswith(("__", "fallback_header_", "rmap_update_headers_")):
        raise AttributeError(name)
    return _check_names
