"""Reads that come as files into a folder become the products of a night."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from irisdrs.shared.edge.edge import Edge
from irisdrs.shared.edge.incoming import Incoming
from irisdrs.shared.edge.progress import Progress
from irisdrs.shared.edge.spool import Spool
from irisdrs.shared.events import Event
from irisdrs.shared.store.directory import DirectoryStore
from irisdrs.simulator.night import Night, play

#: Longest wait for a night to be done, seconds: it takes a few; only a failure waits so long.
PATIENCE_S = 180.0


async def nobody_hears(_: Sequence[Event]) -> None:
    return None


async def test_files_in_a_folder_become_products(playground: Any, tmp_path: Path) -> None:
    async with playground() as ground:
        plan, bound = ground.plan, ground.system.settings.spool_max_bytes
        elsewhere = DirectoryStore(tmp_path / "elsewhere")
        async with Edge(plan, elsewhere, nobody_hears, Spool(tmp_path / "spool", bound)) as edge:
            await play(Night(plan), edge, tmp_path / "truth")
            await edge.drained()
        incoming = tmp_path / "incoming"
        incoming.mkdir()
        reads = [key for key in await elsewhere.keys("0/") if key.endswith(".fits")]
        for key in reads:
            shutil.copy(tmp_path / "elsewhere" / key, incoming / key.replace("/", "-"))

        async with ground.edge() as edge:
            await edge.meanwhile(Incoming(incoming, edge, Progress(plan), threads=2).take_all())
            await edge.drained()
        assert list(incoming.iterdir()) == []
        async with asyncio.timeout(PATIENCE_S):
            while (await ground.verdict()).lost:
                await asyncio.sleep(0.1)
        await ground.system.bus.quiet()
        assert not (await ground.verdict()).duplicated
        assert await ground.parked() == {}
        for key in reads:
            assert (ground.system.settings.store_dir / key).read_bytes() == (tmp_path / "elsewhere" / key).read_bytes()
