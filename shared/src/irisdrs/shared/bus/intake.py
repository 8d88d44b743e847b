"""Tell events to an embedded system in another process of this machine, over loopback HTTP."""

from collections.abc import Sequence

import httpx
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_exponential

from irisdrs.shared.errors import BadMessage, Outage
from irisdrs.shared.events.envelope import CONTENT_TYPE, encode
from irisdrs.shared.events.event import Event

#: Longest wait for a system that is starting or restarting, seconds.
PATIENCE_S = 60.0


class EventIntake:
    """The client of `irisdrs.shared.embedded.web_application`'s event intake.

    Parameters
    ----------
    url : str
        Where `iris up` answers, e.g. ``http://127.0.0.1:8080``.
    source : str
        Name of the teller.
    """

    def __init__(self, url: str, source: str) -> None:
        self._url, self._source = url, source
        self._client = httpx.AsyncClient(timeout=30.0, trust_env=False)

    @retry(
        retry=retry_if_exception_type(Outage),
        wait=wait_exponential(0.1, max=5.0),
        stop=stop_after_delay(PATIENCE_S),
        reraise=True,
    )
    async def tell(self, events: Sequence[Event]) -> None:
        """Tell events, in order; telling one twice does no harm.

        Raises
        ------
        Outage
            If the system did not answer for `PATIENCE_S`.
        BadMessage
            If it refused an event.
        """
        await self.tell_now(events)

    async def tell_now(self, events: Sequence[Event]) -> None:
        """As `tell`, without patience: for a teller that waits by itself."""
        for event in events:
            try:
                answer = await self._client.post(
                    f"{self._url}/bus/events",
                    content=encode(event, self._source),
                    headers={"content-type": CONTENT_TYPE},
                )
            except httpx.TransportError as error:
                raise Outage(
                    f"Nobody takes events at {self._url} ({error}).", remedy="Start the system with `iris up`."
                ) from error
            if answer.status_code >= 500:
                raise Outage(f"{self._url} answers {answer.status_code} to an event.", remedy="Look into its log.")
            if answer.is_error:
                raise BadMessage(f"{self._url} refused {event.told_as}: {answer.text}")

    async def close(self) -> None:
        """Close the connection."""
        await self._client.aclose()
