"""How full the spool is, how fast it fills, and when somebody must be told."""

import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum

import structlog

_log = structlog.get_logger(__name__)

#: Share of the bound at which the alarm is raised: with the default bound, half an hour of reads at full load.
ALARM_SHARE = 0.8

#: Share below which the alarm ends: apart from the other, so that a spool that hovers there is not told of each time.
CALM_SHARE = 0.7

#: Time over which the present rate is measured, seconds.
RATE_OVER_S = 60.0


class Level(StrEnum):
    """How full the spool is."""

    CALM = "calm"
    FILLING = "filling"
    FULL = "full"


class Gauge:
    """Watches the bytes in a spool and raises the alarm, once for each change of level.

    Parameters
    ----------
    max_bytes : int
        The bound.
    clock : callable
        Seconds, never going back.
    """

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._samples: deque[tuple[float, int]] = deque()
        self.level = Level.CALM

    def show(self, used_bytes: int) -> None:
        """Say how many bytes are used now."""
        now = self._clock()
        self._samples.append((now, used_bytes))
        while len(self._samples) > 2 and self._samples[1][0] <= now - RATE_OVER_S:
            self._samples.popleft()
        share = used_bytes / self._max_bytes
        if share < CALM_SHARE and self.level is not Level.CALM:
            self.level = Level.CALM
            _log.info("the spool has room again", used_bytes=used_bytes, max_bytes=self._max_bytes)
        elif share >= ALARM_SHARE and self.level is Level.CALM:
            self.level = Level.FILLING
            _log.error(
                "the spool fills up: store or bus do not keep up with the detectors",
                used_bytes=used_bytes,
                max_bytes=self._max_bytes,
                minutes_left=self.minutes_left(),
            )

    def block(self, used_bytes: int, why: str) -> None:
        """Say that an entry has to wait for room, and why."""
        if self.level is not Level.FULL:
            self.level = Level.FULL
            _log.error(
                "the spool takes nothing: reads wait at the detectors until there is room, none is dropped",
                why=why,
                used_bytes=used_bytes,
                max_bytes=self._max_bytes,
            )

    def minutes_left(self) -> float | None:
        """Minutes until the spool is full at the present rate; None while it does not grow."""
        if not self._samples:
            return None
        (then, before), (now, used_bytes) = self._samples[0], self._samples[-1]
        if used_bytes <= before or now <= then:
            return None
        rate = (used_bytes - before) / (now - then)
        return round((self._max_bytes - used_bytes) / rate / 60.0, 1)
