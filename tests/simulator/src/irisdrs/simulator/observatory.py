"""An observatory on one machine: a private RabbitMQ node, a store, and every service as a process of its own."""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import httpx
import structlog

from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector
from irisdrs.shared.testing.servers.process import ServerProcess, free_port
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode
from irisdrs.shared.testing.servers.swift import SwiftServer

_log = structlog.get_logger(__name__)

#: Bucket of the private S3 server.
BUCKET = "iris"

#: What the terminal says while a system starts. Services compile before they are ready, and say so in their logs.
STARTING = "Starting servers and services; the first time on a machine kernels are compiled, a minute or more"

#: How long a service that lives may take to be ready, seconds: crds_proxy first publishes what references were built
#: here, 5 GB of a whole imager, which takes two minutes and more of a machine that is busy with something else.
_READY_TIMEOUT_S = 600.0

#: How often dead services are looked for, seconds.
_LOOK_S = 0.5

#: Where a store may be.
StoreKind = Literal["directory", "s3"]


class Broker(Protocol):
    """One node of RabbitMQ, or a cluster."""

    def url(self, vhost: str = "/", port: int | None = None) -> str:
        """AMQP URL of a virtual host; by another port where something stands before the broker."""
        ...

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        ...

    def stop(self) -> None:
        """End it in order; its data stay."""
        ...


class ServiceProcess:
    """One service, started as an operator would: its command, and settings in the environment.

    Parameters
    ----------
    name : str
    arguments : sequence of str
        Of the command `iris`.
    environment : mapping
    log : Path
    """

    def __init__(self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = [str(Path(sys.executable).parent / "iris"), *arguments]
        self._port = free_port()
        #: Its whole environment from the next start on.
        self.environment = {**environment, "IRIS_HEALTH_PORT": str(self._port)}
        self._log = log
        self.starts = 0
        self.process = self._start()

    @property
    def health_url(self) -> str:
        """Where its health and metrics are."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def dead(self) -> bool:
        """Whether it has ended."""
        return self.process.exit_status is not None

    def ready(self) -> bool:
        """Whether it says that it is ready."""
        try:
            answer = httpx.get(f"{self.health_url}/health/ready", timeout=5.0, trust_env=False)
        except httpx.TransportError:
            return False
        return answer.is_success

    def restart(self) -> None:
        """Start it anew, as Kubernetes would."""
        _log.warning("service died, starting it anew", service=self.name, exit_status=self.process.exit_status)
        self.process.kill()  # what its process group has left
        self.process = self._start()

    def _start(self) -> ServerProcess:
        self.starts += 1
        return ServerProcess(self.name, self._command, self._log, self.environment)


class Observatory:
    """Private servers and the services on them.

    Parameters
    ----------
    data_dir : Path
        Everything that they keep; its folder `crds` has the references.
    store : {"directory", "s3"}
    detectors : sequence of Detector
        One readout process each.
    broker : Broker, optional
        Instead of a node of its own.

    Raises
    ------
    ServerMissing
        If RabbitMQ or Swift is not installed.
    """

    def __init__(
        self,
        data_dir: Path,
        store: StoreKind = "directory",
        detectors: Sequence[Detector] = IMAGER_DETECTORS,
        broker: Broker | None = None,
    ) -> None:
        self.data_dir = data_dir.resolve()
        self.detectors = tuple(detectors)
        self.rabbitmq: Broker = broker or RabbitMQNode(self.data_dir / "rabbitmq")
        self.swift = SwiftServer(self.data_dir / "swift") if store == "s3" else None
        self.services: dict[str, ServiceProcess] = {}
        self._archive_port, self._crds_port = free_port(), free_port()

    @property
    def archive_url(self) -> str:
        """Where the archive answers."""
        return f"http://127.0.0.1:{self._archive_port}"

    def settings(self) -> dict[str, str]:
        """Environment variables of every process of this observatory."""
        found = {
            "IRIS_DATA_DIR": str(self.data_dir),
            "IRIS_AMQP_URL": self.rabbitmq.url(),
            "IRIS_ARCHIVE_PORT": str(self._archive_port),
            "IRIS_CRDS_PORT": str(self._crds_port),
            "IRIS_CRDS_URL": f"http://127.0.0.1:{self._crds_port}",
        }
        if self.swift is not None:
            found |= {
                "IRIS_STORE_URL": f"{self.swift.url}/{BUCKET}",
                "IRIS_STORE_ACCESS_KEY": self.swift.access_key,
                "IRIS_STORE_SECRET_KEY": self.swift.secret_key,
            }
        return found

    def environment(self) -> dict[str, str]:
        """The environment of this process with `settings`, and nothing else that begins with ``IRIS_``."""
        return {name: value for name, value in os.environ.items() if not name.startswith("IRIS_")} | self.settings()

    def start(self) -> None:
        """Start servers and services; returns when all are ready.

        Raises
        ------
        ServerFailed
            If one does not come up; those that did are ended.
        """
        try:
            self.rabbitmq.start()
            if self.swift is not None:
                self.swift.start()
            self._start_services()
            for service in self.services.values():
                service.process.wait_until(service.ready, _READY_TIMEOUT_S)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End services, then servers, in order."""
        for service in self.services.values():
            service.process.ask_to_end()
        for service in self.services.values():
            service.process.terminate()
        if self.swift is not None:
            self.swift.stop()
        self.rabbitmq.stop()

    async def supervise(self) -> None:
        """Start services that die anew, until cancelled."""
        while True:
            for service in self.services.values():
                if service.dead:
                    await asyncio.to_thread(service.restart)
            await asyncio.sleep(_LOOK_S)

    def _start_services(self) -> None:
        commands = {
            "crds_proxy": ("crds", "serve"),
            "archive": ("archive", "serve"),
            "calibrate": ("calibrate", "serve", "--lane", "realtime"),
            **{f"readout-{one}": ("readout", "serve", "--detector", one) for one in self.detectors},
        }
        logs = self.data_dir / "log"
        logs.mkdir(parents=True, exist_ok=True)
        environment = {**self.environment(), "IRIS_LOG_FORMAT": "json"}
        for name, arguments in commands.items():
            self.services[name] = ServiceProcess(name, arguments, environment, logs / f"{name}.log")
