"""A night at the telescope: an observation of dithered science and sky, played read by read."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from irisdrs.shared.data.read_header import ReadHeader
from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.identifiers import IMAGER_DETECTORS, Detector, ExposureId, ExposureType, ObservingMode, SamplingMode
from irisdrs.shared.instrument import IMAGER_SCALE_ARCSEC, READ_TIME_S
from irisdrs.shared.observation import ObservationPlan, PlannedExposure, Sampling
from irisdrs.simulator.detector import DetectorTruth
from irisdrs.simulator.exposure import Read, Scene, electron_rate, expose, true_pointing
from irisdrs.simulator.projection import Pointing
from irisdrs.simulator.sky import star_field
from irisdrs.simulator.truth import truth_table, write_truth

#: Dithers of the science exposures, East and North, arcsec: larger than the pointing error, smaller than a detector.
DITHERS_ARCSEC = ((0.0, 0.0), (0.6, 0.4), (-0.5, 0.7), (0.3, -0.6), (-0.7, -0.3))
#: Where the sky is taken, arcsec from the target: outside of the star field.
SKY_OFFSET_ARCSEC = (60.0, 0.0)
#: Where the target of the simulated observation lies, ICRS degrees: within reach from Maunakea all autumn.
TARGET = Pointing(150.1163, 2.2058, 0.0)
#: Airmass of all exposures; the sky model does not depend on it.
AIRMASS = 1.1
#: How long after its planned end an exposure is given up, seconds: simulated reads may come slower than real ones.
MARGIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Night:
    """What is played.

    Attributes
    ----------
    plan : ObservationPlan
    seed : int
        Of stars, detectors and noise.
    clock : callable, optional
        Tells the time (UTC) at which a read ends; without it the times are those of the plan, from midnight on, so
        that the same night gives the same bytes.
    """

    plan: ObservationPlan
    seed: int = 0
    clock: Callable[[], datetime] | None = None


def plan_observation(
    *,
    night: date,
    crds_context: str,
    size: int,
    reads: int = 8,
    science: int = 2,
    sky: int = 1,
    filter_name: str = "H",
    sampling: SamplingMode = SamplingMode.UTR,
    group_reads: int = 1,
    detectors: tuple[Detector, ...] = IMAGER_DETECTORS,
    observation: str = "2034B-007-123",
) -> ObservationPlan:
    """Plan dithered science exposures and sky exposures of the imager."""
    types = [ExposureType.SCI] * science + [ExposureType.SKY] * sky
    offsets = [DITHERS_ARCSEC[n % len(DITHERS_ARCSEC)] for n in range(science)] + [SKY_OFFSET_ARCSEC] * sky
    return ObservationPlan(
        observation=observation,
        night=night,
        mode=ObservingMode.IMG,
        filter=filter_name,
        scale_arcsec=IMAGER_SCALE_ARCSEC,
        detectors=detectors,
        ra_deg=TARGET.ra_deg,
        dec_deg=TARGET.dec_deg,
        position_angle_deg=TARGET.position_angle_deg,
        sampling=Sampling(
            mode=sampling,
            reads=reads,
            ramps=1,
            read_time_s=READ_TIME_S,
            shape=(size, size),
            group_reads=group_reads,
        ),
        exposures=tuple(
            PlannedExposure(number=number, type=kind, offset_arcsec=offset)
            for number, (kind, offset) in enumerate(zip(types, offsets, strict=True), start=1)
        ),
        crds_context=crds_context,
    )


async def play(night: Night, edge: Edge, truth_dir: Path) -> None:
    """Play a night: every detector of every exposure, one after another, read by read.

    Detectors take turns, unlike real ones, so that the simulator needs the memory of one.
    """
    truth_dir.mkdir(parents=True, exist_ok=True)
    await edge.start_observation()
    for planned in night.plan.exposures:
        for detector in night.plan.detectors:
            exposure = ExposureId(night.plan.observation, detector, planned.type, planned.number)
            await _play_exposure(night, edge, planned, exposure, truth_dir)
    await edge.end_observation()


def commanded_pointing(plan: ObservationPlan, planned: PlannedExposure) -> Pointing:
    """Where the headers say that the instrument axis points."""
    return Pointing(plan.ra_deg, plan.dec_deg, plan.position_angle_deg).offset(*planned.offset_arcsec)


async def _play_exposure(
    night: Night, edge: Edge, planned: PlannedExposure, exposure: ExposureId, truth_dir: Path
) -> None:
    plan = night.plan
    pointing = commanded_pointing(plan, planned)
    target = Pointing(plan.ra_deg, plan.dec_deg, plan.position_angle_deg)
    scene = Scene(
        star_field(night.seed, target),
        true_pointing(pointing, night.seed, plan.observation, planned.number),
        plan.filter,
    )
    truth = DetectorTruth(exposure.detector, plan.sampling.shape, night.seed)
    planned_start = _planned_start(plan, planned)
    started = night.clock() if night.clock else planned_start
    due = started + timedelta(seconds=plan.sampling.ramps * plan.sampling.ramp_time_s + MARGIN_S)
    await edge.start_exposure(exposure, max(due, datetime.now(UTC) + timedelta(seconds=MARGIN_S)))
    table = await asyncio.to_thread(truth_table, truth, scene, plan.sampling.ramp_time_s)
    write_truth(table, truth_dir / f"{exposure}.ecsv")
    rate = await asyncio.to_thread(electron_rate, truth, scene)
    reads = expose(truth, rate, plan.sampling, exposure, night.seed)
    writing: asyncio.Task[object] | None = None
    while (read := await asyncio.to_thread(_next, reads)) is not None:
        header = _header(night, pointing, exposure, read, planned_start)
        if writing is not None:
            await writing
        writing = asyncio.create_task(edge.write_read(read.pixels, header))  # while the next one is exposed
    if writing is not None:
        await writing
    await edge.end_exposure(exposure)


def _next(reads: Iterator[Read]) -> Read | None:
    return next(reads, None)


def _planned_start(plan: ObservationPlan, planned: PlannedExposure) -> datetime:
    midnight = datetime(plan.night.year, plan.night.month, plan.night.day, tzinfo=UTC)
    overhead_s = 30.0  # between two exposures: dither, settle
    each = plan.sampling.ramps * plan.sampling.ramp_time_s + overhead_s
    return midnight + timedelta(seconds=each * [e.number for e in plan.exposures].index(planned.number))


def _header(night: Night, pointing: Pointing, exposure: ExposureId, read: Read, planned_start: datetime) -> ReadHeader:
    plan, sampling = night.plan, night.plan.sampling
    since_reset = read.read * sampling.read_time_s
    planned_end = planned_start + timedelta(seconds=(read.ramp - 1) * sampling.ramp_time_s + since_reset)
    return ReadHeader(
        observation=plan.observation,
        detector=exposure.detector,
        exposure_type=exposure.type,
        exposure=exposure.number,
        night=plan.night,
        ramp=read.ramp,
        read=read.read,
        reads=sampling.reads,
        ramps=sampling.ramps,
        read_time_s=since_reset,
        read_interval_s=sampling.read_time_s,
        sampling_mode=sampling.mode,
        group_reads=sampling.group_reads,
        ended_at=night.clock() if night.clock else planned_end,
        mode=plan.mode,
        filter=plan.filter,
        scale_arcsec=plan.scale_arcsec,
        grating=plan.grating,
        ra_deg=pointing.ra_deg % 360.0,
        dec_deg=pointing.dec_deg,
        position_angle_deg=pointing.position_angle_deg,
        airmass=AIRMASS,
        shape=sampling.shape,
    )
