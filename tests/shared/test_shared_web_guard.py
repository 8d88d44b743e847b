"""No page of another site reaches an embedded system, whatever name it has point here."""

import httpx
import pytest
from fastapi import FastAPI

from irisdrs.shared.web_guard import WebGuard


async def ask(method: str, bound_to: str, host: str, origin: str | None = None) -> int:
    """Status of a request under a name, to an application that listens at an address."""
    app = FastAPI()
    app.add_api_route("/", lambda: "done", methods=["GET", "POST"])
    guarded = WebGuard(app, bound_to, names=("iris.observatory",))
    headers = {"host": host, **({} if origin is None else {"origin": origin})}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://x") as client:
        return (await client.request(method, "/", headers=headers)).status_code


@pytest.mark.parametrize(
    ("bound_to", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8080", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.0.0.1", "LocalHost:8080", 200),
        ("127.0.0.1", "[::1]:8080", 200),
        ("127.0.0.1", "iris.observatory:8080", 200),
        ("drs1", "drs1:8080", 200),
        ("0.0.0.0", "192.0.2.7:8080", 200),
        ("127.0.0.1", "192.0.2.7:8080", 421),
        ("0.0.0.0", "evil.example", 421),
        ("127.0.0.1", "evil.example:8080", 421),
        ("127.0.0.1", "localhost.evil.example", 421),
        ("127.0.0.1", "127.0.0.1.evil.example", 421),
        ("127.0.0.1", "127.0.0.1@evil.example", 421),
        ("127.0.0.1", "[::1", 421),
        ("127.0.0.1", "", 421),
    ],
)
async def test_only_names_that_somebody_gave_are_answered(bound_to: str, host: str, status: int) -> None:
    assert await ask("GET", bound_to, host) == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://localhost:8080", 200),
        ("http://localhost:3000", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
async def test_a_page_of_another_origin_changes_nothing(origin: str | None, status: int) -> None:
    assert await ask("POST", "127.0.0.1", "localhost:8080", origin) == status
    assert await ask("GET", "127.0.0.1", "localhost:8080", origin) == 200
