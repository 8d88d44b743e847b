"""The table of facts: sky brightness, magnitudes and where the detectors lie."""

import math

import pytest

from irisdrs.shared.identifiers import Detector
from irisdrs.shared.instrument import (
    CHANNELS,
    DETECTOR_SIZE,
    FILTERS,
    IMAGER_SCALE_ARCSEC,
    channel_width,
    detector_axis_offset_arcsec,
)


def test_there_are_51_filters_with_ordered_limits() -> None:
    assert len(FILTERS) == 51
    for name, row in FILTERS.items():
        assert row.name == name
        assert row.min_um < row.centre_um < row.max_um
        assert 0 < row.bandwidth_um <= (row.max_um - row.min_um) * 1.01


@pytest.mark.parametrize(("name", "brightest", "faintest"), [("J", 15.0, 16.5), ("H", 13.0, 14.0), ("Ks", 13.5, 15.0)])
def test_the_sky_is_as_bright_as_on_mauna_kea(name: str, brightest: float, faintest: float) -> None:
    row = FILTERS[name]
    vega = -2.5 * math.log10(row.sky_photons / row.ab_photons) - row.ab_to_vega
    assert brightest < vega < faintest


@pytest.mark.parametrize(("name", "published"), [("J", 0.938), ("H", 1.379), ("K", 1.900)])
def test_ab_to_vega_agrees_with_hewett(name: str, published: float) -> None:
    assert FILTERS[name].ab_to_vega == pytest.approx(published, abs=0.01)


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_photons_of_ab_zero_follow_from_the_bandwidth(name: str) -> None:
    """3631 Jy / h = 5.48e10 photons/s/m^2 per unit of ln(wavelength), times a transmission of 0.5 to 1.

    The shortest filters' curves have wings beyond their nominal limits, so that they pass up to 1.4 times as much.
    """
    row = FILTERS[name]
    transmission = row.ab_photons / (3631e-26 / 6.62607015e-34 * row.bandwidth_um / row.centre_um)
    assert 0.5 < transmission < 1.4


def test_the_four_detectors_lie_around_the_axis() -> None:
    half = 0.6 + 2048 * 0.004
    shape = (DETECTOR_SIZE, DETECTOR_SIZE)
    assert [detector_axis_offset_arcsec(d, shape) for d in Detector] == [
        pytest.approx(xy) for xy in [(-half, -half), (half, -half), (-half, half), (half, half), (0.0, 0.0)]
    ]


def test_smaller_frames_keep_their_inner_edges() -> None:
    x, y = detector_axis_offset_arcsec(Detector.IMG2, (64, 128))
    assert x - 64 * IMAGER_SCALE_ARCSEC == pytest.approx(0.6)
    assert y + 32 * IMAGER_SCALE_ARCSEC == pytest.approx(-0.6)


def test_channels_keep_their_width_in_smaller_frames() -> None:
    assert channel_width(DETECTOR_SIZE) * CHANNELS == DETECTOR_SIZE
    assert [channel_width(columns) for columns in (256, 64, 16)] == [64, 64, 16]
