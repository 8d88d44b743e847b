"""The true properties of a detector, pixel by pixel.

Every property is a function of the seed, the detector's name and the pixel, so a plane is made when it is wanted and
given up afterwards: four detectors of 4096 x 4096 pixels would otherwise fill gigabytes. All magnitudes of scatter and
defects are assumed, typical of HAWAII-4RG arrays.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import (
    ADC_MAX_DN,
    DARK_E_S,
    FULL_WELL_E,
    GAIN,
    READ_NOISE_E,
    REFERENCE_PIXEL_BORDER,
    channel_width,
)
from irisdrs.shared.quality import Quality
from irisdrs.simulator.electronics import fill_measured_dn
from irisdrs.simulator.variates import generator, normal_plane, stream_key, uniform_plane

Plane = NDArray[np.float32]

#: a_i of the mean pixel less those of a linear one: y - x = sum a_i x**i is 0.2 % at low counts, 5 % at 60 000 DN.
BEND = np.array([0.0, 0.002, 0.02 / 6e4, 0.015 / 6e4**2, 0.008 / 6e4**3, 0.005 / 6e4**4])
#: Shares of dead and hot pixels, and of unstable reference pixels with so many times the usual noise.
DEAD_SHARE, HOT_SHARE, BAD_REFERENCE_SHARE, BAD_REFERENCE_NOISE = 2e-4, 3e-4, 2e-3, 20.0
#: Dark rate of hot pixels, from and to, electrons/s (uniform in its logarithm).
HOT_E_S = (5.0, 200.0)
#: Standard deviations relative to the mean: pixel response, gain between channels, read noise, dark, full well, bend.
RESPONSE_SCATTER, GAIN_SCATTER, NOISE_SCATTER, DARK_SCATTER, WELL_SCATTER, BEND_SCATTER = (
    0.01,
    0.01,
    0.05,
    0.2,
    0.02,
    0.08,
)
#: Large-scale response, relative, from the middle to an edge.
VIGNETTING = 0.03
#: Pedestal of the channels, its standard deviation between them, and between odd and even columns, DN.
PEDESTAL_DN, PEDESTAL_SCATTER_DN, PARITY_SCATTER_DN = 4000.0, 150.0, 20.0
#: A pixel counts as saturated from this share of its full well on, far enough below it that noise cannot hide it.
SATURATED_SHARE = 0.97


@dataclass(frozen=True, slots=True)
class DetectorTruth:
    """One detector, known exactly.

    Attributes
    ----------
    detector : Detector
    shape : (rows, columns)
        Multiples of 64.
    seed : int
        Of the instrument; the detectors of one seed differ by their names.

    Raises
    ------
    ValueError
        If the shape is not of whole output channels.
    """

    detector: Detector
    shape: tuple[int, int]
    seed: int = 0

    def __post_init__(self) -> None:
        if any(size < 64 or size % 64 for size in self.shape):
            raise ValueError(f"a frame has a multiple of 64 rows and columns, at least 64, not {self.shape}")

    def gain(self) -> NDArray[np.float64]:
        """Gain of each column's output channel, (nx,), e-/DN; exactly representable in float32."""
        channels = self.shape[1] // channel_width(self.shape[1])
        values = GAIN * (1.0 + GAIN_SCATTER * generator(*self._names, "gain").standard_normal(channels))
        return np.repeat(values.astype(np.float32).astype(np.float64), channel_width(self.shape[1]))

    def pedestal(self) -> NDArray[np.float64]:
        """Mean pedestal of each column: its channel's, and odd or even, (nx,), DN."""
        return self.by_channel_and_parity(
            generator(*self._names, "pedestal"), PEDESTAL_DN, PEDESTAL_SCATTER_DN, PARITY_SCATTER_DN
        )

    def by_channel_and_parity(
        self, random: np.random.Generator, mean: float, between_channels: float, between_parities: float
    ) -> NDArray[np.float64]:
        """One number per column, (nx,), that the odd (or even) columns of an output channel have in common."""
        columns = np.arange(self.shape[1])
        channel, parity = columns // channel_width(columns.size), columns % 2
        count = int(channel[-1]) + 1
        of_channel = between_channels * random.standard_normal(count)
        of_parity = between_parities * random.standard_normal((count, 2))
        return np.asarray(mean + of_channel[channel] + of_parity[channel, parity])

    def read_noise(self) -> Plane:
        """Standard deviation of one read, (ny, nx), DN."""
        noise = 1.0 + NOISE_SCATTER * self._scatter("read noise", 4.0)
        noise *= (READ_NOISE_E / self.gain()).astype(np.float32)
        noise[(self.quality() & Quality.BAD_REF_PIXEL) != 0] *= BAD_REFERENCE_NOISE
        return noise

    def flat(self) -> Plane:
        """Response to light relative to the median pixel, (ny, nx); 0 in dead pixels, 1 in reference pixels."""
        rows, columns = (np.linspace(-1.0, 1.0, size, dtype=np.float32) for size in self.shape)
        flat = 1.0 + RESPONSE_SCATTER * self._scatter("response", 5.0)
        flat *= 1.0 - np.float32(VIGNETTING / 2) * (rows[:, np.newaxis] ** 2 + columns**2)
        flat /= np.median(flat)
        flat[(self.quality() & Quality.DEAD) != 0] = 0.0
        fill_border(flat, 1.0)
        return flat

    def dark(self) -> Plane:
        """Dark current, (ny, nx), electrons/s; none in reference pixels."""
        dark = DARK_E_S * (1.0 + DARK_SCATTER * self._scatter("dark", 4.0))
        chance = self._chance()
        hot = (chance >= DEAD_SHARE) & (chance < DEAD_SHARE + HOT_SHARE)
        share = (chance[hot] - DEAD_SHARE) / HOT_SHARE
        dark[hot] = HOT_E_S[0] * (HOT_E_S[1] / HOT_E_S[0]) ** share
        fill_border(dark, 0.0)
        return dark

    def quality(self) -> NDArray[np.uint32]:
        """Flags of the pixels, (ny, nx): dead, hot, reference, unstable reference."""
        chance = self._chance()
        flags = np.zeros(self.shape, np.uint32)
        flags[chance < DEAD_SHARE + HOT_SHARE] = Quality.HOT | Quality.DO_NOT_USE
        flags[chance < DEAD_SHARE] = Quality.DEAD | Quality.DO_NOT_USE
        fill_border(flags, Quality.REFERENCE_PIXEL | Quality.NON_SCIENCE)
        unstable = (chance < BAD_REFERENCE_SHARE) & ((flags & Quality.REFERENCE_PIXEL) != 0)
        flags[unstable] |= np.uint32(Quality.BAD_REF_PIXEL | Quality.DO_NOT_USE)
        return flags

    def full_well(self) -> Plane:
        """Electrons that a pixel holds at most, (ny, nx), a whole number."""
        return np.asarray(np.floor(FULL_WELL_E * (1.0 + WELL_SCATTER * self._scatter("full well", 3.0))))

    def bend_strength(self) -> Plane:
        """How strongly each pixel's response bends relative to `BEND`, (ny, nx)."""
        return np.asarray(1.0 + BEND_SCATTER * self._scatter("bend", 4.0))

    def linearity(self) -> NDArray[np.float32]:
        """a_0 .. a_5 of y = sum a_i x**i, (6, ny, nx): x is DN above the pedestal, y proportional to the electrons."""
        strength = self.bend_strength()
        coefficients = np.empty((BEND.size, *self.shape), np.float32)
        for power, bend in enumerate(BEND):
            coefficients[power] = float(power == 1) + strength.astype(np.float64) * bend
        return coefficients

    def saturation(self) -> Plane:
        """Raw count, pedestal included, from which on a pixel is saturated, (ny, nx), DN, a whole number."""
        counts = np.empty(self.shape, np.float32)
        level = (SATURATED_SHARE * self.full_well() / self.gain()).astype(np.float32)
        fill_measured_dn(level, self.bend_strength(), BEND, counts)
        counts += self.pedestal().astype(np.float32)
        return np.minimum(np.floor(counts), np.float32(ADC_MAX_DN), out=counts)

    @property
    def _names(self) -> tuple[object, ...]:
        return self.seed, "detector", self.detector

    def _scatter(self, name: str, limit: float) -> Plane:
        plane = normal_plane(stream_key(*self._names, name), self.shape)
        np.clip(plane, -limit, limit, out=plane)
        return plane

    def _chance(self) -> Plane:
        return uniform_plane(stream_key(*self._names, "defects"), self.shape)


def fill_border(plane: NDArray[np.float32] | NDArray[np.uint32], value: float) -> None:
    """Set the reference pixels, in place."""
    border = REFERENCE_PIXEL_BORDER
    plane[:border] = plane[-border:] = value
    plane[:, :border] = plane[:, -border:] = value
