"""Confirmed publishing on RabbitMQ."""

import asyncio

import structlog
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import DeliveryError, PublishError
from tenacity import AsyncRetrying, RetryError, retry_if_exception_type, stop_after_delay, wait_exponential

from irisdrs.shared.bus.line import Line, close
from irisdrs.shared.bus.port import BusOutage, Unroutable

_log = structlog.get_logger(__name__)

#: Longest that a publication may stay unconfirmed, seconds. A cluster that elects a new leader needs less.
CONFIRM_S = 30.0

#: After so many refusals in a row (some 1.5 s) a message is sent over a new channel: one that was refused while a
#: cluster elected a leader, or while a queue was full, can stay refused.
_NEW_CHANNEL_AFTER = 6


class Publisher:
    """Publishes on a line, on one channel, which is opened anew when it was closed.

    Parameters
    ----------
    line : Line
    """

    def __init__(self, line: Line) -> None:
        self._line = line
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Connect.

        Raises
        ------
        BusOutage, Fatal, TopologyConflict
            See `Line.channel`.
        """
        await self._open()

    async def send(self, exchange: str, key: str, message: Message, *, mandatory: bool) -> None:
        """Publish and wait for the confirmation; a refused message is sent again.

        Raises
        ------
        Unroutable
            If it is mandatory and no queue takes it.
        BusOutage
            If the broker is away, or did not confirm within `CONFIRM_S`.
        """
        try:
            return await self._send_once(exchange, key, message, mandatory=mandatory)
        except _Refused:
            _log.warning("the broker has refused a message, sending it again", key=key)
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(_Refused),
            wait=wait_exponential(0.05, max=2.0),
            stop=stop_after_delay(CONFIRM_S),
        )
        try:
            async for attempt in retrying:
                with attempt:
                    if attempt.retry_state.attempt_number % _NEW_CHANNEL_AFTER == 0:
                        await self._leave_channel()
                    await self._send_once(exchange, key, message, mandatory=mandatory)
        except RetryError as error:
            await self._leave_channel()
            raise BusOutage(
                f"RabbitMQ at {self._line.where} does not take messages with the key {key}.",
                remedy="Is a queue full, or a cluster without a majority?",
            ) from error

    async def _leave_channel(self) -> None:
        """Let the next publication open a new channel; those that wait on this one are told that it is cut off."""
        refused, self._channel = self._channel, None
        if refused is not None:
            await close(refused)

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._line.channel(confirms=True)
            return self._channel

    async def _send_once(self, exchange: str, key: str, message: Message, *, mandatory: bool) -> None:
        channel = await self._open()
        with self._line.errors():
            underlay = await channel.get_underlay_channel()
            try:
                await underlay.basic_publish(
                    message.body,
                    exchange=exchange,
                    routing_key=key,
                    properties=message.properties,
                    mandatory=mandatory,
                    timeout=CONFIRM_S,
                )
            except PublishError as error:
                raise Unroutable(
                    f"No queue takes {key}.", remedy="Does the broker have the bindings of `iris topology`?"
                ) from error
            except DeliveryError as error:
                raise _Refused from error


class _Refused(Exception):
    """The broker has answered a publication with a nack."""
