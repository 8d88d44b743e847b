"""Nights in the sampling modes that version 1 of the events does not know, from the detector to the archive."""

import asyncio
import io
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from tests.flow.test_flow_night import until_complete

from irisdrs.shared.identifiers import Detector, SamplingMode
from irisdrs.shared.observation import ObservationPlan
from irisdrs.shared.settings import HostSettings
from irisdrs.shared.store.port import ObjectRef
from irisdrs.simulator.demo import prepare_references
from irisdrs.simulator.ledger import current_products
from irisdrs.simulator.night import plan_observation
from irisdrs.simulator.report import TOLERATED_ERROR, measure_image


def plan_of(data: Path, size: int, reads: int, mode: SamplingMode, group_reads: int) -> ObservationPlan:
    """A night of one science exposure and one sky, with references of its own."""
    draft = plan_observation(
        night=date(2034, 8, 1),
        crds_context="",
        size=size,
        reads=reads,
        science=1,
        sampling=mode,
        group_reads=group_reads,
        detectors=(Detector.IMG1,),
    )
    context = prepare_references(draft, HostSettings(data_dir=data).crds_dir, 0)
    return draft.model_copy(update={"crds_context": context})


async def file_of(ground: Any, level: int) -> tuple[str, bytes]:
    """Exposure and file of the science exposure's product of a level."""
    rows = await current_products(ground.client, ground.plan)
    (row,) = (row for row in rows if (row["level"], row["exposure_type"]) == (level, "SCI"))
    stored = ObjectRef.model_validate({name: row[name] for name in ("key", "sha256", "size")})
    return str(row["product_id"]).rpartition("-L")[0], await ground.system.platform.store.get(stored)


async def test_a_night_in_groups_has_the_stars_fluxes(playground: Any, tmp_path: Path) -> None:
    plan = await asyncio.to_thread(plan_of, tmp_path / "data", 512, 8, SamplingMode.MCDS, 3)
    async with playground(plan=plan) as ground:
        await ground.play(ground.edge())
        await until_complete(ground)
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}
        _, raw = await file_of(ground, 1)
        exposure, image = await file_of(ground, 2)
    for data in (raw, image):
        with fits.open(io.BytesIO(data)) as hdus:
            assert (hdus[0].header["SAMPMODE"], hdus[0].header["GRPREADS"]) == ("MCDS", 3)
    path = tmp_path / "image.fits"
    path.write_bytes(image)
    measured = await asyncio.to_thread(measure_image, path, tmp_path / "data" / "truth" / f"{exposure}.ecsv")
    assert measured.stars >= 5
    assert abs(measured.flux_error_median) < TOLERATED_ERROR


async def test_a_night_of_single_reads_ends_in_the_archive(playground: Any, tmp_path: Path) -> None:
    plan = await asyncio.to_thread(plan_of, tmp_path / "data", 64, 1, SamplingMode.SINGLE, 1)
    async with playground(plan=plan) as ground:
        await ground.play(ground.edge())
        await until_complete(ground)
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}
        _, image = await file_of(ground, 2)
    with fits.open(io.BytesIO(image)) as hdus:
        assert (hdus[0].header["SAMPMODE"], hdus[0].header["NUMREADS"]) == ("SINGLE", 1)
        assert np.isfinite(hdus["SCI"].data).all()


@pytest.mark.parametrize("mode", [SamplingMode.MCDS, SamplingMode.SINGLE])
async def test_a_system_that_was_down_takes_up_such_a_night_from_the_store(
    playground: Any, tmp_path: Path, mode: SamplingMode
) -> None:
    async def nobody_hears(_: object) -> None:
        return None

    reads = 1 if mode is SamplingMode.SINGLE else 4
    plan = await asyncio.to_thread(plan_of, tmp_path / "data", 64, reads, mode, max(reads // 2, 1))
    async with playground(plan=plan) as ground:
        await ground.play(ground.edge(nobody_hears))
        assert await ground.products() == {}
    async with playground(plan=plan) as ground:  # reconciles at its start
        await until_complete(ground)
        assert await ground.parked() == {}
