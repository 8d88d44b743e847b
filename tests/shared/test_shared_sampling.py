"""Sampling: which reads and groups go with which mode."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from irisdrs.shared.identifiers import SamplingMode
from irisdrs.shared.observation import Sampling


def sampling(mode: SamplingMode, reads: int, group_reads: int = 1, **changes: object) -> Sampling:
    facts = {"mode": mode, "reads": reads, "ramps": 1, "read_time_s": 0.72, "shape": (64, 64)}
    return Sampling.model_validate(facts | {"group_reads": group_reads} | changes)


@given(st.sampled_from(SamplingMode), st.integers(1, 40), st.integers(1, 25))
def test_a_ramp_suits_its_mode_or_is_refused(mode: SamplingMode, reads: int, group_reads: int) -> None:
    suits = {
        SamplingMode.SINGLE: reads == 1 and group_reads == 1,
        SamplingMode.CDS: group_reads == 1,
        SamplingMode.MCDS: group_reads + group_reads <= reads,
        SamplingMode.UTR: group_reads == 1,
    }
    if not suits[mode]:
        with pytest.raises(ValidationError):
            sampling(mode, reads, group_reads)
        return
    made = sampling(mode, reads, group_reads)
    assert Sampling.model_validate_json(made.model_dump_json()) == made
    assert len(made.read_times_s) == reads
    assert made.read_times_s[-1] == pytest.approx(made.ramp_time_s)


@pytest.mark.parametrize(
    ("mode", "reads", "group_reads", "says"),
    [
        (SamplingMode.SINGLE, 2, 1, "a ramp of SINGLE has 1 read, not 2"),
        (SamplingMode.SINGLE, 1, 2, "SINGLE has no groups of 2 reads: only MCDS has groups"),
        (SamplingMode.MCDS, 5, 3, "two groups of 3 reads do not fit into a ramp of 5: MCDS needs at least 6"),
        (SamplingMode.MCDS, 5, 0, "greater than or equal to 1"),
        (SamplingMode.UTR, 65536, 1, "a ramp of 65536 reads is too long: reads are counted up to 65535"),
        (SamplingMode.UTR, 8, 2, "UTR has no groups of 2 reads: only MCDS has groups"),
    ],
)
def test_what_does_not_suit_says_why(mode: SamplingMode, reads: int, group_reads: int, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        sampling(mode, reads, group_reads)


def test_a_plan_that_says_no_group_has_groups_of_one_read() -> None:
    facts = json.loads(sampling(SamplingMode.MCDS, 2).model_dump_json())
    del facts["group_reads"]
    assert Sampling.model_validate(facts).group_reads == 1


def test_reads_end_a_read_time_apart_from_the_reset_on() -> None:
    assert sampling(SamplingMode.UTR, 3, read_time_s=0.5).read_times_s == (0.5, 1.0, 1.5)
