"""The proxy hands on what it gets, and makes each fault that it promises."""

import contextlib
import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

from irisdrs.shared.testing.servers.proxy import TcpProxy


class Echo(socketserver.BaseRequestHandler):
    """Says its server's name, then what it hears, until the other side ends."""

    def handle(self) -> None:
        name: bytes = self.server.name  # type: ignore[attr-defined]
        self.request.sendall(name)
        with contextlib.suppress(OSError):
            while chunk := self.request.recv(1 << 16):
                self.request.sendall(chunk)
            self.request.sendall(b"end")


class EchoServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, name: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Echo)
        self.name = name

    @property
    def port(self) -> int:
        port: int = self.server_address[1]
        return port


@contextlib.contextmanager
def echo(name: bytes) -> Iterator[EchoServer]:
    with EchoServer(name) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    with echo(b"A") as server, TcpProxy([server.port]) as proxy:
        yield proxy


def called(proxy: TcpProxy, *, greeting: bytes = b"A") -> socket.socket:
    """A connection through the proxy that is known to reach its server."""
    client = socket.create_connection(("127.0.0.1", proxy.port), timeout=20.0)
    assert client.recv(1) == greeting
    return client


def heard(client: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer if the stream ends before."""
    parts = b""
    while len(parts) < size and (chunk := client.recv(size - len(parts))):
        parts += chunk
    return parts


def test_hands_on_every_byte_and_the_end(proxy: TcpProxy) -> None:
    sent = bytes(range(256)) * 20_000
    with called(proxy) as client:

        def send() -> None:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert heard(client, len(sent)) == sent
        assert client.recv(10) == b"end"
        assert client.recv(10) == b""
        sender.join()
    assert (proxy.accepted, proxy.bytes_up, proxy.bytes_down) == (1, len(sent), len(sent) + 4)


def test_cut_resets_what_is_there_and_takes_new_ones(proxy: TcpProxy) -> None:
    with called(proxy) as first, called(proxy) as second:
        assert proxy.open == 2
        proxy.cut()
        for client in (first, second):
            with pytest.raises(ConnectionResetError):
                client.recv(1)
    assert proxy.open == 0
    with called(proxy) as client:
        client.sendall(b"x")
        assert client.recv(1) == b"x"


def test_refuses_new_connections_and_keeps_its_port(proxy: TcpProxy) -> None:
    with called(proxy) as client:
        proxy.refuse()
        for _ in range(3):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), timeout=20.0)
        client.sendall(b"x")
        assert client.recv(1) == b"x"
    proxy.heal()
    called(proxy).close()


def test_half_open_swallows_closes_nothing_and_is_reset_by_healing(proxy: TcpProxy) -> None:
    with called(proxy) as before, called(proxy) as idle:
        proxy.half_open()
        before.sendall(b"lost")
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=20.0) as after:
            after.sendall(b"lost")
            after.shutdown(socket.SHUT_WR)
            for client in (before, after):
                client.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    client.recv(1)
                client.settimeout(20.0)
            while proxy.swallowed < 8:
                time.sleep(0.01)
            proxy.heal()
            for client in (before, after):
                with pytest.raises(ConnectionResetError):
                    client.recv(1)
        idle.sendall(b"x")  # this one has lost nothing
        assert idle.recv(1) == b"x"


def test_half_open_hides_the_death_of_the_other_side() -> None:
    with TcpProxy([]) as proxy, socket.create_server(("127.0.0.1", 0)) as server:
        proxy.targets = [server.getsockname()[1]]
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as client:
            other, _ = server.accept()
            proxy.half_open()
            other.close()
            with pytest.raises(TimeoutError):
                client.recv(1)


def test_delays_by_a_fixed_time_not_by_the_number_of_chunks(proxy: TcpProxy) -> None:
    with called(proxy) as client:
        proxy.delay(0.5)
        start_s = time.monotonic()
        for _ in range(20):
            client.sendall(b"x" * 1000)
            time.sleep(0.01)
        assert heard(client, 20_000) == b"x" * 20_000
        assert 1.0 <= time.monotonic() - start_s < 10.0  # there and back; one after the other it would be 20 s
        proxy.delay(600.0)
        client.sendall(b"y")
        proxy.heal()
        assert client.recv(1) == b"y"


def test_throttles_by_bytes_per_second(proxy: TcpProxy) -> None:
    with called(proxy) as client:
        proxy.throttle(20_000)
        start_s = time.monotonic()
        client.sendall(b"x" * 10_000)
        assert heard(client, 10_000) == b"x" * 10_000
        assert time.monotonic() - start_s >= 0.5
        proxy.throttle(1)
        client.sendall(b"y" * 10_000)
        proxy.heal()
        assert heard(client, 10_000) == b"y" * 10_000


def test_passes_over_targets_that_do_not_answer_and_takes_turns() -> None:
    with echo(b"A") as first, echo(b"B") as second, socket.socket() as dead:
        dead.bind(("127.0.0.1", 0))
        with TcpProxy([dead.getsockname()[1], first.port, second.port]) as proxy:
            for greeting in (b"A", b"B", b"A", b"B"):
                called(proxy, greeting=greeting).close()


def test_resets_a_connection_for_which_no_target_answers() -> None:
    with TcpProxy([]) as proxy:
        with (
            pytest.raises(ConnectionResetError),
            socket.create_connection(("127.0.0.1", proxy.port), timeout=20.0) as client,
        ):
            client.recv(1)
        assert proxy.accepted == 1


def test_closing_twice_does_nothing(proxy: TcpProxy) -> None:
    proxy.close()
    proxy.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=20.0)
