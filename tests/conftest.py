"""Real servers that tests talk to: found in the environment, or started here on private ports.

CUDA devices are simulated, on machines that have one as well: `make gpu` is what talks to them. numba asks for it when
it is imported, and so do processes that tests start.
"""

import importlib.util
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from minio import Minio
from minio.deleteobjects import DeleteObject
from pydantic import SecretStr

from irisdrs.shared.settings import HostSettings
from irisdrs.shared.testing.servers.cluster import RabbitMQCluster
from irisdrs.shared.testing.servers.disk import SmallDisk, small_disk
from irisdrs.shared.testing.servers.process import ServerMissing
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode
from irisdrs.shared.testing.servers.swift import SwiftServer

#: Names an S3 server for the tests, as `IRIS_STORE_URL` but without a bucket; its keys lie beside it.
S3_URL = "IRIS_TEST_S3_URL"

#: A MinIO that writes conditionally, for machines with a container engine.
MINIO_IMAGE = "minio/minio:RELEASE.2025-04-22T22-12-26Z"

_numbers = itertools.count(1)

os.environ.setdefault("NUMBA_ENABLE_CUDASIM", "1")


def unavailable(problem: str) -> NoReturn:
    """In CI every server must be there; at a desk its tests are skipped, and say what to install."""
    if os.environ.get("CI"):
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Undo what a command that runs inside of the test process has set up for its logs."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


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


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQCluster]:
    """A private RabbitMQ cluster of three nodes; a test that ends one starts it again."""
    try:
        cluster = RabbitMQCluster(tmp_path_factory.mktemp("cluster"))
    except ServerMissing as problem:
        unavailable(str(problem))
    with cluster:
        yield cluster


@dataclass(frozen=True)
class S3Access:
    """An S3 server (`IRIS_STORE_URL` without a bucket) and the keys to it."""

    url: str
    access_key: str
    secret_key: str

    def settings(self, bucket: str) -> HostSettings:
        """Settings of a host that uses a bucket."""
        return HostSettings(
            store_url=f"{self.url}/{bucket}",
            store_access_key=SecretStr(self.access_key),
            store_secret_key=SecretStr(self.secret_key),
        )

    def client(self) -> Minio:
        """A plain client, to look past the store."""
        scheme, _, host = self.url.partition("://")
        return Minio(host, self.access_key, self.secret_key, secure=scheme == "s3+https", region="us-east-1")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk that can be filled. Only root mounts one: in CI root must, anybody else skips its tests."""
    try:
        with small_disk(tmp_path / "disk", 4_000_000) as disk:
            yield disk
    except ServerMissing as problem:
        if os.getuid() == 0:
            unavailable(str(problem))
        pytest.skip(str(problem))


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SwiftServer]:
    """A private S3 server, which tests may stop and start."""
    try:
        server = SwiftServer(tmp_path_factory.mktemp("swift"))
    except ServerMissing as problem:
        unavailable(str(problem))
    with server:
        yield server


@pytest.fixture
def swift_settings(swift: SwiftServer) -> HostSettings:
    """Settings of a host with a bucket of this test's own on the private S3 server, which is not there yet."""
    return S3Access(swift.url, swift.access_key, swift.secret_key).settings(f"test-{next(_numbers)}")


@pytest.fixture(scope="session")
def s3_access(request: pytest.FixtureRequest) -> Iterator[S3Access]:
    """An S3 server: the one that the environment names, one in a container, or a private one."""
    if url := os.environ.get(S3_URL):
        yield S3Access(url, os.environ["IRIS_TEST_S3_ACCESS_KEY"], os.environ["IRIS_TEST_S3_SECRET_KEY"])
    elif importlib.util.find_spec("testcontainers") and _engine_answers():
        from testcontainers.minio import MinioContainer

        with MinioContainer(MINIO_IMAGE) as container:
            config = container.get_config()
            yield S3Access(f"s3+http://{config['endpoint']}", config["access_key"], config["secret_key"])
    else:
        server: SwiftServer = request.getfixturevalue("swift")
        yield S3Access(server.url, server.access_key, server.secret_key)


def _engine_answers() -> bool:
    import docker

    try:
        docker.from_env().ping()
    except docker.errors.DockerException:
        return False
    return True


@pytest.fixture
def s3_settings(s3_access: S3Access) -> Iterator[HostSettings]:
    """Settings of a host with a bucket of this test's own, which is not there yet."""
    bucket = f"test-{os.getpid()}-{next(_numbers)}"
    yield s3_access.settings(bucket)
    client = s3_access.client()
    if S3_URL in os.environ and client.bucket_exists(bucket):  # a server that stays is left as it was
        left = [DeleteObject(entry.object_name or "") for entry in client.list_objects(bucket, recursive=True)]
        assert not list(client.remove_objects(bucket, left))
        client.remove_bucket(bucket)
