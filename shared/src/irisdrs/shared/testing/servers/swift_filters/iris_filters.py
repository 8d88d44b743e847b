"""Filters of a private Swift that is an S3 server on its own. Loaded by Swift's interpreter, by this file's name."""

import threading
from collections.abc import Callable, Iterable
from typing import Any

from swift.common import constraints

#: A WSGI application.
App = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def limits(_settings: dict[str, str], **_more: str) -> Callable[[App], App]:
    """Read the limits in `swift.conf` again: Swift reads them before it knows where that file lies."""
    constraints.reload_constraints()
    return lambda app: app


class OneWriter:
    """Lets one PUT of a path pass at a time.

    Swift looks whether an object exists before it takes the bytes, and not again when it has them, so that two
    conditional writes at the same time would both succeed. Servers that are made for `If-None-Match` decide when the
    write is complete; a single proxy with this filter does too.

    Parameters
    ----------
    app : WSGI application
        The next one in the pipeline.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._turns: dict[str, threading.Lock] = {}  # Swift makes locks cooperative
        self._users: dict[str, int] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "PUT":
            return self._app(environ, start_response)
        path = environ["PATH_INFO"]
        turn = self._turns.setdefault(path, threading.Lock())
        self._users[path] = self._users.get(path, 0) + 1
        try:
            with turn:
                return self._app(environ, start_response)
        finally:
            self._users[path] -= 1
            if not self._users[path]:
                del self._users[path], self._turns[path]


def one_writer(_settings: dict[str, str], **_more: str) -> Callable[[App], OneWriter]:
    """What Paste Deploy calls."""
    return OneWriter
