"""A private RabbitMQ node: everything that it writes in one folder, every listener on loopback.

Source: RabbitMQ's documentation of `rabbitmq-env.conf`, and what was seen with Debian's 3.10.8.
"""

import contextlib
import os
import secrets
import signal
import subprocess
from pathlib import Path

from irisdrs.shared.testing.servers.process import ServerMissing, ServerProcess, answers, free_port

#: Where Debian has the programs. The wrappers in /usr/sbin switch to another user.
PROGRAMS = Path("/usr/lib/rabbitmq/bin")

_CONFIG = """\
listeners.tcp.1 = 127.0.0.1:{port}
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.2
log.console = true
log.console.level = warning
log.file = false
default_user = {user}
default_pass = {password}
loopback_users = none
"""


class RabbitMQNode:
    """One node, with a user of its own.

    Parameters
    ----------
    folder : Path
        Its data; what is there already is taken up.

    Raises
    ------
    ServerMissing
        If RabbitMQ is not installed.
    """

    def __init__(self, folder: Path) -> None:
        if not (PROGRAMS / "rabbitmq-server").exists():
            raise ServerMissing("RabbitMQ is not installed.", remedy="Install the Debian package rabbitmq-server.")
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.user = "iris"
        self._name, self.password = self._identity()
        self.port, self._distribution_port, self._epmd_port = free_port(), free_port(), free_port()
        self._server: ServerProcess | None = None

    def url(self, vhost: str = "/") -> str:
        """AMQP URL of a virtual host, with the password."""
        path = "%2F" if vhost == "/" else vhost
        return f"amqp://{self.user}:{self.password}@127.0.0.1:{self.port}/{path}"

    def start(self) -> None:
        """Start the node and wait until it takes connections.

        Raises
        ------
        ServerFailed
            If it does not come up.
        """
        (self.folder / "enabled_plugins").write_text("[].\n", encoding="ascii")
        config = _CONFIG.format(port=self.port, user=self.user, password=self.password)
        config_file = self.folder / "rabbitmq.conf"
        config_file.touch(mode=0o600)
        config_file.write_text(config, encoding="ascii")
        self._server = ServerProcess(
            "RabbitMQ", [str(PROGRAMS / "rabbitmq-server")], self.folder / "rabbitmq.log", self._environment()
        )
        self._server.wait_until(lambda: answers(self.port))

    def stop(self) -> None:
        """End the node in order; its data stay."""
        if self._server is not None:
            self._server.terminate()
            self._end_epmd()

    def kill(self) -> None:
        """End the node as a power cut would; its data stay."""
        if self._server is not None:
            self._server.kill()
            self._end_epmd()

    def control(self, *arguments: str) -> str:
        """Run `rabbitmqctl`; its output."""
        command = [str(PROGRAMS / "rabbitmqctl"), "--quiet", "--node", self._name, *arguments]
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
            "RABBITMQ_NODENAME": self._name,
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
            "ERL_EPMD_PORT": str(self._epmd_port),
        }

    def _end_epmd(self) -> None:
        """End the port mapper daemon, which leaves the node's process group and outlives it."""
        wanted = f"ERL_EPMD_PORT={self._epmd_port}".encode()
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            with contextlib.suppress(OSError):
                name = (process / "comm").read_text(encoding="ascii").strip()
                if name == "epmd" and wanted in (process / "environ").read_bytes().split(b"\0"):
                    os.kill(int(process.name), signal.SIGKILL)
