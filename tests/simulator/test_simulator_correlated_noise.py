"""Noise that all outputs share: its strength, its spectrum, and where in the image each moment of it is."""

import numpy as np

from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType, SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.simulator.correlated_noise import CorrelatedNoise
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.exposure import expose


def test_it_has_the_power_of_one_over_f_and_every_channel_its_strength() -> None:
    noise, shape = CorrelatedNoise(rms_dn=5.0, overhead_ticks=0), (256, 128)
    strength = noise.strength(shape[1], 1, "of a test")
    assert strength.shape == (2,)
    planes = np.stack([noise.plane(shape, strength, "read", k) for k in range(100)])
    left, right = planes[:, :, :64] / strength[0], planes[:, :, 64:] / strength[1]
    np.testing.assert_allclose(right[:, :, ::-1], left, atol=1e-12)  # the second channel is mirrored
    assert abs(np.sqrt(np.mean(left**2)) - 5.0) < 0.5
    series = left.reshape(100, -1)
    fading = np.sin(np.pi * (np.arange(series.shape[1]) + 0.5) / series.shape[1])
    power = np.mean(np.abs(np.fft.rfft(series * fading)) ** 2, axis=0)
    low, high = power[10:20].mean(), power[1000:2000].mean()  # a factor of 100 in frequency, on average
    assert 80 < low / high < 125


def test_a_read_has_it_in_science_and_reference_pixels_alike() -> None:
    detector = DetectorTruth(Detector.IMG1, (128, 128), seed=3)
    sampling = Sampling(mode=SamplingMode.UTR, reads=2, ramps=1, read_time_s=0.72, shape=detector.shape)
    exposure = ExposureId("2034B-007-123", Detector.IMG1, ExposureType.DRK, 1)
    noise, dark = CorrelatedNoise(rms_dn=200.0), np.zeros(detector.shape, np.float32)
    quiet, noisy = (
        [read.pixels.astype(float) for read in expose(detector, dark, sampling, exposure, 5, 0.0, chosen)]
        for chosen in (None, noise)
    )
    strength = noise.strength(128, detector.seed, detector.detector)
    for k in (0, 1):
        true = noise.plane(detector.shape, strength, 5, exposure, 1, k + 1)
        np.testing.assert_allclose(noisy[k] - quiet[k], true, atol=1.01)  # both are rounded
        assert true.std() > 50
