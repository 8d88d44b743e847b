"""A bad line between the edge and the bus: events are lost, repeated and come in another order."""

from collections.abc import Sequence

from irisdrs.shared.edge.drain import Tell
from irisdrs.shared.events.event import Event
from irisdrs.simulator.variates import generator


class BadLine:
    """Passes events on as a bad line would.

    Parameters
    ----------
    tell : Tell
        The good line behind it.
    seed : int
    drop, repeat : float
        Shares of the events that are lost, and that come twice.
    window : int
        Events that are held back and then come in any order.
    """

    def __init__(self, tell: Tell, seed: int, *, drop: float, repeat: float, window: int) -> None:
        self._tell, self._drop, self._repeat, self._window = tell, drop, repeat, window
        self._random = generator(seed, "bad line")
        self._held: list[Event] = []
        self.dropped, self.repeated = 0, 0

    async def tell(self, events: Sequence[Event]) -> None:
        """Tell events, more or less."""
        for event in events:
            if self._random.random() < self._drop:
                self.dropped += 1
                continue
            self._held.append(event)
            if self._random.random() < self._repeat:
                self.repeated += 1
                self._held.append(event)
        if len(self._held) >= self._window:
            await self.flush()

    async def flush(self) -> None:
        """Pass on what is held back."""
        order = self._random.permutation(len(self._held))
        held, self._held = self._held, []
        await self._tell([held[position] for position in order])
