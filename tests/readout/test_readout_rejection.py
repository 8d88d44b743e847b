"""Reads and intervals that telemetry rejects, and the table that it comes in."""

import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from astropy import units
from astropy.table import Table
from astropy.time import Time
from tests.readout.ramps import detector, noisy_ramp

from irisdrs.readout.backend import Processor
from irisdrs.readout.fitting import FitSettings, JumpTest
from irisdrs.readout.rejection import Telemetry, read_telemetry, use_intervals, use_reads
from irisdrs.shared.errors import Fatal

#: Leap seconds of 2034 are not known yet, which astropy says where tests make times of it.
pytestmark = pytest.mark.filterwarnings("ignore:ERFA function")

RESET = datetime(2034, 8, 1, 5, tzinfo=UTC)
#: Reads end at 1, 2, .. 6 s; seeing is bad from 2.4 to 3.1 s, and from 5 s on.
TIMES = np.arange(1.0, 7.0)
SEEING = Telemetry(np.array([1.5, 2.4, 3.1, 5.0]), np.array([0.4, 1.2, 0.5, 0.9]))


def test_a_value_holds_until_the_next() -> None:
    assert use_reads(TIMES, SEEING, maximum=0.8).tolist() == [True, True, False, True, False, False]
    # 1-2, 2-3, 3-4, 4-5, 5-6 s
    assert use_intervals(TIMES, SEEING, maximum=0.8).tolist() == [True, False, False, False, False]
    assert use_intervals(TIMES, SEEING, maximum=1.0).tolist() == [True, False, False, True, True]
    assert use_reads(TIMES, SEEING, minimum=0.45).tolist() == [True, False, True, True, True, True]


def test_bounds_are_allowed_and_nothing_is_known_before_the_first_value() -> None:
    assert use_reads(TIMES, SEEING, minimum=0.4, maximum=1.2).all()
    late = Telemetry(np.array([4.5]), np.array([9.0]))
    assert use_reads(TIMES, late, maximum=1.0).tolist() == [True] * 4 + [False] * 2
    assert use_intervals(TIMES, late, maximum=1.0).tolist() == [True] * 3 + [False] * 2
    nothing = Telemetry(np.array([]), np.array([]))
    assert use_reads(TIMES, nothing, maximum=1.0).all()
    assert use_intervals(TIMES, nothing, maximum=1.0).all()
    assert use_intervals(TIMES[:1], SEEING).shape == (0,)


def test_rejected_reads_cost_no_photons_and_rejected_intervals_do(processor: Processor) -> None:
    ramp = noisy_ramp(np.random.default_rng(3), TIMES, (1, 4), 40.0)
    settings = FitSettings(jump_test=JumpTest.NONE)
    reads = use_reads(TIMES, SEEING, maximum=0.8)
    fit = processor.fit(ramp, detector(), TIMES, settings, use_read=reads)
    np.testing.assert_allclose(fit.time_s, 3.0)  # of the reads at 1, 2 and 4 s
    assert (fit.differences == 2).all()
    bright = ramp.copy()
    bright[2] += 999  # in an interval of bad seeing, and lost again in the next
    intervals = use_intervals(TIMES, SEEING, maximum=1.0)
    masked = processor.fit(bright, detector(), TIMES, settings, use_difference=intervals)
    np.testing.assert_allclose(masked.time_s, 3.0)
    np.testing.assert_array_equal(
        masked.rate, processor.fit(ramp, detector(), TIMES, settings, use_difference=intervals).rate
    )


def test_tables_in_seconds_and_in_dates_say_the_same(tmp_path: Path) -> None:
    path = tmp_path / "seeing.ecsv"
    dates = Time(RESET, scale="utc") + SEEING.times_s * units.s
    forms = [
        Table({"time": SEEING.times_s, "value": SEEING.values}, units={"value": "arcsec"}),
        Table({"time": SEEING.times_s / 60, "value": SEEING.values}, units={"time": "min"}),
        Table({"time": dates.isot, "value": SEEING.values, "quality": [1, 1, 1, 2]}),
        Table({"time": dates, "value": SEEING.values}),
        Table({"time": [*SEEING.times_s, 9.0], "value": [*SEEING.values, np.nan]}),
    ]
    for table in forms:
        table.write(path, overwrite=True)
        found = read_telemetry(path, RESET)
        np.testing.assert_allclose(found.times_s, SEEING.times_s, atol=1e-3)
        np.testing.assert_array_equal(found.values, SEEING.values)


def test_dates_whose_leap_seconds_nobody_knows_are_no_reason_to_warn(tmp_path: Path) -> None:
    path = tmp_path / "seeing.ecsv"
    dates = Time(RESET, scale="utc") + SEEING.times_s * units.s
    for times in (dates, dates.isot):
        Table({"time": times, "value": SEEING.values}).write(path, overwrite=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read_telemetry(path, RESET)
        np.testing.assert_allclose(found.times_s, SEEING.times_s, atol=1e-3)


def test_a_leap_second_between_reset_and_telemetry_counts(tmp_path: Path) -> None:
    """The last second of 2016 is 23:59:60."""
    path = tmp_path / "seeing.ecsv"
    Table({"time": ["2016-12-31T23:59:59", "2016-12-31T23:59:60.5", "2017-01-01T00:00:00"], "value": [1, 2, 3]}).write(
        path
    )
    found = read_telemetry(path, datetime(2016, 12, 31, 23, 59, 58, tzinfo=UTC))
    np.testing.assert_allclose(found.times_s, [1.0, 2.5, 3.0], atol=1e-6)


def test_the_worked_example_of_the_page_is_true(tmp_path: Path) -> None:
    """Reads end every 0.5 s: the intervals from 2.0 to 3.0 s are left out, and the read at 2.5 s."""
    text = (Path(__file__).parents[2] / "services/readout/OFFLINE.md").read_text()
    path = tmp_path / "seeing.ecsv"
    path.write_text(text[text.index("# %ECSV") :].split("```")[0])
    found = read_telemetry(path, RESET)
    times = np.linspace(0.5, 4.0, 8)
    np.testing.assert_array_equal(times[:-1][~use_intervals(times, found, maximum=0.8)], [2.0, 2.5])
    np.testing.assert_array_equal(times[~use_reads(times, found, maximum=0.8)], [2.5])


def test_the_table_of_the_documentation_is_one(tmp_path: Path) -> None:
    import irisdrs.readout.rejection as documented

    lines = [line[4:] for line in (documented.__doc__ or "").splitlines() if line.startswith("    ")]
    path = tmp_path / "seeing.ecsv"
    path.write_text("\n".join(lines))
    found = read_telemetry(path, RESET)
    np.testing.assert_allclose(found.times_s, [0, 30])
    np.testing.assert_array_equal(found.values, [0.45, 0.92])


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (Table({"when": [1.0], "value": [1.0]}), "no column time"),
        (Table({"time": [1.0, 1.0], "value": [1.0, 2.0]}), "must increase"),
        (Table({"time": [1.0], "value": ["poor"]}), "cannot be used"),
        (Table({"time": ["2034-08-01T05:00:00"], "value": [1.0]}), "the reset is not known"),
        (Table({"time": ["yesterday"], "value": [1.0]}), "cannot be used|reset is not known"),
        (Table({"time": [1.0], "value": [1.0]}, units={"time": "m"}), "cannot be used"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(tmp_path: Path, table: Table, reason: str) -> None:
    path = tmp_path / "seeing.ecsv"
    table.write(path)
    with pytest.raises(Fatal, match=reason):
        read_telemetry(path)


def test_what_is_no_table_says_so(tmp_path: Path) -> None:
    path = tmp_path / "seeing.txt"
    with pytest.raises(Fatal, match="no ECSV table"):
        read_telemetry(path)
    path.write_text("time value\n1 2\n")
    with pytest.raises(Fatal, match="no ECSV table"):
        read_telemetry(path)


@pytest.mark.parametrize(
    ("header", "row", "reason"),
    [
        ("datatype: 7", "1 2", "no ECSV table: TypeError"),
        ("foo", "1 2", "no ECSV table: "),
        ("datatype:\n# - {datatype: float64}\n# - 5", "1 2", "no ECSV table: "),
        ("meta: " + "[" * 3000 + "]" * 3000 + "\n# datatype:\n# - {name: time, datatype: float64}", "1 2", "no ECSV"),
        (
            "datatype: [{name: time, datatype: float64}, {name: value, datatype: string, subtype: 'float64[2]'}]",
            "1 [1.0,2.0]",
            "more than one value in a row",
        ),
        (
            "datatype: [{name: time, datatype: string, subtype: 'float64[2]'}, {name: value, datatype: float64}]",
            "[1.0,2.0] 1",
            "more than one time in a row",
        ),
    ],
)
def test_a_header_of_a_table_that_cannot_be_says_why(tmp_path: Path, header: str, row: str, reason: str) -> None:
    path = tmp_path / "seeing.ecsv"
    path.write_text(f"# %ECSV 1.0\n# ---\n# {header}\ntime value\n{row}\n")
    with pytest.raises(Fatal, match=reason):
        read_telemetry(path, RESET)


def test_telemetry_needs_increasing_times() -> None:
    for times, values in (([1.0, 0.5], [1.0, 1.0]), ([1.0], [np.nan]), ([1.0, 2.0], [1.0]), ([np.nan], [1.0])):
        with pytest.raises(ValueError, match="telemetry"):
            Telemetry(np.array(times), np.array(values))
