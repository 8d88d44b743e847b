"""One line to a RabbitMQ server: connects when it is needed, and says what is wrong in the words of the bus port."""

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from urllib.parse import unquote, urlsplit

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelPreconditionFailed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from aiormq.exceptions import ChannelAccessRefused
from pamqp.exceptions import PAMQPException

from irisdrs.shared.bus.declarations import EXCHANGES, bindings, declared_queues
from irisdrs.shared.bus.port import BusOutage, TopologyConflict
from irisdrs.shared.bus.topology import Queue
from irisdrs.shared.errors import Fatal

_log = structlog.get_logger(__name__)

#: Longest wait for a connection or for an answer of the broker, seconds.
ANSWER_S = 10.0

#: Longest silence that broker and client agree on, seconds. The broker gives a line up after two of them, the client
#: library after three and 3 s.
HEARTBEAT_S = 10

#: What the client library raises when the line is cut or was cut before, plain RuntimeErrors among it.
_CUT = (AMQPError, PAMQPException, OSError, RuntimeError)


class Line:
    """A connection to the broker, made anew when it is needed and was cut.

    Publishing and consuming have a line each: a broker that runs out of memory stops reading from publishers, and
    must go on to read acknowledgements.

    Parameters
    ----------
    url : str
        AMQP URL with user, password and virtual host.
    name : str
        How the broker's people see the connection.
    queues : sequence of Queue
        Rows of the table that are declared on each new connection.
    """

    def __init__(self, url: str, name: str, queues: Sequence[Queue]) -> None:
        parts = urlsplit(url)
        self.where = (
            f"{parts.hostname}:{parts.port or 5672}, virtual host {unquote(parts.path.removeprefix('/')) or '/'!r}"
        )
        self._url, self._name, self._queues = url, name, queues
        self._user = parts.username or "guest"
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    async def channel(self, *, confirms: bool = False) -> AbstractChannel:
        """A new channel.

        Raises
        ------
        BusOutage
            If the broker does not answer.
        Fatal
            If it refuses us.
        TopologyConflict
            If what it has is not what the table says.
        """
        with self.errors():
            async with self._lock:
                if self._connection is None or not self._connection.connected.is_set():
                    await self.close()
                    self._connection = await self._connect()
            channel = self._connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
            await channel.initialize(timeout=ANSWER_S)
            return channel

    async def declare(self, *queues: Queue) -> None:
        """Declare rows of the table with their bindings; what is there already stays as it is.

        Raises
        ------
        BusOutage, Fatal, TopologyConflict
            See `channel`.
        """
        channel = await self.channel()
        with self.errors():
            await self._declare(channel, queues)
            await channel.close()

    async def close(self) -> None:
        """Close the connection; what consumers held goes back to its queues."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            with contextlib.suppress(*_CUT):
                await connection.close()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client library's errors into the port's."""
        try:
            yield
        except (AuthenticationError, ProbableAuthenticationError) as error:
            raise Fatal(
                f"RabbitMQ at {self.where} refuses the user {self._user!r} or the password.",
                remedy="Set both in IRIS_AMQP_URL: amqp://user:password@host:port/vhost.",
            ) from error
        except InvalidFrameError as error:  # so the client library reports a connection that the broker refuses to open
            refusal = getattr(error.args[0], "reply_text", None) if error.args else None
            raise Fatal(
                f"RabbitMQ at {self.where} does not let the user {self._user!r} in: {refusal or error}.",
                remedy="Make the virtual host and give the user its rights, or name another in IRIS_AMQP_URL.",
            ) from error
        except ChannelAccessRefused as error:
            raise Fatal(
                f"RabbitMQ at {self.where} gives the user {self._user!r} too few rights: {error}.",
                remedy="Let the user configure, write and read in the virtual host.",
            ) from error
        except asyncio.CancelledError as error:
            # The client library cancels its reader when heartbeats stop, and hands that on to who waits for an answer.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise self._outage("heartbeats have stopped") from error
        except _CUT as error:
            raise self._outage(str(error) or type(error).__name__) from error

    def _outage(self, reason: str) -> BusOutage:
        return BusOutage(
            f"RabbitMQ at {self.where} does not answer ({reason}).",
            remedy="Is it running? IRIS_AMQP_URL says where it is looked for.",
        )

    async def _connect(self) -> AbstractConnection:
        connection = await aio_pika.connect(
            self._url, timeout=ANSWER_S, client_properties={"connection_name": self._name}, heartbeat=HEARTBEAT_S
        )
        try:
            channel = await connection.channel(publisher_confirms=False)
            for name, kind in EXCHANGES.items():
                await channel.declare_exchange(name, kind, durable=True, timeout=ANSWER_S)
            await self._declare(channel, self._queues)
            await channel.close()
        except BaseException:
            await connection.close()
            raise
        _log.info("connected to RabbitMQ", where=self.where, line=self._name)
        return connection

    async def _declare(self, channel: AbstractChannel, queues: Sequence[Queue]) -> None:
        underlay = await channel.get_underlay_channel()
        try:
            for queue in queues:
                for one in declared_queues(queue):
                    arguments = dict(one.arguments)
                    await underlay.queue_declare(one.name, durable=True, arguments=arguments, timeout=ANSWER_S)
                for binding in bindings(queue):
                    await underlay.queue_bind(binding.queue, binding.exchange, binding.key, timeout=ANSWER_S)
        except ChannelPreconditionFailed as error:
            raise TopologyConflict(
                f"RabbitMQ at {self.where} has something else than the topology says: {error}.",
                remedy="Compare with `iris topology`; drain and delete what differs, then start again.",
            ) from error


async def close(channel: AbstractChannel) -> None:
    """Close a channel; one that is cut off is closed already."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(ANSWER_S):
            await channel.close()
