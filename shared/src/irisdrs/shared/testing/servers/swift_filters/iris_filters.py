"""Filters of a private Swift that is an S3 server on its own. Loaded by Swift's interpreter, by this file's name."""

import json
import random
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import eventlet
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


class Faults:
    """Makes the faults that a file asks for, as long as it is there; see `SwiftServer.faults`.

    Parameters
    ----------
    app : WSGI application
        The next one in the pipeline.
    file : Path
        JSON: shares of requests, delay in seconds, seed. A new file starts the sequence of its seed anew.
    """

    def __init__(self, app: App, file: Path) -> None:
        self._app, self._file = app, file
        self._stamp = 0
        self._wanted: dict[str, float] = {}
        self._dice = random.Random()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._look()
        if not self._wanted:
            return self._app(environ, start_response)
        eventlet.sleep(self._wanted["delay_s"])
        refused, unsaid, truncated = (self._falls(kind) for kind in ("errors", "late_errors", "truncated"))
        if refused:
            return _unavailable(start_response)
        if unsaid:
            answer = self._app(environ, lambda *_: None)
            for _ in answer:  # to its end: the request is carried out
                pass
            return _unavailable(start_response)
        body = self._app(environ, start_response)
        return _half(body) if truncated and environ["REQUEST_METHOD"] == "GET" else body

    def _look(self) -> None:
        try:
            stamp = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            self._wanted, self._stamp = {}, 0
            return
        if stamp != self._stamp:
            self._wanted, self._stamp = json.loads(self._file.read_text(encoding="ascii")), stamp
            self._dice = random.Random(int(self._wanted["seed"]))

    def _falls(self, kind: str) -> bool:
        return self._dice.random() < self._wanted[kind]


def _unavailable(start_response: Callable[..., Any]) -> Iterable[bytes]:
    start_response("503 Service Unavailable", [("Content-Length", "0")])
    return [b""]


def _half(body: Iterable[bytes]) -> Iterator[bytes]:
    """The first part of a body, then the end of the connection."""
    for chunk in body:
        yield chunk[: len(chunk) // 2]
        raise ConnectionResetError("cut off by a fault")


def faults(_settings: dict[str, str], *, file: str, **_more: str) -> Callable[[App], Faults]:
    """What Paste Deploy calls."""
    return lambda app: Faults(app, Path(file))
