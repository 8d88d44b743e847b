"""Ramps in memory (`RampModel`): with the times that they need, and to and from the reads of an exposure."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from irisdrs.readout.exposure_reads import MAX_INTERVAL_S, MIN_INTERVAL_S, ExposureReads, RampReads
from irisdrs.shared.data.models import RampModel
from irisdrs.shared.errors import CorruptObject, Fatal
from irisdrs.shared.identifiers import SamplingMode, Subarray
from irisdrs.shared.window import Window

#: Groups of metadata that reads hand on to their frame.
_FACTS = ("telescope", "time_system", "instrument", "observation", "exposure", "pointing", "subarray")


def timed(ramp: RampModel, read_time_s: float | None, resets: Sequence[str]) -> RampModel:
    """A ramp with the times of its reads and resets; what is given goes before what the file says.

    Parameters and errors are those of `exposure_files.open_exposure`.
    """
    ramps, reads = _shape(ramp)[:2]
    made = RampModel({**ramp.instance, "meta": copy.deepcopy(ramp.instance["meta"])})
    cadence = read_time_s if read_time_s is not None else _said(made.meta.exposure.read_interval)
    if read_time_s is not None or not ramp.hasattr("read_times"):
        if cadence is None or not MIN_INTERVAL_S <= cadence <= MAX_INTERVAL_S:
            raise Fatal(
                "The ramp's file does not say how long a read takes."
                if cadence is None
                else f"A read cannot take {cadence} s.",
                remedy="Give the time from one read to the next, seconds: --read-time.",
            )
        made.meta.exposure.read_interval = cadence
        times = np.tile(np.arange(1, reads + 1) * cadence, (ramps, 1))
        if ramp.hasattr("read_times"):
            times[np.isnan(ramp.read_times)] = np.nan  # a read that is missing stays so
        made.read_times = times
    if resets:
        if len(resets) != ramps:
            raise Fatal(
                f"{len(resets)} resets are given for {ramps} ramps.", remedy="Give --reset-time once for each ramp."
            )
        dates = [_date(text) for text in resets]
        made.reset_times = np.array([(date - dates[0]).total_seconds() for date in dates])
        made.meta.observation.date = f"{dates[0]:%Y-%m-%d}"
        made.meta.observation.time = dates[0].strftime("%H:%M:%S.%f")
    return made


def of_ramp(ramp: RampModel) -> ExposureReads:
    """The reads of a ramp that is in memory, with their times.

    Raises
    ------
    Fatal
        If it has no times, all are missing, or they do not increase.
    """
    shape = _shape(ramp)
    if not ramp.hasattr("read_times"):
        raise Fatal(
            "The ramp has no times of its reads.", remedy="Give the time from one read to the next: --read-time."
        )
    if np.isnan(ramp.read_times).all():
        raise Fatal(
            "All reads of the ramp are missing: none has a time.",
            remedy="Correct READTIMES, or remove it and give --read-time.",
        )
    meta = ramp.meta
    resets = ramp.reset_times if ramp.hasattr("reset_times") else np.array([0.0] + [np.nan] * (shape[0] - 1))
    ramps = tuple(_ramp(ramp, index, float(resets[index])) for index in range(shape[0]))
    foreign = meta.instrument.detector is None
    expected = meta.exposure.reads_expected or sum(len(one.times_s) for one in ramps)
    rows, columns = shape[2:]
    exposure = ExposureReads(
        ramps=ramps,
        shape=(rows, columns),
        facts=facts_of(ramp),
        crds_parameters={} if foreign else ramp.get_crds_parameters(),
        expected=int(expected),
        mode=SamplingMode(_said(meta.exposure.sampling_mode) or SamplingMode.UTR) if not foreign else SamplingMode.UTR,
        group_reads=_said(meta.exposure.group_reads) if not foreign else None,
        reset=_reset(meta.observation),
        window=_window(meta.subarray, (rows, columns)),
        guide_windows=_guide_windows(ramp),
    )
    exposure.check_times()
    return exposure


def marked(ramp: RampModel, exposure: ExposureReads) -> RampModel:
    """A ramp, and what is left out of the exposure that it holds; the reads are not copied."""
    made = RampModel({**ramp.instance, "meta": copy.deepcopy(ramp.instance["meta"])})
    ramps, reads = ramp.data.shape[:2]
    use_read, use_interval = np.zeros((ramps, reads), np.uint8), np.ones((ramps, reads - 1), np.uint8)
    for index, one in enumerate(exposure.ramps):
        present = np.flatnonzero(~np.isnan(ramp.read_times[index]))
        use_read[index, present] = one.use_read
        for used, (start, stop) in zip(one.use_interval, pairwise(present), strict=True):
            use_interval[index, start:stop] = used
    made.use_read, made.use_interval = use_read, use_interval
    return made


def to_ramp(exposure: ExposureReads) -> RampModel:
    """All reads of an exposure in one model; 0 and no time where a ramp has fewer than another.

    The frame that is made of it is the one that is made of the reads.
    """
    reads = max(len(ramp.times_s) for ramp in exposure.ramps)
    ramps = len(exposure.ramps)
    data = np.zeros((ramps, reads, *exposure.shape), np.uint16)
    times, used = np.full((ramps, reads), np.nan), np.zeros((ramps, reads), np.uint8)
    between = np.zeros((ramps, max(reads - 1, 0)), np.uint8)
    for index, ramp in enumerate(exposure.ramps):
        number = len(ramp.times_s)
        for k in range(number):
            data[index, k] = ramp.reads[k]
        times[index, :number], used[index, :number] = ramp.times_s, ramp.use_read
        between[index, : max(number - 1, 0)] = ramp.use_interval
    made = RampModel({"meta": copy.deepcopy(dict(exposure.facts))})
    made.data, made.read_times = data, times
    made.reset_times = np.array([ramp.reset_s for ramp in exposure.ramps])
    made.use_read = used
    if reads > 1:  # FITS knows no empty image
        made.use_interval = between
    made.meta.bunit_data = "DN"
    made.meta.exposure.reads_expected = exposure.expected
    for number, window in enumerate(exposure.guide_windows, 1):
        setattr(made.meta.guide_windows, f"window_{number}", window.section)
    if exposure.identity is not None:
        made.meta.filename = f"{exposure.identity}-L0-ramp.fits"
    return made


def _shape(ramp: RampModel) -> tuple[int, int, int, int]:
    """Ramps, reads, rows and columns, once all arrays of the model go together.

    Raises
    ------
    CorruptObject
        If they do not.
    """
    if np.ndim(ramp.data) != 4:
        raise CorruptObject(
            "The ramp has no image of ramps, reads, rows and columns.", remedy="Give the reads: `iris readout pack`."
        )
    ramps, reads, rows, columns = ramp.data.shape
    expected = {
        "read_times": (ramps, reads),
        "reset_times": (ramps,),
        "use_read": (ramps, reads),
        "use_interval": (ramps, reads - 1),
    }
    for name, shape in expected.items():
        if ramp.hasattr(name) and np.shape(getattr(ramp, name)) != shape:
            raise CorruptObject(
                f"The ramp's {name} are not those of {ramps} ramps of {reads} reads.",
                remedy="Pack the reads again: `iris readout pack`.",
            )
    return ramps, reads, rows, columns


def _ramp(ramp: RampModel, index: int, reset_s: float) -> RampReads:
    """A ramp without the reads that are missing from it."""
    data, times = ramp.data[index], np.asarray(ramp.read_times[index], np.float64)
    whole = RampReads.whole(data, times, reset_s)
    if ramp.hasattr("use_read"):
        whole = replace(whole, use_read=np.asarray(ramp.use_read[index]) != 0)
    if ramp.hasattr("use_interval"):
        whole = replace(whole, use_interval=np.asarray(ramp.use_interval[index]) != 0)
    present = np.flatnonzero(~np.isnan(times))
    if len(present) == len(times):
        return whole
    between = np.array([whole.use_interval[start:stop].all() for start, stop in pairwise(present)], np.bool_)
    return RampReads(data[present], times[present], reset_s, whole.use_read[present], between)


def _date(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # overflow: a zone moves it out of the calendar
        raise Fatal(
            f"{text} is no time of a reset.", remedy="Write it as --reset-time 2034-08-01T05:00:00.000 (UTC)."
        ) from error


def _said(value: Any) -> Any:
    """A value of a model, which may be a node without content."""
    return value if isinstance(value, (int, float, str)) else None


def _reset(observation: Any) -> datetime | None:
    if observation.date is None or observation.time is None:
        return None
    try:
        return datetime.fromisoformat(f"{observation.date}T{observation.time}").replace(tzinfo=UTC)
    except ValueError:
        return None


def _window(subarray: Any, shape: tuple[int, int]) -> Window | None:
    if subarray.name in (None, str(Subarray.FULL)):
        return None
    return Window.at((subarray.ystart - 1, subarray.xstart - 1), shape)


def _guide_windows(ramp: RampModel) -> tuple[Window, ...]:
    said = ramp.instance["meta"].get("guide_windows", {})
    return tuple(Window.parse(said[name]) for name in sorted(said))


def facts_of(ramp: RampModel) -> Mapping[str, Any]:
    """What a frame takes over of a ramp's metadata."""
    meta = ramp.instance["meta"]
    return {name: copy.deepcopy(meta[name]) for name in _FACTS if name in meta}
