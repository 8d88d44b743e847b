"""A private RabbitMQ cluster: three nodes on one machine, as at the observatory on three.

Nodes find each other by a list in their settings; a node that sees less than the majority pauses. Needs the Debian
package rabbitmq-server, some 25 s to start and 0.45 GB of memory. Source: RabbitMQ's guides "Cluster Formation" and
"Clustering and Network Partitions".
"""

import secrets
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from irisdrs.shared.testing.servers.process import START_TIMEOUT_S, ServerFailed
from irisdrs.shared.testing.servers.rabbitmq import Membership, PortMapper, RabbitMQNode

#: A node that uses more blocks its publishers. One that is idle uses 0.1 GB.
_MEMORY = "absolute = 512MB"

_SETTINGS = """\
cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
# A node that is back is waited for as long as this, ten times: all nodes may have been away.
mnesia_table_loading_retry_timeout = 10000
"""

#: How often a cluster is asked whether it has come to what is waited for, seconds.
_LOOK_S = 0.5


class RabbitMQCluster:
    """Three nodes with one user; as a context they run.

    Parameters
    ----------
    folder : Path
        Their data, a folder each.

    Raises
    ------
    ServerMissing
        If RabbitMQ is not installed.
    """

    def __init__(self, folder: Path, size: int = 3) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        run, password, cookie = secrets.token_hex(4), secrets.token_urlsafe(16), secrets.token_hex(16)
        names = [f"iris-{run}-{number}@localhost" for number in range(1, size + 1)]
        peers = [f"cluster_formation.classic_config.nodes.{n} = {name}" for n, name in enumerate(names, 1)]
        settings = "\n".join((_SETTINGS, *peers))
        self._port_mapper = PortMapper(self.folder)
        self.nodes = [
            RabbitMQNode(
                self.folder / f"node-{number}",
                Membership(name, password, cookie, self._port_mapper, settings),
                memory=_MEMORY,
            )
            for number, name in enumerate(names, 1)
        ]
        self._down: set[str] = {node.name for node in self.nodes}

    @property
    def up(self) -> list[RabbitMQNode]:
        """Nodes that were started and not ended."""
        return [node for node in self.nodes if node.name not in self._down]

    @property
    def ports(self) -> list[int]:
        """Where the nodes take connections: the targets of a `TcpProxy`."""
        return [node.port for node in self.nodes]

    def urls(self, vhost: str = "/") -> list[str]:
        """AMQP URL of a virtual host at each node."""
        return [node.url(vhost) for node in self.nodes]

    def url(self, vhost: str = "/", port: int | None = None) -> str:
        """AMQP URL of a virtual host at the first node, or at the port of what stands before the cluster."""
        return self.nodes[0].url(vhost, port)

    def start(self) -> None:
        """Start all nodes together, and wait until they are one cluster and take connections.

        Raises
        ------
        ServerFailed
            If one does not come up; all are dead then.
        """
        try:
            for node in self.nodes:
                node.launch()
                self._down.discard(node.name)
            for node in self.nodes:
                node.wait_until_ready()
            self.control("await_online_nodes", str(len(self.nodes)))
        except BaseException:
            self.kill_all()
            raise

    def stop(self) -> None:
        """End all nodes in order; their data stay."""
        for node in self.nodes:
            node.ask_to_end()
        for node in self.nodes:
            node.stop()
            self._down.add(node.name)
        self._port_mapper.stop()

    def kill(self, node: RabbitMQNode) -> None:
        """End a node as a power cut would."""
        self._down.add(node.name)
        node.kill()

    def kill_all(self) -> None:
        """End all nodes as a power cut would."""
        for node in self.nodes:
            self.kill(node)
        self._port_mapper.stop()

    def restart(self, node: RabbitMQNode) -> None:
        """Start a node that was ended, or end it in order and start it; wait until it is a member again.

        Raises
        ------
        ServerFailed
            If it does not come up.
        """
        node.stop()
        node.start()
        self._down.discard(node.name)
        node.control("await_online_nodes", str(len(self.up)))

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl` on a node that is up; its output."""
        return self.up[0].control(*arguments)

    def add_vhost(self, name: str) -> str:
        """Make a virtual host on all nodes; its AMQP URL at the first one."""
        self.up[0].add_vhost(name)
        return self.url(name)

    def leader(self, queue: str, vhost: str = "/") -> RabbitMQNode | None:
        """The node that leads a quorum queue, None while there is none that is up."""
        names = self._queue_facts("leader", vhost).get(queue, [])
        return next((node for node in self.up if node.name in names), None)

    def in_sync(self, vhost: str = "/") -> bool:
        """Whether every quorum queue of a virtual host has a running replica on every node that is up."""
        online = self._queue_facts("online", vhost)
        wanted = {node.name for node in self.up}
        return all(wanted <= set(names) for names in online.values())

    def replicas(self, vhost: str = "/") -> dict[str, list[str]]:
        """Queues of a virtual host, and names of the nodes that have a replica of each."""
        return self._queue_facts("members", vhost)

    def wait_until(self, fact: Callable[[], bool], timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until something is so that is asked of the cluster, which may be without an answer for a while.

        Raises
        ------
        ServerFailed
            If it is not so in time.
        """
        deadline = time.monotonic() + timeout_s
        while not self._holds(fact):
            if time.monotonic() > deadline:
                raise ServerFailed(f"The cluster did not come to it within {timeout_s:g} s.")
            time.sleep(_LOOK_S)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _holds(self, fact: Callable[[], bool]) -> bool:
        try:
            return fact()
        except subprocess.CalledProcessError:
            return False

    def _queue_facts(self, column: str, vhost: str) -> dict[str, list[str]]:
        """Names of nodes in a column of the list of queues."""
        text = self.control("list_queues", "--vhost", vhost, "--no-table-headers", "name", column)
        rows = (line.split("\t") for line in text.splitlines())
        return {row[0]: row[1].strip("[]").replace(" ", "").split(",") for row in rows if len(row) == 2}
