"""Logs go to standard error, whatever that is at the moment."""

import io
from collections.abc import Iterator

import pytest
import structlog

from irisdrs.shared import logs
from irisdrs.shared.settings import HostSettings


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def test_logs_survive_the_end_of_the_stream_that_they_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    with io.StringIO() as first, monkeypatch.context() as patch:
        patch.setattr("sys.stderr", first)
        logs.configure(HostSettings(log_format="json"))
        structlog.get_logger().info("one")
        assert "one" in first.getvalue()
    second = io.StringIO()
    monkeypatch.setattr("sys.stderr", second)
    structlog.get_logger().info("two")
    assert "two" in second.getvalue()
