"""A small observation: its plan, and reads whose pixels tell them apart."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.identifiers import Detector, ExposureId, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, READ_TIME_S
from irisdrs.shared.observation import ObservationPlan, PlannedExposure, Sampling

NIGHT = date(2034, 8, 1)
START = datetime(2034, 8, 1, 5, tzinfo=UTC)


def small_plan(
    exposures: int = 2,
    reads: int = 3,
    detectors: tuple[Detector, ...] = (Detector.IMG1,),
    shape: tuple[int, int] = (6, 8),
) -> ObservationPlan:
    """The plan of science exposures of one ramp."""
    return ObservationPlan(
        observation="2034B-007-123",
        night=NIGHT,
        mode=ObservingMode.IMG,
        filter="H",
        scale_arcsec=IMAGER_SCALE_ARCSEC,
        detectors=detectors,
        ra_deg=150.0,
        dec_deg=2.0,
        position_angle_deg=0.0,
        sampling=Sampling(mode=SamplingMode.UTR, reads=reads, ramps=1, read_time_s=READ_TIME_S, shape=shape),
        exposures=tuple(
            PlannedExposure(number=number, type=ExposureType.SCI, offset_arcsec=(0.0, 0.0))
            for number in range(1, exposures + 1)
        ),
        crds_context="tmt_0001.pmap",
    )


def header_of(plan: ObservationPlan, exposure: ExposureId, read: int, ramp: int = 1) -> ReadHeader:
    """Header of a read of a plan."""
    sampling = plan.sampling
    since_reset = read * sampling.read_time_s
    return ReadHeader(
        observation=plan.observation,
        detector=exposure.detector,
        exposure_type=exposure.type,
        exposure=exposure.number,
        night=plan.night,
        ramp=ramp,
        read=read,
        reads=sampling.reads,
        ramps=sampling.ramps,
        read_time_s=since_reset,
        read_interval_s=sampling.read_time_s,
        sampling_mode=sampling.mode,
        group_reads=sampling.group_reads,
        ended_at=START + timedelta(seconds=60 * exposure.number + since_reset),
        mode=plan.mode,
        filter=plan.filter,
        scale_arcsec=plan.scale_arcsec,
        grating=plan.grating,
        ra_deg=plan.ra_deg,
        dec_deg=plan.dec_deg,
        position_angle_deg=plan.position_angle_deg,
        airmass=1.1,
        shape=sampling.shape,
    )


def pixels_of(header: ReadHeader) -> NDArray[np.uint16]:
    """Pixels of a read, DN: a slope on a level that names the read."""
    rows, columns = header.shape
    name = 1000 * header.exposure + 100 * header.ramp + 10 * header.read + ord(header.detector[-1]) % 10
    return np.asarray(np.arange(rows * columns).reshape(rows, columns) % 499 + name, dtype=np.uint16)
