"""Rounds begin at their interval, however long they take."""

import pytest

from irisdrs.shared.rounds import LEAST_PAUSE, pause_s


@pytest.mark.parametrize(
    ("took_s", "expected_s"), [(0.0, 60.0), (20.0, 40.0), (54.0, 6.0), (59.0, 6.0), (72.0, 6.0), (1000.0, 6.0)]
)
def test_a_round_begins_at_its_interval_unless_the_one_before_takes_too_long(took_s: float, expected_s: float) -> None:
    assert pause_s(60.0, took_s) == pytest.approx(expected_s)
    assert expected_s >= LEAST_PAUSE * 60.0
