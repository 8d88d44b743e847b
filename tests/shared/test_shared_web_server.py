"""The web server of every service."""

import socket

from irisdrs.shared.web_server import _listening


def test_an_answer_is_not_held_back_until_the_client_has_acknowledged_its_header() -> None:
    # Header and body are two writes: without TCP_NODELAY the second waits 40 ms for a delayed acknowledgement, and
    # asyncio does not set it on connections of a listener whose protocol number is 0.
    with _listening("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        connection, _ = listener.accept()
        with connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
