"""The comparison of an observation's plan and objects with its rows, on data alone."""

from dataclasses import replace

import pytest

from irisdrs.archive.reconciliation.catalogued import Catalogued
from irisdrs.archive.reconciliation.comparison import compare
from irisdrs.archive.reconciliation.contents import contents
from irisdrs.archive.reconciliation.findings import Comparison, Conflict
from irisdrs.shared.events import (
    ExposureAborted,
    ExposureDue,
    ExposureEnded,
    ExposureStarted,
    FrameReady,
    FrameReduced,
    ObservationEnded,
    ObservationStarted,
    ReadWritten,
)
from irisdrs.shared.events.event import Event
from irisdrs.shared.identifiers import Detector, ExposureId, ProductId
from irisdrs.shared.store.keys import fact_key, product_key, read_key
from irisdrs.shared.testing.small_observation import NIGHT, small_plan

PLAN = small_plan(exposures=1, reads=2)
(EXPOSURE,) = PLAN.exposure_ids()
SHA = "ab" * 32


def fact(name: str, exposure: ExposureId = EXPOSURE) -> str:
    return fact_key(NIGHT, exposure, name)


def frame(level: int, kind: str, version: str = "1", exposure: ExposureId = EXPOSURE) -> str:
    return product_key(NIGHT, ProductId(exposure, level, kind), version * 64, version * 64)


READS = [read_key(NIGHT, EXPOSURE, 1, read, SHA) for read in (1, 2)]
RAW, IMAGE = frame(1, "raw"), frame(2, "image")
STARTED, ENDED = fact("started"), fact("ended")
ALL = [STARTED, ENDED, *READS, RAW, IMAGE]


def whole() -> Catalogued:
    """All rows of the observation."""
    return Catalogued(
        state="ended",
        exposures={EXPOSURE: "ended"},
        rows=dict.fromkeys([*READS, RAW, IMAGE], True),
        current={RAW: "5a" * 32},
        inputs={IMAGE: {"5a" * 32}},
    )


def found(keys: list[str], rows: Catalogued, ended: bool = True) -> Comparison:
    return compare(PLAN, ended, contents(PLAN, keys), rows)


def missed(result: Comparison) -> list[tuple[type[Event], str]]:
    return [(wanted.kind, wanted.key.rpartition("/")[2]) for wanted in result.wanted]


def name(key: str) -> str:
    return key.rpartition("/")[2]


def test_where_everything_is_there_nothing_is_found() -> None:
    result = found(ALL, whole())
    assert result.whole
    assert (result.wanted, result.open, result.absent, result.strays, result.conflicts) == ((), (), (), (), ())


def test_an_observation_that_has_not_ended_is_not_whole() -> None:
    assert not found(ALL, replace(whole(), state="started"), ended=False).whole


@pytest.mark.parametrize(("key", "kind"), [(READS[1], ReadWritten), (RAW, FrameReady), (IMAGE, FrameReduced)])
@pytest.mark.parametrize("partial", [True, False])
def test_an_object_without_all_of_its_rows_is_announced(key: str, kind: type[Event], partial: bool) -> None:
    rows = whole()
    if partial:
        rows.rows[key] = False
    else:
        del rows.rows[key]
    assert missed(found(ALL, rows)) == [(kind, name(key))]


@pytest.mark.parametrize(
    ("state", "ended", "kinds"),
    [
        (None, False, [ObservationStarted]),
        (None, True, [ObservationEnded]),
        ("started", True, [ObservationEnded]),
        ("started", False, []),
    ],
)
def test_an_observation_behind_the_store_is_announced(state: str | None, ended: bool, kinds: list[type[Event]]) -> None:
    assert [kind for kind, _ in missed(found(ALL, replace(whole(), state=state), ended))] == kinds


def test_a_planned_exposure_without_a_row_comes_with_the_plan() -> None:
    rows = replace(whole(), exposures={})
    assert missed(found([], replace(rows, rows={}), ended=True)) == [(ObservationStarted, f"{PLAN.observation}.json")]


@pytest.mark.parametrize(
    ("facts", "state", "kind"),
    [
        ([STARTED], "planned", ExposureStarted),
        ([STARTED, ENDED], "started", ExposureEnded),
        ([STARTED, fact("aborted")], "started", ExposureAborted),
        ([STARTED, fact("aborted")], None, ExposureAborted),
    ],
)
def test_an_exposure_behind_the_store_is_announced(facts: list[str], state: str | None, kind: type[Event]) -> None:
    rows = replace(whole(), exposures={} if state is None else {EXPOSURE: state})
    kinds = [kind for kind, _ in missed(found([*facts, *READS, RAW, IMAGE], rows))]
    assert kind in kinds
    assert set(kinds) <= {kind, ObservationStarted}


def without_frames(keys: list[str], ended: bool = False) -> Comparison:
    rows = Catalogued(state="started", exposures={EXPOSURE: "ended"}, rows=dict.fromkeys(READS, True))
    return found(keys, replace(rows, state="ended" if ended else "started"), ended)


def test_an_exposure_that_has_ended_without_a_frame_ends_again() -> None:
    assert missed(without_frames([STARTED, ENDED, *READS])) == [(ExposureEnded, "ended.json")]


def test_an_exposure_with_all_reads_and_no_frame_is_due_at_once() -> None:
    (wanted,) = without_frames([STARTED, *READS]).wanted
    assert (wanted.kind, wanted.at_once) == (ExposureDue, True)
    (wanted,) = without_frames([STARTED, READS[0], fact("failed-0001-00002")]).wanted
    assert (wanted.kind, wanted.at_once) == (ExposureDue, True)


def test_an_exposure_with_some_reads_waits_for_its_deadline_or_the_observations_end() -> None:
    (wanted,) = without_frames([STARTED, READS[0]]).wanted
    assert (wanted.kind, wanted.at_once) == (ExposureDue, False)
    (wanted,) = without_frames([STARTED, READS[0]], ended=True).wanted
    assert (wanted.kind, wanted.at_once) == (ExposureDue, True)
    assert without_frames([STARTED, READS[0]]).open == (EXPOSURE,)


def test_an_aborted_exposure_needs_no_frame() -> None:
    rows = Catalogued(state="ended", exposures={EXPOSURE: "aborted"}, rows={READS[0]: True})
    result = found([STARTED, READS[0], fact("aborted")], rows)
    assert (result.wanted, result.open, result.whole) == ((), (), True)


def test_the_current_raw_frame_is_reduced_and_an_older_one_need_not_be() -> None:
    newer = frame(1, "raw", "2")
    rows = whole()
    rows.rows[newer] = True
    assert found([*ALL, newer], rows).wanted == ()  # not current: nobody has to reduce it
    rows.current = {newer: "6b" * 32}
    assert missed(found([*ALL, newer], rows)) == [(FrameReady, name(newer))]
    rows.inputs[IMAGE].add("6b" * 32)
    assert found([*ALL, newer], rows).wanted == ()


def test_a_raw_frame_whose_reduced_frame_is_gone_from_the_store_is_announced_again() -> None:
    result = found([key for key in ALL if key != IMAGE], whole())
    assert missed(result) == [(FrameReady, name(RAW))]
    assert result.absent == (IMAGE,)
    assert not result.whole


def test_an_exposure_whose_raw_frame_is_gone_from_the_store_ends_again() -> None:
    result = found([key for key in ALL if key != RAW], whole())
    assert missed(result) == [(ExposureEnded, "ended.json")]


def test_everything_that_is_missed_says_what_is_wrong_without_it() -> None:
    results = [found(ALL, Catalogued()), found([STARTED, *READS], Catalogued()), found(ALL[:-1], whole())]
    assert all(wanted.why for result in results for wanted in result.wanted)


def test_a_frame_of_the_spectrograph_is_not_reduced() -> None:
    plan = small_plan(exposures=1, reads=2, detectors=(Detector.IFS,))
    (exposure,) = plan.exposure_ids()
    raw = frame(1, "raw", exposure=exposure)
    reads = [read_key(NIGHT, exposure, 1, read, SHA) for read in (1, 2)]
    keys = [fact("started", exposure), fact("ended", exposure), *reads, raw]
    rows = Catalogued("ended", {exposure: "ended"}, dict.fromkeys([*reads, raw], True), {raw: SHA})
    assert compare(plan, True, contents(plan, keys), rows).whole


def test_a_row_without_its_object_is_to_be_asked_for() -> None:
    result = found([key for key in ALL if key != READS[0]], whole())
    assert result.absent == (READS[0],)
    assert result.wanted == ()
    assert not result.whole


@pytest.mark.parametrize(
    "stray",
    [
        f"{STARTED.rpartition('/')[0]}/notes.txt",
        STARTED.replace("SCI0-0001", "SCI0-0009"),
        STARTED.replace("SCI0-0001", "nothing"),
        RAW.replace("SCI0-0001", "SCI0-0009"),
        RAW.replace("-L1-", "-L2-"),
        f"{RAW.rpartition('/')[0]}/copy.fits",
        "1/2034/08/01/2034B-007-123/readme.fits",
    ],
)
def test_an_object_that_belongs_to_nothing_is_found(stray: str) -> None:
    result = found([*ALL, stray], whole())
    assert [orphan.key for orphan in result.strays] == [stray]
    assert result.wanted == ()


def test_a_conflict_is_reported() -> None:
    conflict = Conflict("product", "version", RAW)
    assert found(ALL, replace(whole(), conflicts=[conflict])).conflicts == (conflict,)


def test_only_the_exposures_that_are_asked_for_are_compared() -> None:
    plan = small_plan(exposures=2, reads=2)
    first, second = plan.exposure_ids()
    keys = [fact("started", first), fact("started", second)]
    rows = Catalogued("started", dict.fromkeys((first, second), "planned"))
    result = compare(plan, False, contents(plan, keys), rows, [second])
    assert {wanted.exposure for wanted in result.wanted} == {second}
