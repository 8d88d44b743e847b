"""Real servers that tests talk to: found in the environment, or started here on private ports."""

import itertools
import os
from collections.abc import Iterator

import pytest

from irisdrs.shared.testing.servers.process import ServerMissing
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode

_numbers = itertools.count(1)


def unavailable(problem: str) -> None:
    """In CI every server must be there; at a desk its tests are skipped, and say what to install."""
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQNode]:
    """A private RabbitMQ node."""
    try:
        node = RabbitMQNode(tmp_path_factory.mktemp("rabbitmq"))
    except ServerMissing as problem:
        unavailable(str(problem))
    node.start()
    yield node
    node.stop()


@pytest.fixture
def amqp_url(rabbitmq: RabbitMQNode) -> Iterator[str]:
    """AMQP URL of a virtual host of this test's own."""
    name = f"test-{next(_numbers)}"
    yield rabbitmq.add_vhost(name)
    rabbitmq.control("delete_vhost", name)
