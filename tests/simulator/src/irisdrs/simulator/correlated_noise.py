"""Noise of the electronics that all output channels feel at once, in the order of time, each with its own strength."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.instrument import CHANNEL_MIRRORED, channel_width
from irisdrs.simulator.variates import generator


@dataclass(frozen=True, slots=True)
class CorrelatedNoise:
    """1/f noise, its power inversely proportional to frequency from one read down to one tick of the clock.

    Attributes
    ----------
    rms_dn : float
        Standard deviation where the strength is 1, DN.
    strength_scatter : float
        Of the channels' strengths around 1, standard deviation.
    overhead_ticks : int
        Of the clock at the end of each row, when no pixel is read.
    """

    rms_dn: float
    strength_scatter: float = 0.1
    overhead_ticks: int = 4

    def strength(self, columns: int, *names: object) -> NDArray[np.float64]:
        """How strongly each channel of a detector feels it, (channels,)."""
        channels = columns // channel_width(columns)
        return 1.0 + self.strength_scatter * generator(*names, "noise strength").standard_normal(channels)

    def plane(self, shape: tuple[int, int], strength: NDArray[np.float64], *names: object) -> NDArray[np.float64]:
        """The noise in one read, (ny, nx), DN; pixels of a mirrored channel are read from right to left."""
        rows, columns = shape
        width = channel_width(columns)
        in_time = self._series(rows * (width + self.overhead_ticks), generator(*names, "correlated noise"))
        by_tick = in_time.reshape(rows, width + self.overhead_ticks)[:, :width]
        return np.hstack(
            [
                factor * (by_tick[:, ::-1] if mirrored else by_tick)
                for factor, mirrored in zip(strength, CHANNEL_MIRRORED, strict=False)
            ]
        )

    def _series(self, ticks: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Cut from a series four times as long: noise does not end where it began."""
        frequency = np.fft.rfftfreq(4 * ticks)
        amplitude = np.concatenate([[0.0], frequency[1:] ** -0.5])
        phases = random.standard_normal(frequency.size) + 1j * random.standard_normal(frequency.size)
        whole = np.fft.irfft(amplitude * phases, 4 * ticks)
        expected = np.sqrt(2 * np.sum(2 * amplitude**2)) / (4 * ticks)
        return np.asarray(whole[:ticks] * (self.rms_dn / expected))
