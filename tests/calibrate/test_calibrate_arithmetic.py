"""Dark, flat, gain and flags: cases that can be checked by hand, and variances against Monte Carlo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from irisdrs.calibrate.algorithms.dark import subtract_dark
from irisdrs.calibrate.algorithms.dq_init import combine_flags, flag, total_error
from irisdrs.calibrate.algorithms.flat import divide_flat
from irisdrs.calibrate.algorithms.units import to_electrons
from irisdrs.shared.quality import Quality


def image(value: float) -> np.ndarray:
    return np.full((4, 4), value, dtype=np.float32)


def no_flags() -> np.ndarray:
    return np.zeros((4, 4), dtype=np.uint32)


def test_flags_of_frame_and_mask_are_combined() -> None:
    dq, mask = no_flags(), no_flags()
    dq[0, 0] = Quality.SATURATED
    mask[0, 0] = mask[3, 3] = Quality.HOT

    combined = combine_flags(dq, mask)

    assert combined[0, 0] == Quality.SATURATED | Quality.HOT == 2 | 2048
    assert combined[3, 3] == Quality.HOT
    assert np.count_nonzero(combined) == 2
    assert dq[3, 3] == 0, "the input is left alone"


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_no_flag_is_ever_lost(dq: int, mask: int) -> None:
    combined = int(combine_flags(np.array([[dq]], np.uint32), np.array([[mask]], np.uint32))[0, 0])
    assert combined & dq == dq
    assert combined & mask == mask
    assert combined & ~(dq | mask) == 0


def test_flag_keeps_what_is_there_and_the_highest_bit() -> None:
    dq = no_flags()
    dq[1, 1] = Quality.REFERENCE_PIXEL
    where = np.zeros((4, 4), dtype=bool)
    where[1, 1] = where[2, 2] = True

    flagged = flag(dq, where, Quality.DO_NOT_USE)

    assert flagged[1, 1] == 2**31 + 1
    assert flagged[2, 2] == 1
    assert flagged[0, 0] == 0
    assert flagged.dtype == np.uint32


def test_total_error_adds_in_quadrature_and_ignores_negative_estimates() -> None:
    error = total_error(image(9.0), image(16.0))
    assert np.all(error == 5.0)
    assert np.all(total_error(image(-1.0), image(4.0)) == 2.0)
    assert error.dtype == np.float32


def test_dark_is_subtracted_and_its_variance_added() -> None:
    dark = image(0.5)
    dark[2, 1] = np.nan
    dark_dq = no_flags()
    dark_dq[0, 3] = Quality.WARM

    result = subtract_dark(image(10.0), image(4.0), no_flags(), dark, image(0.25), dark_dq)

    assert result.signal[0, 0] == 9.5
    assert result.variance[0, 0] == 4.25
    assert result.dq[0, 3] == Quality.WARM
    assert (result.signal[2, 1], result.variance[2, 1]) == (10.0, 4.0), "nothing known, nothing subtracted"
    assert result.dq[2, 1] == Quality.UNRELIABLE_DARK
    assert np.count_nonzero(result.dq) == 2


def test_flat_divides_signal_and_variances() -> None:
    flat = image(2.0)
    flat[0, 0], flat[0, 1], flat[0, 2] = 0.0, -1.0, np.nan

    result = divide_flat(image(8.0), image(4.0), image(2.0), no_flags(), flat, image(0.1), no_flags())

    assert result.signal[3, 3] == 4.0
    assert result.var_poisson[3, 3] == 1.0
    assert result.var_rnoise[3, 3] == 0.5
    assert result.var_flat is not None
    assert result.var_flat[3, 3] == pytest.approx((4.0 * 0.1 / 2.0) ** 2)  # (S' sigma_F / F)^2 = 0.04
    unusable = Quality.NO_FLAT_FIELD | Quality.DO_NOT_USE
    for column in range(3):
        assert result.signal[0, column] == 8.0
        assert result.var_flat[0, column] == 0.0
        assert result.dq[0, column] == unusable
    assert np.count_nonzero(result.dq) == 3


def test_flat_without_error_has_no_variance_of_its_own() -> None:
    result = divide_flat(image(8.0), image(4.0), image(2.0), no_flags(), image(1.0), None, no_flags())
    assert result.var_flat is None
    assert np.all(result.signal == 8.0)


def test_gain_scales_signal_once_and_variances_twice() -> None:
    gain = image(3.0)
    gain[1, 0] = np.nan

    result = to_electrons(image(2.0), image(4.0), image(1.0), image(0.5), no_flags(), gain, no_flags())

    assert (result.signal[0, 0], result.var_poisson[0, 0], result.var_rnoise[0, 0]) == (6.0, 36.0, 9.0)
    assert result.var_flat is not None
    assert result.var_flat[0, 0] == 4.5
    assert result.dq[1, 0] == Quality.NO_GAIN_VALUE | Quality.DO_NOT_USE
    assert result.signal[1, 0] == 2.0


def test_variances_are_those_of_many_noisy_frames() -> None:
    """The spread of 20000 simulated pixels equals the propagated variance within 4 standard errors (4 percent)."""
    rng = np.random.default_rng(20340801)
    draws = (200, 100)
    truth, dark, response, gain = 50.0, 2.0, 0.8, 1.7
    sigma_poisson, sigma_read, sigma_dark, sigma_flat = 1.5, 0.9, 0.3, 0.02

    def draw(mean: float, sigma: float) -> np.ndarray:
        return rng.normal(mean, sigma, draws).astype(np.float32)

    def full(value: float) -> np.ndarray:
        return np.full(draws, value, dtype=np.float32)

    zeros = np.zeros(draws, dtype=np.uint32)
    signal = draw(truth, sigma_poisson) + draw(0.0, sigma_read)
    dark_free = subtract_dark(signal, full(sigma_read**2), zeros, draw(dark, sigma_dark), full(sigma_dark**2), zeros)
    flattened = divide_flat(
        dark_free.signal,
        full(sigma_poisson**2),
        dark_free.variance,
        zeros,
        draw(response, sigma_flat),
        full(sigma_flat),
        zeros,
    )
    result = to_electrons(
        flattened.signal,
        flattened.var_poisson,
        flattened.var_rnoise,
        flattened.var_flat,
        zeros,
        full(gain),
        zeros,
    )
    assert result.var_flat is not None
    claimed = float(np.mean(total_error(result.var_poisson, result.var_rnoise, result.var_flat) ** 2))
    assert float(np.var(result.signal)) == pytest.approx(claimed, rel=0.04)
    assert float(np.mean(result.signal)) == pytest.approx((truth - dark) / response * gain, rel=0.002)
