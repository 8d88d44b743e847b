"""An observatory that things happen to: private servers behind proxies, and every service as a process of its own."""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx
from minio import Minio
from tests.chaos.shelf import DirectoryShelf, S3Shelf, Shelf

from irisdrs.shared import crash_points
from irisdrs.shared.bus.port import Parked
from irisdrs.shared.bus.topology import QUEUES
from irisdrs.shared.errors import BadMessage, Outage
from irisdrs.shared.events import Event, decode
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.testing.servers.cluster import RabbitMQCluster
from irisdrs.shared.testing.servers.disk import SmallDisk, small_disk
from irisdrs.shared.testing.servers.proxy import TcpProxy
from irisdrs.shared.testing.servers.rabbitmq import RabbitMQNode
from irisdrs.simulator.observatory import BUCKET, Observatory
from irisdrs.simulator.stage import Stage, visiting

#: Most memory that a worker may take, 2**20 bytes: a frame of 64 x 64 needs 400.
WORKER_MEMORY_MB = 1024

#: Longest that a job may take, seconds: one of 64 x 64 takes one, and the start of its process on a busy machine 30.
JOB_TIMEOUT_S = 60.0

#: Longest wait for services to be ready again between two cases, seconds.
READY_S = 120.0


#: Sizes of the disks of store and spool where they are small, bytes: some nights of 64 x 64, and no more.
DISKS_BYTES = {"store": 64 << 20, "spool": 16 << 20}


class Setting(StrEnum):
    """What a case is played on."""

    SWIFT = "one broker, S3"
    DIRECTORY = "one broker, directory"
    CLUSTER = "three brokers, directory"


class ChaosObservatory(Observatory):
    """An observatory whose services reach broker and store through proxies, and whose crash points can be armed.

    Parameters
    ----------
    data_dir : Path
    setting : Setting
    """

    def __init__(self, data_dir: Path, setting: Setting) -> None:
        home = data_dir / "rabbitmq"
        self.cluster = RabbitMQCluster(home) if setting is Setting.CLUSTER else None
        self.node = RabbitMQNode(home) if self.cluster is None else None
        ports = self.cluster.ports if self.cluster else [self.node.port] if self.node else []
        super().__init__(data_dir, "s3" if setting is Setting.SWIFT else "directory", broker=self.cluster or self.node)
        self.broker_line = TcpProxy(ports)
        self.store_line = TcpProxy([]) if self.swift is not None else None
        self.crash_points = self.data_dir / "crash-points"
        self.crash_points.mkdir(parents=True)

    def settings(self) -> dict[str, str]:
        """Environment variables of every process: with the proxies' ports."""
        found = super().settings() | {"IRIS_AMQP_URL": self.rabbitmq.url(port=self.broker_line.port)}
        if self.store_line is not None:
            found["IRIS_STORE_URL"] = f"s3+http://127.0.0.1:{self.store_line.port}/{BUCKET}"
        return found

    def environment(self) -> dict[str, str]:
        """The environment of services: small limits, so that a job that misbehaves is found out soon."""
        return super().environment() | {
            crash_points.FOLDER: str(self.crash_points),
            "IRIS_CALIBRATE_WORKER_MEMORY_MB": str(WORKER_MEMORY_MB),
            "IRIS_CALIBRATE_HARD_TIMEOUT_S": str(JOB_TIMEOUT_S),
        }

    def stop(self) -> None:
        """End everything."""
        super().stop()
        for line in (self.broker_line, self.store_line):
            if line is not None:
                line.close()

    def _start_services(self) -> None:
        if self.store_line is not None and self.swift is not None:
            self.store_line.targets = [int(self.swift.url.rpartition(":")[2])]
        super()._start_services()


@dataclass(slots=True)
class Arena:
    """A running observatory, and what a ledger and a saboteur need of it.

    Attributes
    ----------
    observatory : ChaosObservatory
    stage : Stage
        Bus and store, as the edge has them: through the proxies.
    client : httpx.AsyncClient
        To the archive.
    shelf : Shelf
        The store's objects, past the system and past the proxies.
    plan : ObservationPlan
        Whose references there are.
    disks : mapping
        Those that can be filled: of the ``store`` and of the ``spool``.
    ears : list
        Called with every event that anybody tells.
    """

    observatory: ChaosObservatory
    stage: Stage
    client: httpx.AsyncClient
    shelf: Shelf
    plan: ObservationPlan
    disks: Mapping[str, SmallDisk]
    ears: list[Callable[[Event], None]] = field(default_factory=list)

    async def ready(self) -> None:
        """Wait until all services say that they are ready."""
        async with asyncio.timeout(READY_S):
            for service in self.observatory.services.values():
                while not await asyncio.to_thread(service.ready):
                    await asyncio.sleep(0.2)

    async def parked(self) -> list[Parked]:
        """Everything that waits for a person."""
        while True:
            try:
                return [one for queue in QUEUES for one in await self.stage.bus.parked(queue)]
            except Outage:
                await asyncio.sleep(0.5)

    async def discard_parked(self) -> str:
        """Throw away what is parked, as an operator would, so that the next case finds nothing; what went wrong."""
        discard = ("dead-letters", "discard", "--all", "--yes", "--by", "chaos", "--reason", "was injected")
        command = [str(Path(sys.executable).parent / "iris"), *discard]
        done = await asyncio.to_thread(
            subprocess.run, command, env=self.observatory.environment(), capture_output=True, text=True, check=False
        )
        left = len(await self.parked())
        return f"{left} could not be discarded: {done.stderr[-500:]}" if done.returncode or left else ""

    async def listen(self) -> None:
        """Hand on what anybody tells, until cancelled."""
        async with self.stage.bus.listen("iris.#") as messages:
            async for message in messages:
                with contextlib.suppress(BadMessage):
                    _, event = decode(message)
                    for ear in self.ears:
                        ear(event)


@contextlib.asynccontextmanager
async def opened(setting: Setting, data_dir: Path, references: tuple[ObservationPlan, Path]) -> AsyncIterator[Arena]:
    """An arena in an empty folder; its services are started anew when they die."""
    plan, cache = references
    shutil.copytree(cache, data_dir / "crds")
    async with contextlib.AsyncExitStack() as stack:
        small = DISKS_BYTES if setting is Setting.DIRECTORY else {}
        disks = {name: stack.enter_context(small_disk(data_dir / name, size)) for name, size in small.items()}
        observatory = ChaosObservatory(data_dir, setting)
        stack.push_async_callback(asyncio.to_thread, observatory.stop)
        await asyncio.to_thread(observatory.start)
        stack.enter_context(_task(observatory.supervise()))
        stage = await stack.enter_async_context(visiting(observatory))
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=stage.url, trust_env=False, timeout=60.0))
        arena = Arena(observatory, stage, client, _shelf(observatory), plan, disks)
        stack.enter_context(_task(arena.listen()))
        yield arena


def _shelf(observatory: ChaosObservatory) -> Shelf:
    swift = observatory.swift
    if swift is None:
        return DirectoryShelf(observatory.data_dir / "store")
    host = swift.url.partition("://")[2]
    return S3Shelf(Minio(host, swift.access_key, swift.secret_key, secure=False, region="us-east-1"), BUCKET)


@contextlib.contextmanager
def _task(work: Coroutine[object, object, None]) -> Iterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
