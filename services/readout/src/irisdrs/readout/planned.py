"""Whether a read says of itself what its observation and its exposure were announced with. No pixels, no I/O."""

import math
from collections.abc import Mapping
from datetime import date

from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.errors import CorruptObject
from irisdrs.shared.observation import ObservationPlan, Sampling

#: A read that says that it ended so many times later than the whole ramp was planned to take has no time: detectors
#: may pause, but the exposure's deadline comes before that, and such a time would shut out all reads after it.
LATEST = 3.0

#: Relative difference of two times that are meant to be the same, seconds: what a FITS card keeps, and more.
_TOLERANCE = 1e-6

#: A ramp that says that it began so many days before or after the UT date of its night, or more, has no time: nights
#: cross midnight, and calibrations are taken by day.
_DAYS_APART = 3


def check_planned(header: ReadHeader, night: date, sampling: Sampling) -> None:
    """Compare a read's header with what its exposure was announced with.

    The first read that is used decides references and night of the frame: one that lies must not cost the others.

    Parameters
    ----------
    header : ReadHeader
    night : date
        Of the exposure, as UT date: a frame of another night would never be found again.
    sampling : Sampling
        Of the exposure.

    Raises
    ------
    CorruptObject
        If they do not agree, or the header says what cannot be.
    """
    if wrong := _differences(header, night, sampling) or _impossible(header, night, sampling):
        raise CorruptObject(
            f"{header.read_id} is not as its exposure was announced: {'; '.join(wrong)}.",
            remedy="Look at its header, or at the plan of the observation.",
        )


def check_configured(header: ReadHeader, plan: ObservationPlan) -> None:
    """Compare a read's header with the configuration that its observation was announced with.

    Parameters
    ----------
    header : ReadHeader
    plan : ObservationPlan
        Of the observation.

    Raises
    ------
    CorruptObject
        If they do not agree.
    """
    planned = {
        "OBSMODE": (header.mode, plan.mode),
        "FILTER": (header.filter, plan.filter),
        "IFSRES": (header.grating, plan.grating),
    }
    wrong = _unlike(planned)
    if not math.isclose(header.scale_arcsec, plan.scale_arcsec, rel_tol=_TOLERANCE):
        wrong.append(f"IFSSCALE is {header.scale_arcsec} arcsec, announced was {plan.scale_arcsec} arcsec")
    if wrong:
        raise CorruptObject(
            f"{header.read_id} is not as its observation was announced: {'; '.join(wrong)}.",
            remedy="Look at its header, or at the plan of the observation.",
        )


def _differences(header: ReadHeader, night: date, sampling: Sampling) -> list[str]:
    planned = {
        "NIGHT": (header.night, night),
        "SAMPMODE": (header.sampling_mode, sampling.mode),
        "NUMREADS": (header.reads, sampling.reads),
        "NUMRAMPS": (header.ramps, sampling.ramps),
        "GRPREADS": (header.group_reads, sampling.group_reads),
    }
    wrong = _unlike(planned)
    if not math.isclose(header.read_interval_s, sampling.read_time_s, rel_tol=_TOLERANCE):
        wrong.append(f"READTIME is {header.read_interval_s} s, announced was {sampling.read_time_s} s")
    return wrong


def _unlike(planned: Mapping[str, tuple[object, object]]) -> list[str]:
    return [f"{name} is {said}, announced was {value}" for name, (said, value) in planned.items() if said != value]


def _impossible(header: ReadHeader, night: date, sampling: Sampling) -> list[str]:
    if header.read_time_s > LATEST * sampling.ramp_time_s:
        return [f"RDENDT is {header.read_time_s} s, and a ramp takes {sampling.ramp_time_s} s"]
    try:
        began = header.started_at.date()
    except OverflowError:
        return [f"there is no time RDENDT before DATE-END {header.ended_at.isoformat()}"]
    return [f"its ramp began on {began}"] if abs((began - night).days) >= _DAYS_APART else []
