"""A service as a process: how it starts without its servers, what it says of itself, how it ends."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.conftest import S3Access

from irisdrs.shared.bus.topology import ARCHIVE
from irisdrs.shared.testing.servers.process import ServerProcess, free_port
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode

#: Longest wait for a process to start or to end, seconds: it takes some; only a failure waits so long.
SOON_S = 90.0


class Process:
    """One `iris ... serve`."""

    def __init__(self, folder: Path, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.port = free_port()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("IRIS_")}
        environment = inherited | {"IRIS_DATA_DIR": str(folder), "IRIS_HEALTH_PORT": str(self.port)} | dict(settings)
        command = [str(Path(sys.executable).parent / "iris"), *arguments]
        self.server = ServerProcess(" ".join(arguments), command, folder / f"{arguments[0]}.log", environment)

    def get(self, path: str) -> httpx.Response | None:
        """Answer of its health application; None while it does not listen."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}{path}", timeout=10.0, trust_env=False)
        except httpx.TransportError:
            return None

    def says(self, path: str, status: int) -> bool:
        """Whether it answers with a status."""
        answer = self.get(path)
        return answer is not None and answer.status_code == status

    def end(self) -> int | None:
        """Its exit status, when it has ended by itself."""
        return self.server.wait(SOON_S)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes, and ends them."""
    started: list[Process] = []

    def start_(*arguments: str, **settings: str) -> Process:
        started.append(Process(tmp_path, arguments, settings))
        return started[-1]

    yield start_
    for process in started:
        process.server.kill()


def archive_settings(url: str) -> dict[str, str]:
    return {"IRIS_AMQP_URL": url, "IRIS_ARCHIVE_PORT": str(free_port())}


def test_a_service_is_ready_shows_figures_and_ends_when_asked(start: Start, amqp_url: str) -> None:
    process = start("archive", "serve", **archive_settings(amqp_url))
    process.server.wait_until(lambda: process.says("/health/ready", 200), SOON_S)
    assert process.says("/health/live", 200)
    answer = process.get("/metrics")
    assert answer is not None
    families = {family.name for family in text_string_to_metric_families(answer.text)}
    assert families >= {
        "iris_events_in",
        "iris_events_out",
        "iris_events_failed",
        "iris_events_parked",
        "iris_handler_seconds",
        "iris_events_in_flight",
        "iris_object_bytes",
        "iris_hop_seconds",
        "iris_loop_lag_worst_seconds",
    }
    process.server.ask_to_end()
    assert process.end() == 0


def test_without_its_broker_it_lives_is_not_ready_and_keeps_trying(
    start: Start, rabbitmq: RabbitMQNode, amqp_url: str
) -> None:
    rabbitmq.stop()
    process = start("archive", "serve", **archive_settings(amqp_url))
    process.server.wait_until(lambda: process.says("/health/live", 200), SOON_S)
    process.server.wait_until(lambda: "IRIS_AMQP_URL says where" in process.server.tail(), SOON_S)
    answer = process.get("/health/ready")
    assert answer is not None
    assert (answer.status_code, answer.json()["status"]) == (503, "not ready")
    rabbitmq.start()
    process.server.wait_until(lambda: process.says("/health/ready", 200), SOON_S)


def test_when_its_broker_goes_it_is_not_ready_until_it_is_back(
    start: Start, rabbitmq: RabbitMQNode, amqp_url: str
) -> None:
    process = start("archive", "serve", **archive_settings(amqp_url))
    process.server.wait_until(lambda: process.says("/health/ready", 200), SOON_S)
    rabbitmq.kill()
    process.server.wait_until(lambda: process.says("/health/ready", 503), SOON_S)
    assert process.says("/health/live", 200)
    rabbitmq.start()
    process.server.wait_until(lambda: process.says("/health/ready", 200), SOON_S)


def test_wrong_credentials_end_it_with_what_to_set(start: Start, rabbitmq: RabbitMQNode, amqp_url: str) -> None:
    process = start("archive", "serve", **archive_settings(amqp_url.replace(rabbitmq.password, "guess")))
    assert process.end() == 1
    assert "Set both in IRIS_AMQP_URL" in " ".join(process.server.tail().split())
    assert "guess" not in process.server.log.read_text(encoding="utf-8")


def test_no_broker_named_ends_it_with_what_to_set(start: Start) -> None:
    process = start("archive", "serve")
    assert process.end() == 1
    assert "Set IRIS_AMQP_URL" in process.server.tail()


def test_a_broker_with_another_topology_ends_it(start: Start, rabbitmq: RabbitMQNode, amqp_url: str) -> None:
    vhost = amqp_url.rpartition("/")[2]
    expression = (
        f'rabbit_amqqueue:declare({{resource, <<"{vhost}">>, queue, <<"{ARCHIVE}">>}}, true, false, [], none, <<"t">>).'
    )
    rabbitmq.control("eval", expression)
    process = start("archive", "serve", **archive_settings(amqp_url))
    assert process.end() == 1
    text = " ".join(process.server.tail().split())
    assert "TopologyConflict" in text
    assert ARCHIVE in text


def test_a_store_that_refuses_the_keys_ends_it(start: Start, amqp_url: str, s3_access: S3Access) -> None:
    url = f"{s3_access.url}/iris-test"
    keys = {"IRIS_STORE_URL": url, "IRIS_STORE_ACCESS_KEY": "iris:nobody", "IRIS_STORE_SECRET_KEY": "guess"}
    process = start("archive", "serve", **archive_settings(amqp_url), **keys)
    assert process.end() == 1
    assert "IRIS_STORE_ACCESS_KEY" in process.server.tail()


def test_a_port_in_use_ends_it(start: Start, amqp_url: str) -> None:
    first = start("archive", "serve", **archive_settings(amqp_url))
    first.server.wait_until(lambda: first.says("/health/live", 200), SOON_S)
    second = start("archive", "serve", **archive_settings(amqp_url) | {"IRIS_HEALTH_PORT": str(first.port)})
    assert second.end() == 1
    assert f"Cannot listen on 127.0.0.1:{first.port}" in second.server.tail()


def test_crds_proxy_answers(start: Start, amqp_url: str) -> None:
    port = free_port()
    process = start("crds", "serve", IRIS_AMQP_URL=amqp_url, IRIS_CRDS_PORT=str(port))
    process.server.wait_until(lambda: process.says("/health/ready", 200), SOON_S)
    answer = httpx.get(f"http://127.0.0.1:{port}/references/context", trust_env=False, timeout=10.0)
    assert "holds no context" in answer.text
    process.server.signal(signal.SIGTERM)
    assert process.end() == 0
