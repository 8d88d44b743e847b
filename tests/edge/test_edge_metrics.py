"""What the edge says of its spool."""

import asyncio
import math
from pathlib import Path

from irisdrs.shared.edge.metrics import spool_metrics, why_not_ready
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.events import ProductStored
from irisdrs.shared.store.port import ObjectRef


async def test_figures_follow_the_spool_and_a_full_one_is_not_ready(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", 2_000)
    figures = spool_metrics(spool)
    assert figures.get_sample_value("iris_spool_entries") == 0.0
    assert figures.get_sample_value("iris_spool_limit_bytes") == 2_000.0
    assert math.isnan(figures.get_sample_value("iris_spool_minutes_left") or 0.0)
    ref = ObjectRef(key="1/a.fits", sha256="a" * 64, size=1)
    waiting = [
        asyncio.create_task(spool.append(ProductStored(product_id=str(n), object=ref, catalogue_id=1)))
        for n in range(20)
    ]
    async with asyncio.timeout(20.0):
        while why_not_ready(spool) is None:
            await asyncio.sleep(0.01)
    assert (figures.get_sample_value("iris_spool_entries") or 0.0) > 0.0
    assert "is full" in str(why_not_ready(spool))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    spool.close()
