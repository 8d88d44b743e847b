"""Web applications of several services under one address."""

from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Match
from starlette.types import Receive, Scope, Send


class Together:
    """ASGI application: each request goes to the first application that has its path, whatever its method.

    Mounted one after the other at the same place, the first one would take all requests.

    Parameters
    ----------
    webs : sequence of Starlette
        May still grow.
    """

    def __init__(self, webs: Sequence[Starlette]) -> None:
        self._webs = webs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on; 404 if no application has the path."""
        for web in self._webs:
            if any(route.matches(scope)[0] is not Match.NONE for route in web.routes):
                await web(scope, receive, send)
                return
        await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, send)
