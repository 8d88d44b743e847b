"""A private RabbitMQ node: everything that it writes in one folder, every listener on loopback.

Needs the Debian package rabbitmq-server, with the Erlang that it brings. Source: RabbitMQ's documentation of
`rabbitmq-env.conf`, and what was seen with Debian's 3.10.8.
"""

import os
import secrets
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from irisdrs.shared.testing.servers.process import ServerMissing, ServerProcess, answers, free_port

#: Where Debian has the programs. The wrappers in /usr/sbin switch to another user.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.{memory}
log.console = true
log.console.level = warning
log.file = false
default_user = {user}
default_pass = {password}
loopback_users = none
{more}
"""


class PortMapper:
    """Erlang's epmd, which tells nodes and their tools each other's ports; the nodes of a cluster share one."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._log = folder / "epmd.log"
        self._server: ServerProcess | None = None

    def start(self) -> None:
        """Start it, if it does not run. A node would start one too, which outlives it and which nobody ends."""
        if self._server is None or self._server.exit_status is not None:
            program = shutil.which("epmd") or "/usr/bin/epmd"
            command = [program, "-address", "127.0.0.1", "-port", str(self.port)]
            self._server = ServerProcess("epmd", command, self._log)
            self._server.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        """End it."""
        if self._server is not None:
            self._server.kill()


@dataclass(frozen=True)
class Membership:
    """What a node of a cluster has in common with the others.

    Attributes
    ----------
    name : str
        Of the node: ``one@localhost``.
    password : str
        Of the user of all nodes.
    cookie : str
        With which nodes know each other.
    port_mapper : PortMapper
    settings : str
        Lines of `rabbitmq.conf`.
    """

    name: str
    password: str = field(repr=False)
    cookie: str = field(repr=False)
    port_mapper: PortMapper
    settings: str


class RabbitMQNode:
    """One node, with a user of its own.

    Parameters
    ----------
    folder : Path
        Its data; what is there already is taken up.
    membership : Membership, optional
        Of a cluster; see `RabbitMQCluster`.
    memory : str
        How much it may use before it blocks publishers, as in `vm_memory_high_watermark`.

    Raises
    ------
    ServerMissing
        If RabbitMQ is not installed.
    """

    def __init__(self, folder: Path, membership: Membership | None = None, memory: str = "relative = 0.2") -> None:
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise ServerMissing("RabbitMQ is not installed.", remedy="Install the Debian package rabbitmq-server.")
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user = "iris"
        self._membership, self._memory = membership, memory
        self.name, self.password = (membership.name, membership.password) if membership else self._identity()
        self.port, self._distribution_port = free_port(), free_port()
        self._port_mapper = membership.port_mapper if membership else PortMapper(self.folder)
        self._server: ServerProcess | None = None

    @property
    def pid(self) -> int:
        """Process id of the node, and of its process group."""
        assert self._server is not None, "start it first"
        return self._server.pid

    def url(self, vhost: str = "/", port: int | None = None) -> str:
        """AMQP URL of a virtual host, with the password; by another port where something stands before the node."""
        path = "%2F" if vhost == "/" else vhost
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{port or self.port}/{path}"

    def start(self) -> None:
        """Start the node and wait until it takes connections.

        Raises
        ------
        ServerFailed
            If it does not come up.
        """
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Start the node; do not wait."""
        self._port_mapper.start()
        (self.folder / "enabled_plugins").write_text("[].\n", encoding="ascii")
        settings = self._membership.settings if self._membership else ""
        config = _CONFIG.format(
            port=self.port, user=self.user, password=self.password, memory=self._memory, more=settings
        )
        self._write_secret("rabbitmq.conf", config)
        if self._membership is not None:
            self._write_secret(".erlang.cookie", self._membership.cookie)
        self._server = ServerProcess(
            "RabbitMQ", [str(PROGRAMS / "rabbitmq-server")], self.folder / "rabbitmq.log", self._environment()
        )

    def wait_until_ready(self) -> None:
        """Wait until the node takes connections.

        Raises
        ------
        ServerFailed
            If it does not come up; it is dead then.
        """
        assert self._server is not None, "launch it first"
        self._server.wait_until(lambda: answers(self.port))

    def ask_to_end(self) -> None:
        """Ask the node to end; do not wait."""
        if self._server is not None:
            self._server.ask_to_end()

    def stop(self) -> None:
        """End the node in order; its data stay."""
        if self._server is not None:
            self._server.terminate()
            self._end_port_mapper()

    def kill(self) -> None:
        """End the node as a power cut would; its data stay."""
        if self._server is not None:
            self._server.kill()
            self._end_port_mapper()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the node: SIGSTOP and SIGCONT make it hang and go on."""
        if self._server is not None:
            self._server.signal(number)

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; its output."""
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", "--node", self.name, *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=True)
        return done.stdout

    def add_vhost(self, name: str) -> str:
        """Make a virtual host of this node's user; its AMQP URL."""
        self.control("add_vhost", name)
        self.control("set_permissions", "--vhost", name, self.user, ".*", ".*", ".*")
        return self.url(name)

    def _identity(self) -> tuple[str, str]:
        """Name of the node and password of its user: those of the data, if there are some."""
        file = self.folder / "identity"
        if not file.exists():
            file.touch(mode=0o600)
            file.write_text(f"iris-{secrets.token_hex(4)}@localhost {secrets.token_urlsafe(16)}\n", encoding="ascii")
        name, password = file.read_text(encoding="ascii").split()
        return name, password

    def _environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "HOME": str(self.folder),  # the Erlang cookie
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_BASE": str(self.folder),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(self.folder / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.folder / "enabled_plugins"),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._port_mapper.port),
        }

    def _end_port_mapper(self) -> None:
        if self._membership is None:  # that of a cluster is needed by the others
            self._port_mapper.stop()

    def _write_secret(self, name: str, text: str) -> None:
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(text, encoding="ascii")
