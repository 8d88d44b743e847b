"""Who may ask a web application that trusts everybody on its machine: no page of another site, by no name of its own.

A page may have its own name point to 127.0.0.1 (DNS rebinding). A browser then takes the application for a part of
that site, but it still says by which name it asks, and a name that nobody gave us is refused.
"""

import ipaddress
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

#: Methods that change nothing.
_HARMLESS = ("GET", "HEAD", "OPTIONS")


class WebGuard:
    """ASGI middleware: refuses requests under a foreign name (421), and changes that a page of another origin asks for.

    Starlette's own `TrustedHostMiddleware` cannot read the address ``[::1]``.

    Parameters
    ----------
    app : ASGIApp
    bound_to : str
        Address or name where the application listens. At 0.0.0.0 or :: every address is one of its names.
    names : collection of str
        More names under which others reach it. Loopback is always one.
    """

    def __init__(self, app: ASGIApp, bound_to: str, names: Collection[str] = ()) -> None:
        self._app = app
        self._names = {name.lower() for name in (bound_to, *names, "localhost")}
        address = _address(bound_to)
        self._anywhere = address is not None and address.is_unspecified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        refused = self._refused(scope["method"], Headers(scope=scope)) if scope["type"] == "http" else None
        await (refused or self._app)(scope, receive, send)

    def _refused(self, method: str, headers: Headers) -> JSONResponse | None:
        host = headers.get("host", "")
        if not self._is_ours(host):
            problem = f"Nobody here is called {host!r}. If others reach this system so, name it in IRIS_ARCHIVE_NAMES."
            return JSONResponse({"detail": problem}, status_code=421)
        origin = headers.get("origin")
        if origin is not None and method not in _HARMLESS and _place(origin) != host.lower():
            return JSONResponse({"detail": f"A page of {origin!r} changes nothing here."}, status_code=403)
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        address = _address(name)
        return name in self._names or (address is not None and (self._anywhere or address.is_loopback))


def _place(origin: str) -> str | None:
    """Host and port of an origin; None if it has none."""
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None
