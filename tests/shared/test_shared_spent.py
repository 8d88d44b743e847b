"""What services have spent on the way to an event, as text."""

import math
import re

import pytest

from irisdrs.shared.budget import CUBE_S, REDUCED_IMAGE_S, budget_s
from irisdrs.shared.contract.examples import EXAMPLES
from irisdrs.shared.errors import BadMessage
from irisdrs.shared.events import decode, encode
from irisdrs.shared.events.spent import LONGEST_S, MAX_LENGTH, PATTERN, add, parse


def test_services_are_added_in_the_order_of_the_way() -> None:
    text = add(add("", "readout", 1.2041), "calibrate", 4.5)
    assert text == "readout:1.204,calibrate:4.500"
    assert parse(text) == {"readout": 1.204, "calibrate": 4.5}
    assert parse("") == {}


def test_a_service_that_comes_again_is_added_up_and_no_time_runs_backwards() -> None:
    assert add("calibrate:1.000,archive:2.000", "calibrate", 0.5) == "calibrate:1.500,archive:2.000"
    assert add("", "readout", -0.1) == "readout:0.000"


def test_it_never_grows_beyond_what_an_envelope_takes() -> None:
    text = ""
    for number in range(100):
        text = add(text, "service_" + "abcdefghij"[number % 10] * (1 + number // 10), 1e6)
    assert len(text) <= MAX_LENGTH
    assert decode(encode(EXAMPLES[0], "test", spent=text))[0].spent == text


@pytest.mark.parametrize("digits", [9, 300, 380])
def test_what_cannot_be_is_left_out_and_goes_no_further(digits: int) -> None:
    absurd = f"readout:{'9' * digits}.000"
    assert parse(f"edge:1.000,{absurd}") == {"edge": 1.0}
    text = add(f"edge:1.000,{absurd}", "archive", 2.0)
    assert text == "edge:1.000,archive:2.000"
    assert decode(encode(EXAMPLES[0], "test", spent=text))[0].spent == text
    message = encode(EXAMPLES[0], "test", spent="readout:1.000").replace(b"readout:1.000", absurd.encode())
    with pytest.raises(BadMessage, match="spent"):
        decode(message)


@pytest.mark.parametrize("seconds", [math.inf, -math.inf, math.nan, 1e300, LONGEST_S, -LONGEST_S, LONGEST_S - 1])
def test_whatever_is_added_an_envelope_takes_it(seconds: float) -> None:
    text = add("archive:1.500,edge:99999999.999", "archive", seconds)
    assert re.fullmatch(PATTERN, text)
    assert 1.5 <= parse(text)["archive"] <= LONGEST_S


def test_a_message_that_says_it_otherwise_is_refused() -> None:
    with pytest.raises(BadMessage, match="spent"):
        decode(encode(EXAMPLES[0], "test", spent="readout:1.204").replace(b"readout:1.204", b"readout=1.204"))


def test_a_cube_may_take_longer_than_an_image() -> None:
    assert (budget_s("image"), budget_s("raw"), budget_s("cube")) == (REDUCED_IMAGE_S, REDUCED_IMAGE_S, CUBE_S)
