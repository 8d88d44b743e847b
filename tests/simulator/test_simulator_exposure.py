"""Reads against the truth, by nothing but NumPy."""

from pathlib import Path

import numba
import numpy as np
import pytest
from astropy.wcs import WCS
from numpy.typing import NDArray

from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType, SamplingMode
from irisdrs.shared.observation import Sampling
from irisdrs.shared.quality import Quality
from irisdrs.simulator.cosmic_rays import tracks
from irisdrs.simulator.detector import BEND, DetectorTruth, Plane
from irisdrs.simulator.electronics import collect, digitise
from irisdrs.simulator.exposure import (
    CHANNEL_DRIFT_DN,
    DRIFT_DN,
    PARITY_DRIFT_DN,
    Scene,
    electron_rate,
    expose,
    true_pointing,
)
from irisdrs.simulator.photometry import measure
from irisdrs.simulator.projection import Pointing
from irisdrs.simulator.sky import sky_electrons, star_field
from irisdrs.simulator.truth import read_truth, truth_table, write_truth
from irisdrs.simulator.variates import generator, stream_key

EXPOSURE = ExposureId("2034B-007-123", Detector.IMG1, ExposureType.SCI, 1)
READ_TIME_S = 0.72


def _sampling(shape: tuple[int, int], reads: int = 8, ramps: int = 1) -> Sampling:
    return Sampling(mode=SamplingMode.UTR, reads=reads, ramps=ramps, read_time_s=READ_TIME_S, shape=shape)


def _reads(
    detector: DetectorTruth, rate: Plane, reads: int = 8, ramps: int = 1, seed: int = 5, rays: float = 0.0
) -> NDArray[np.uint16]:
    sampling = _sampling(detector.shape, reads, ramps)
    return np.stack([read.pixels for read in expose(detector, rate, sampling, EXPOSURE, seed, rays)])


def _true_electrons(detector: DetectorTruth, pixels: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Electrons of one read from the definitions: reference pixels per channel and parity, then y = sum a_i x**i."""
    pedestal, quality = detector.pedestal(), detector.quality()
    counts = pixels - pedestal
    border = np.r_[0:4, -4:0]
    stable = (quality[border] & Quality.BAD_REF_PIXEL) == 0
    for channel in range(detector.shape[1] // 64):
        for parity in (0, 1):
            columns = slice(64 * channel + parity, 64 * (channel + 1), 2)
            counts[:, columns] -= counts[border][:, columns][stable[:, columns]].mean()
    return np.polynomial.polynomial.polyval(counts, detector.linearity(), tensor=False) * detector.gain()


def _uniform_rate(shape: tuple[int, int], electrons_s: float) -> Plane:
    rate = np.full(shape, electrons_s, np.float32)
    rate[:4] = rate[-4:] = rate[:, :4] = rate[:, -4:] = 0.0
    return rate


def test_the_variance_of_collected_electrons_equals_their_mean_over_the_ramp() -> None:
    shape = (512, 512)
    electrons, rate = np.zeros(shape, np.float32), np.full(shape, 60.0, np.float32)
    full_well = np.full(shape, 1e6, np.float32)
    previous = electrons.copy()
    for read in range(10):
        collect(electrons, rate, full_well, READ_TIME_S, stream_key("ramp", read))
        assert (electrons >= previous).all()
        previous = electrons.copy()
        assert electrons.var() / electrons.mean() == pytest.approx(1.0, abs=4.5 * np.sqrt(2.0 / electrons.size))
    assert electrons.mean() == pytest.approx(60.0 * 7.2, rel=1e-3)


def test_the_photon_transfer_curve_is_a_line_of_slope_one_after_read_noise_is_taken_away() -> None:
    detector = DetectorTruth(Detector.IMG1, (256, 256), 2)
    good = (detector.quality() == 0) & (np.abs(detector.read_noise() - 9.0) < 3.0)
    noise = (detector.read_noise() * detector.gain())[good]
    for electrons_s in (20.0, 400.0, 4000.0):
        reads = _reads(detector, _uniform_rate(detector.shape, electrons_s), reads=4)
        electrons = _true_electrons(detector, reads[-1])[good]
        mean = electrons.mean()
        bend = 1.0 + np.polynomial.polynomial.polyval(mean, BEND * np.arange(6) / max(mean, 1.0))  # about dy/dx
        variance = electrons.var() - np.mean((noise * bend) ** 2) - bend**2 / 12.0
        assert mean == pytest.approx(electrons_s * 4 * READ_TIME_S, rel=2e-3, abs=1.0)
        assert variance / mean == pytest.approx(1.0, abs=0.05)


def test_reads_accumulate_and_are_not_drawn_anew() -> None:
    detector = DetectorTruth(Detector.IMG2, (256, 256), 2)
    reads = _reads(detector, _uniform_rate(detector.shape, 2000.0), reads=4)
    good = detector.quality() == 0
    first, last = (_true_electrons(detector, read)[good] for read in (reads[2], reads[3]))
    step = last - first
    assert step.mean() == pytest.approx(2000.0 * READ_TIME_S, rel=5e-3)
    # Redrawn counts would differ by the variances of both reads: 7 intervals' worth, not 1 (and twice the read noise).
    assert step.var() == pytest.approx(2000.0 * READ_TIME_S + 2 * 90.0, rel=0.1)


def test_a_ramp_begins_with_a_reset() -> None:
    detector = DetectorTruth(Detector.IMG1, (64, 64), 2)
    reads = _reads(detector, _uniform_rate((64, 64), 1000.0), reads=3, ramps=2)
    levels = [np.median(_true_electrons(detector, read)) for read in reads]
    assert levels == pytest.approx([720.0, 1440.0, 2160.0] * 2, abs=30.0)
    assert not np.array_equal(reads[0], reads[3])
    sampling = _sampling((64, 64), reads=2, ramps=2)
    taken = list(expose(detector, _uniform_rate((64, 64), 1.0), sampling, EXPOSURE, 5))
    assert [(read.ramp, read.read) for read in taken] == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_the_slope_comes_back_after_the_true_coefficients() -> None:
    detector = DetectorTruth(Detector.IMG3, (256, 256), 2)
    good = detector.quality() == 0
    for electrons_s in (50.0, 3000.0, 8000.0):
        reads = _reads(detector, _uniform_rate(detector.shape, electrons_s), reads=8)
        times = READ_TIME_S * np.arange(1, 9)
        electrons = np.stack([_true_electrons(detector, read)[good] for read in reads])
        slope = np.polyfit(times, electrons, 1)[0].mean()
        assert slope == pytest.approx(electrons_s, rel=1e-3, abs=0.3)
        raw = np.polyfit(times, reads[:, good], 1)[0].mean() * detector.gain().mean()
        if electrons_s > 1000.0:
            assert raw < 0.992 * electrons_s  # the reads are not linear


def test_newton_inverts_the_polynomial_to_the_quantisation_step() -> None:
    shape = (64, 64)
    electrons = np.linspace(0.0, 60_000.0, 64 * 64, dtype=np.float32).reshape(shape)
    counts, ones = np.empty(shape, np.uint16), np.ones(64)
    strength = np.full(shape, 1.3, np.float32)
    digitise(electrons, strength, np.zeros(shape, np.float32), BEND, ones, 0.0 * ones[np.newaxis], np.uint64(1), counts)
    coefficients = 1.3 * BEND + np.eye(6)[1]
    assert np.abs(np.polynomial.polynomial.polyval(counts, coefficients) - electrons).max() < 0.7  # half a step x slope


def test_reference_pixels_see_channel_offsets_and_noise_but_no_light() -> None:
    detector = DetectorTruth(Detector.IMG1, (256, 256), 2)
    reads = _reads(detector, _uniform_rate(detector.shape, 5000.0), reads=12).astype(float)
    stable = (detector.quality()[:4] & Quality.BAD_REF_PIXEL) == 0
    excess = np.where(stable, reads[:, :4] - detector.pedestal(), np.nan)
    of_channel = np.nanmean(excess.reshape(12, 4, 4, 64), axis=(1, 3))
    assert np.abs(of_channel).max() < 40.0  # no light: 5000 electrons/s would be 3600 a read
    common = of_channel.mean(axis=1)
    apart = of_channel - common[:, np.newaxis]
    expected = np.hypot(CHANNEL_DRIFT_DN, PARITY_DRIFT_DN / np.sqrt(2.0))
    assert np.sqrt(np.sum(apart**2) / 36.0) == pytest.approx(expected, rel=0.35)  # 36 degrees of freedom: 3 sigma
    assert np.std(common, ddof=1) == pytest.approx(np.hypot(DRIFT_DN, expected / 2.0), rel=0.6)
    top, bottom = reads[1, :4].mean(axis=0), reads[1, -4:].mean(axis=0)
    assert np.corrcoef(top, bottom)[0, 1] > 0.9  # both edges see the pedestals of the same channels


def test_saturation_latches_at_the_full_well_and_the_converter_ends_at_65535() -> None:
    detector = DetectorTruth(Detector.IMG4, (128, 128), 2)
    reads = _reads(detector, _uniform_rate(detector.shape, 40_000.0), reads=6)
    light = np.s_[4:-4, 4:-4]
    above = (reads >= detector.saturation())[:, *light]
    assert not above[0].any()
    assert above[-1].all()
    assert not (above[:-1] & ~above[1:]).any()
    assert reads.max() <= 65535
    assert np.abs(np.diff(reads[3:, *light].astype(float).mean(axis=(1, 2)))).max() < 30.0  # full: only drifts are left


def test_bright_pixels_below_the_threshold_are_still_linear() -> None:
    detector = DetectorTruth(Detector.IMG4, (128, 128), 2)
    reads = _reads(detector, _uniform_rate(detector.shape, 9500.0), reads=8)
    below = (reads[-1] < detector.saturation()) & (detector.quality() == 0)
    electrons = _true_electrons(detector, reads[-1])[below]
    assert below.mean() > 0.5
    assert electrons.mean() == pytest.approx(9500.0 * 8 * READ_TIME_S, rel=5e-3)


def test_the_same_seed_gives_the_same_bits_whatever_the_number_of_threads() -> None:
    detector = DetectorTruth(Detector.IMG1, (128, 128), 2)
    rate = _uniform_rate(detector.shape, 47.0)
    before = numba.get_num_threads()
    taken = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        taken.append(_reads(detector, rate, reads=2, rays=50.0))
    numba.set_num_threads(before)
    assert np.array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], _reads(detector, rate, reads=2, rays=50.0, seed=6))


def test_detectors_differ_and_repeat() -> None:
    one, same, other = (DetectorTruth(name, (64, 64), 2) for name in (Detector.IMG1, Detector.IMG1, Detector.IMG2))
    assert np.array_equal(one.flat(), same.flat())
    assert not np.array_equal(one.flat(), other.flat())
    assert np.median(DetectorTruth(Detector.IMG1, (512, 512)).flat()) == pytest.approx(1.0, abs=1e-3)
    with pytest.raises(ValueError, match="multiple of 64"):
        DetectorTruth(Detector.IMG1, (100, 64))


def test_cosmic_rays_come_at_their_rate_and_leave_reference_pixels_alone() -> None:
    random = generator("rays")
    shape, seconds, per_cm2 = (1024, 1024), 1.0, 50.0
    area_cm2 = (1024 * 10e-4) ** 2
    rows, columns, electrons = tracks(shape, seconds, random, per_cm2)
    expected = per_cm2 * area_cm2
    assert min(rows.min(), columns.min()) >= 4
    assert max(rows.max(), columns.max()) < 1020
    assert 0.5 * expected * 6000.0 < electrons.sum() < 3.0 * expected * 6000.0  # some 6000 electrons or more each
    assert tracks(shape, seconds, random, 0.0)[2].size == 0


def test_a_cosmic_ray_is_a_step_that_stays() -> None:
    detector = DetectorTruth(Detector.IMG1, (256, 256), 2)
    rate = _uniform_rate(detector.shape, 0.0)
    reads = _reads(detector, rate, reads=5, rays=300.0).astype(float) - detector.pedestal()
    hit = (reads[0] > 2000.0) & (detector.quality() == 0)
    assert hit.any()
    assert (reads[-1][hit] > 1900.0).all()


def test_the_pointing_error_is_shared_by_the_detectors_and_differs_between_exposures() -> None:
    commanded = Pointing(150.0, 2.0, 30.0)
    first, second = (true_pointing(commanded, 1, "2034B-007-123", number) for number in (1, 2))
    assert first == true_pointing(commanded, 1, "2034B-007-123", 1)
    assert first != second
    assert 0.0 < abs(first.dec_deg - commanded.dec_deg) * 3600.0 < 0.3


def test_a_perfect_reduction_measures_the_true_fluxes_and_the_pointing_error(tmp_path: Path) -> None:
    detector = DetectorTruth(Detector.IMG1, (1024, 1024), 2)
    target = Pointing(150.0, 2.0)
    scene = Scene(star_field(11, target), target.offset(0.03, -0.04), "H")
    rate, flat, dark = electron_rate(detector, scene), detector.flat(), detector.dark()
    truth = read_truth(write_truth(truth_table(detector, scene, 8 * READ_TIME_S), tmp_path / "truth.ecsv"))
    quality, lit = detector.quality(), flat > 0.0
    assert np.median(rate) == pytest.approx(sky_electrons("H"), rel=0.05)

    perfect = np.where(lit, (rate - dark) / np.where(lit, flat, 1.0), 0.0).astype(np.float32)
    free = measure(perfect, quality, truth, err=np.full(detector.shape, 4.0, np.float32))
    assert free.stars >= 8
    assert abs(free.flux_error_median) < 5e-4
    assert np.abs(free.flux_error).max() < 0.01

    times = READ_TIME_S * (np.arange(8) - 3.5)
    slope, saturated = np.zeros(detector.shape), np.zeros(detector.shape, bool)
    for read in expose(detector, rate, _sampling(detector.shape), EXPOSURE, 5):
        slope += times[read.read - 1] / np.sum(times**2) * _true_electrons(detector, read.pixels)
        saturated |= read.pixels >= detector.saturation()
    reduced = ((slope - dark) / np.where(lit, flat, 1.0)).astype(np.float32)
    quality = quality | np.where(saturated, Quality.SATURATED, 0).astype(np.uint32)
    noisy = measure(reduced, quality, truth, wcs=_commanded_wcs(target, detector))
    assert noisy.stars >= 8
    assert abs(noisy.flux_error_median) < 4.0 * np.std(noisy.flux_error) / np.sqrt(noisy.stars)
    assert abs(noisy.flux_error_median) < 0.005
    # Stars lie where the true pointing puts them; a pointing 0.03 arcsec East moves them West, to larger x.
    assert noisy.offset_median_arcsec == pytest.approx((-0.03, -0.04), abs=0.001)


def _commanded_wcs(pointing: Pointing, detector: DetectorTruth) -> WCS:
    from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, detector_axis_offset_arcsec

    rows, columns = detector.shape
    offset = np.array(detector_axis_offset_arcsec(detector.detector, detector.shape)) / IMAGER_SCALE_ARCSEC
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = "RA---TAN", "DEC--TAN"
    wcs.wcs.crval = pointing.ra_deg, pointing.dec_deg
    wcs.wcs.crpix = (columns + 1) / 2 - offset[0], (rows + 1) / 2 - offset[1]
    wcs.wcs.cdelt = -IMAGER_SCALE_ARCSEC / 3600.0, IMAGER_SCALE_ARCSEC / 3600.0
    return wcs


def test_no_star_is_a_result_too() -> None:
    detector = DetectorTruth(Detector.IMG1, (64, 64), 2)
    target = Pointing(150.0, 2.0)
    truth = truth_table(detector, Scene(star_field(1, target), target, "H"), 5.76)
    found = measure(np.zeros((64, 64), np.float32), detector.quality(), truth)
    assert found.stars == 0
    assert np.isnan(found.flux_error_median)
    assert found.offset_median_arcsec is None
