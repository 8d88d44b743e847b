"""An exposure of one detector: what light falls on it, and its reads, one after another."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.identifiers import ExposureId
from irisdrs.shared.observation import Sampling
from irisdrs.simulator.correlated_noise import CorrelatedNoise
from irisdrs.simulator.cosmic_rays import RATE_PER_CM2_S, tracks
from irisdrs.simulator.detector import BEND, DetectorTruth, fill_border
from irisdrs.simulator.electronics import collect, digitise
from irisdrs.simulator.projection import Pointing, to_pixels
from irisdrs.simulator.psf import star_image
from irisdrs.simulator.sky import StarField, sky_electrons, star_electrons
from irisdrs.simulator.variates import generator, stream_key

#: Change of the pedestal from read to read, standard deviations in DN: of the whole detector, between output channels,
#: between odd and even columns of a channel. Assumed.
DRIFT_DN, CHANNEL_DRIFT_DN, PARITY_DRIFT_DN = 5.0, 3.0, 1.0
#: Standard deviation of the telescope's pointing in each direction, unknown to the headers, arcsec. Assumed.
POINTING_ERROR_ARCSEC = 0.05


@dataclass(frozen=True, slots=True)
class Scene:
    """What a detector looks at.

    Attributes
    ----------
    field : StarField
    pointing : Pointing
        Where the instrument axis truly points (see `true_pointing`).
    filter : str
        Key of instrument.FILTERS.
    """

    field: StarField
    pointing: Pointing
    filter: str


@dataclass(frozen=True, slots=True)
class Read:
    """One non-destructive read: ramp and read, both from 1, and counts in DN, (ny, nx)."""

    ramp: int
    read: int
    pixels: NDArray[np.uint16]


def true_pointing(commanded: Pointing, seed: int, observation: str, number: int) -> Pointing:
    """The commanded pointing of an exposure with its error, the same for all detectors of the exposure."""
    random = generator(seed, "pointing", observation, number)
    east, north = POINTING_ERROR_ARCSEC * random.standard_normal(2)
    return commanded.offset(float(east), float(north))


def light(detector: DetectorTruth, scene: Scene) -> NDArray[np.float32]:
    """Expected electrons per second of a perfect detector, (ny, nx): sky and stars, also outside the frame."""
    image = np.full(detector.shape, sky_electrons(scene.filter), np.float32)
    x, y = to_pixels(scene.pointing, detector.detector, detector.shape, scene.field.ra_deg, scene.field.dec_deg)
    electrons = star_electrons(scene.field.magnitude, scene.filter)
    psf = star_image(scene.filter)
    margin = psf.reach(electrons)
    rows, columns = detector.shape
    touches = (x > -margin) & (x < columns + margin) & (y > -margin) & (y < rows + margin)
    psf.add_stars(image, x[touches], y[touches], electrons[touches])
    return image


def electron_rate(detector: DetectorTruth, scene: Scene) -> NDArray[np.float32]:
    """Expected electrons per second in each pixel, (ny, nx): light times flat, and dark; none in reference pixels."""
    rate = light(detector, scene)
    rate *= detector.flat()
    rate += detector.dark()
    fill_border(rate, 0.0)
    return rate


def expose(
    detector: DetectorTruth,
    rate: NDArray[np.float32],
    sampling: Sampling,
    exposure: ExposureId,
    seed: int,
    cosmic_rays_per_cm2_s: float = RATE_PER_CM2_S,
    correlated_noise: CorrelatedNoise | None = None,
) -> Iterator[Read]:
    """Take the reads of an exposure, ramp by ramp.

    The electrons of an interval are added to those of the intervals before; each ramp begins with a reset. Read k
    (from 1) of a ramp ends k read times after the reset. The reads depend on nothing but the arguments.

    Parameters
    ----------
    detector : DetectorTruth
    rate : (ny, nx)
        From `electron_rate`, electrons/s.
    sampling : Sampling
    exposure : ExposureId
        Names the random streams.
    seed : int
        Of the night.
    cosmic_rays_per_cm2_s : float
    correlated_noise : CorrelatedNoise, optional
        Of the electronics.

    Yields
    ------
    Read
        With an array of its own.
    """
    full_well, strength, read_noise = detector.full_well(), detector.bend_strength(), detector.read_noise()
    gain, pedestal = detector.gain(), detector.pedestal()
    for ramp in range(1, sampling.ramps + 1):
        electrons = np.zeros(detector.shape, np.float32)
        for read in range(1, sampling.reads + 1):
            names = (seed, exposure, ramp, read)
            collect(electrons, rate, full_well, sampling.read_time_s, stream_key(*names, "photons"))
            hits = tracks(detector.shape, sampling.read_time_s, generator(*names, "rays"), cosmic_rays_per_cm2_s)
            np.add.at(electrons, hits[:2], hits[2])
            np.minimum(electrons, full_well, out=electrons)
            drift = generator(*names, "drift")
            common = DRIFT_DN * drift.standard_normal()
            offset = pedestal + detector.by_channel_and_parity(drift, common, CHANNEL_DRIFT_DN, PARITY_DRIFT_DN)
            offset = offset[np.newaxis]
            if correlated_noise is not None:
                felt = correlated_noise.strength(detector.shape[1], detector.seed, detector.detector)
                offset = offset + correlated_noise.plane(detector.shape, felt, *names)
            pixels = np.empty(detector.shape, np.uint16)
            digitise(electrons, strength, read_noise, BEND, gain, offset, stream_key(*names, "noise"), pixels)
            yield Read(ramp, read, pixels)
