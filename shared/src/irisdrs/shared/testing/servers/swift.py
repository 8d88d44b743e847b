"""A private S3 server: OpenStack Swift with `s3api`, everything that it writes in one folder, on loopback only.

Swift lives in a virtual environment of its own (`deploy/swift-requirements.txt`), one process each for its proxy,
account, container and object server; one copy of each object, as a plain file. Source: Swift's deployment guide and
sample configurations.
"""

import http.client
import json
import os
import pwd
import secrets
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from irisdrs.shared.testing.servers.process import STOP_TIMEOUT_S, ServerFailed, ServerMissing, ServerProcess, free_port

#: Names the virtual environment where it is not the folder `swift` of this one.
VENV_VARIABLE = "IRIS_SWIFT_VENV"

#: The servers behind the proxy; each keeps its part of the data.
_STORAGE = ("account", "container", "object")

#: How often other ports are tried when somebody takes one between its choice and the start.
_TRIES = 3

_SWIFT = """\
[swift-hash]
swift_hash_path_prefix = iris

[swift-constraints]
# As long as on any other S3 server; 256 is Swift's own.
max_meta_value_length = 2048
"""

_SERVER = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
disable_fallocate = true
log_level = WARNING
# A busy machine is no outage; and an update that waits for a later pass, which nobody makes here, would be lost.
conn_timeout = 20
node_timeout = 60
container_update_timeout = 60

"""

_STORAGE_APP = """\
[pipeline:main]
pipeline = limits {name}-server

[filter:limits]
paste.filter_factory = iris_filters:limits

[app:{name}-server]
use = egg:swift#{name}
"""

_PROXY_APP = """\
[pipeline:main]
pipeline = limits faults catch_errors gatekeeper healthcheck listing_formats s3api tempauth bulk slo one_writer
    proxy-server

[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:gatekeeper]
use = egg:swift#gatekeeper

[filter:healthcheck]
use = egg:swift#healthcheck

[filter:listing_formats]
use = egg:swift#listing_formats

[filter:s3api]
use = egg:swift#s3api
location = us-east-1
# Short pages: a client that does not ask for the next one is found out.
max_bucket_listing = 50

[filter:tempauth]
use = egg:swift#tempauth
user_iris_{user} = {secret} .admin

[filter:bulk]
use = egg:swift#bulk

[filter:slo]
use = egg:swift#slo

[filter:limits]
paste.filter_factory = iris_filters:limits

[filter:faults]
paste.filter_factory = iris_filters:faults
file = {folder}/faults.json

[filter:one_writer]
paste.filter_factory = iris_filters:one_writer
"""

_RINGS = """\
import sys
from swift.common.ring import RingBuilder

folder, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    device = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "disk", "weight": 1.0}
    builder = RingBuilder(4, 1, 1)
    builder.add_dev(device)
    builder.rebalance()
    builder.get_ring().save(f"{folder}/{name}.ring.gz")
"""


class SwiftServer:
    """An S3 server with a user of its own; as a context it runs.

    Parameters
    ----------
    folder : Path
        Its data, on a file system with extended attributes; what is there already is taken up.

    Raises
    ------
    ServerMissing
        If Swift is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._programs = Path(os.environ.get(VENV_VARIABLE) or Path(sys.prefix) / "swift") / "bin"
        if not (self._programs / "swift-proxy-server").exists():
            raise ServerMissing(
                "OpenStack Swift is not installed.",
                remedy=f"Run `make swift`, or name a virtual environment that has it in {VENV_VARIABLE}.",
            )
        self.folder = folder.resolve()
        (self.folder / "devices" / "disk").mkdir(parents=True, exist_ok=True)
        self._user, self.secret_key = secrets.token_hex(4), secrets.token_hex(16)
        self._ports: dict[str, int] = {}
        self._servers: dict[str, ServerProcess] = {}

    @property
    def access_key(self) -> str:
        """Account and user."""
        return f"iris:{self._user}"

    @property
    def url(self) -> str:
        """Where it answers, as in `IRIS_STORE_URL` but without a bucket; known after the first start."""
        return f"s3+http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        """Start the servers and wait until all answer: on the ports of the last time, if there was one.

        Raises
        ------
        ServerFailed
            If one does not come up.
        """
        if self._ports:
            self._start()
            return
        for attempt in range(_TRIES):
            self._ports = {name: free_port() for name in (*_STORAGE, "proxy")}
            try:
                self._start()
            except ServerFailed:
                if attempt == _TRIES - 1:
                    raise
            else:
                return

    def stop(self) -> None:
        """End the servers in order: what the proxy handed on is still finished. The data stay."""
        if "proxy" in self._servers:
            self._servers.pop("proxy").terminate()
            _wait_for_the_end_of_connections({self._ports[name] for name in _STORAGE})
        while self._servers:
            self._servers.popitem()[1].terminate()

    def restart(self) -> None:
        """Stop and start, on the same port with the same data."""
        self.stop()
        self.start()

    def faults(
        self,
        *,
        errors: float = 0.0,
        late_errors: float = 0.0,
        truncated: float = 0.0,
        delay_s: float = 0.0,
        seed: int = 1,
    ) -> None:
        """Make faults from the next request on, in place of those before; also while it is stopped.

        Parameters
        ----------
        errors : float
            Share of requests (0 to 1) that are answered 503 and not carried out.
        late_errors : float
            Share of requests that are carried out and then answered 503.
        truncated : float
            Share of GETs whose body ends in the middle.
        delay_s : float
            How long each request waits before anything is done, seconds.
        seed : int
            Of the choice: the same requests in the same order meet the same faults.
        """
        wanted = {
            "errors": errors, "late_errors": late_errors, "truncated": truncated, "delay_s": delay_s, "seed": seed
        }  # fmt: skip
        part = self.folder / "faults.part"
        part.write_text(json.dumps(wanted), encoding="ascii")
        part.replace(self.folder / "faults.json")

    def heal(self) -> None:
        """End all faults."""
        (self.folder / "faults.json").unlink(missing_ok=True)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _configure(self) -> None:
        """Write the settings, and the rings, which tell Swift where its servers are."""
        try:
            os.setxattr(self.folder / "devices", "user.iris", b"")
        except OSError as error:
            raise ServerFailed(
                f"The file system of {self.folder} has no extended attributes, where Swift keeps metadata.",
                remedy="Choose a folder on another one, by TMPDIR in tests.",
            ) from error
        self._write("swift.conf", _SWIFT)
        for name, port in self._ports.items():
            user = pwd.getpwuid(os.getuid()).pw_name
            server = _SERVER.format(port=port, user=user, folder=self.folder)
            app = _STORAGE_APP.format(name=name) if name in _STORAGE else ""
            self._write(f"{name}.conf", server + app)
        with (self.folder / "proxy.conf").open("a", encoding="utf-8") as file:
            file.write(_PROXY_APP.format(user=self._user, secret=self.secret_key, folder=self.folder))
        ports = [str(self._ports[name]) for name in _STORAGE]
        command = [str(self._programs / "python"), "-c", _RINGS, str(self.folder), *ports]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ServerFailed(f"Swift's rings could not be built: {done.stderr}")

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")

    def _start(self) -> None:
        self._configure()
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "LANG": "C.UTF-8",
            "PYTHONWARNINGS": "ignore",
            "PYTHONPATH": str(Path(__file__).parent / "swift_filters"),
        }
        try:
            for name in self._ports:
                command = [str(self._programs / f"swift-{name}-server"), str(self.folder / f"{name}.conf"), "-v"]
                self._servers[name] = ServerProcess(f"Swift {name}", command, self.folder / f"{name}.log", environment)
            for name, server in self._servers.items():
                server.wait_until(lambda port=self._ports[name]: _responds(port))  # type: ignore[misc]
        except ServerFailed:
            self.stop()
            raise


def _responds(port: int) -> bool:
    """Whether an HTTP server answers, whatever it says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", "/healthcheck")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _wait_for_the_end_of_connections(ports: set[int]) -> None:
    """Wait until nobody is connected to any of the ports of 127.0.0.1, for a while at most."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while ports & _connected_ports() and time.monotonic() < deadline:
        time.sleep(0.02)


def _connected_ports() -> set[int]:
    """Local ports of established TCP connections (state 01 in proc_pid_net(5))."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == "01"}
