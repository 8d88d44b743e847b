"""Worker processes: what dies or hangs is replaced, and its job may be tried again."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from irisdrs.calibrate.job import Reduction
from irisdrs.calibrate.worker import MemoryRanOut, WorkerPool
from irisdrs.shared.errors import Fatal, MissingReference, Retryable


def job(what: str) -> Reduction:
    return Reduction(Path("/raw"), "raw", what, (), "tmt_0001.pmap", "0", "0", "0", Path("/out"))


@pytest.fixture
async def pool(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WorkerPool]:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # worker processes inherit it
    made = WorkerPool(1, 100, 5.0, reducer="calibrate_misbehaving:reduce")
    yield made
    await made.close()


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_worker_that_dies_is_replaced_and_the_job_may_be_tried_again(pool: WorkerPool) -> None:
    first = (await pool.reduce(job("fine"))).size
    with pytest.raises(Retryable, match=r"died .* \(exit status 11\)"):
        await pool.reduce(job("dies"))
    second = (await pool.reduce(job("fine"))).size
    assert second != first
    assert not is_running(first)


async def test_errors_come_through_with_their_type_and_remedy(pool: WorkerPool) -> None:
    with pytest.raises(MissingReference, match="no dark deliver one"):
        await pool.reduce(job("misses a reference"))
    with pytest.raises(Retryable, match="No space left"):
        await pool.reduce(job("fills the disk"))
    with pytest.raises(Fatal, match="a library's idea"):
        await pool.reduce(job("exits"))
    with pytest.raises(Fatal, match="ZeroDivisionError"):
        await pool.reduce(job("divides by zero"))
    assert (await pool.reduce(job("fine"))).size == pool.pids[0], "the same process did it all"


async def test_a_process_that_starts_slowly_is_no_job_that_hangs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "calibrate_slow_to_start.py").write_text(
        "import time\nfrom calibrate_misbehaving import reduce as reduce\ntime.sleep(3.0)\n", encoding="ascii"
    )
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.syspath_prepend(tmp_path)
    pool = WorkerPool(1, 100, 2.0, reducer="calibrate_slow_to_start:reduce")
    try:
        assert (await pool.reduce(job("fine"))).size == pool.pids[0]
    finally:
        await pool.close()


async def test_a_job_that_hangs_is_killed_and_so_is_a_cancelled_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    pool = WorkerPool(1, 100, 3.0, reducer="calibrate_misbehaving:reduce")
    try:
        await pool.reduce(job("fine"))
        hung = pool.pids[0]
        start = time.monotonic()
        with pytest.raises(Retryable, match="took longer than 3 s"):
            await pool.reduce(job("hangs"))
        assert time.monotonic() - start < 10
        assert not is_running(hung)

        waiting = asyncio.create_task(pool.reduce(job("hangs")))
        await asyncio.sleep(0.1)
        cancelled = pool.pids[0]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not is_running(cancelled)
        assert (await pool.reduce(job("fine"))).size == pool.pids[0]
    finally:
        await pool.close()


async def test_a_worker_is_recycled_after_its_jobs_and_close_ends_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    pool = WorkerPool(1, 2, 5.0, reducer="calibrate_misbehaving:reduce")
    processes = [(await pool.reduce(job("fine"))).size for _ in range(3)]
    assert processes[0] == processes[1] != processes[2]
    last = pool.pids
    await pool.close()
    assert not any(is_running(pid) for pid in last)


@pytest.mark.parametrize("what", ["takes much memory", "maps much memory", "hides that memory ran out"])
async def test_a_job_that_needs_too_much_memory_may_be_tried_again_in_a_fresh_process(
    monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    pool = WorkerPool(1, 100, 60.0, memory_mb=512, reducer="calibrate_misbehaving:reduce")
    try:
        first = (await pool.reduce(job("fine"))).size
        with pytest.raises(MemoryRanOut, match=rf"{what} .*512 MB.*IRIS_CALIBRATE_WORKER_MEMORY_MB") as caught:
            await pool.reduce(job(what))
        assert isinstance(caught.value, Retryable)
        assert pool.pids != [first], "its replacement starts at once"
        assert (await pool.reduce(job("fine"))).size == pool.pids[0]
    finally:
        await pool.close()


async def test_workers_that_nothing_waits_for_have_the_lowest_priority(
    pool: WorkerPool,
) -> None:
    idle = WorkerPool(1, 100, 60.0, idle_priority=True, reducer="calibrate_misbehaving:reduce")
    try:
        assert (await idle.reduce(job("says its priority"))).size == os.SCHED_IDLE
        assert (await pool.reduce(job("says its priority"))).size == os.SCHED_OTHER
    finally:
        await idle.close()


async def test_a_worker_computes_in_one_thread_however_many_cores_there_are(pool: WorkerPool) -> None:
    assert (await pool.reduce(job("counts its threads"))).size == 1


HOST_THAT_KILLS = """
import asyncio
from pathlib import Path
from irisdrs.calibrate.job import Reduction
from irisdrs.calibrate.worker import WorkerPool

def job(what):
    return Reduction(Path("/raw"), "raw", what, (), "tmt_0001.pmap", "0", "0", "0", Path("/out"))

async def main():
    pool = WorkerPool(1, 100, 60.0, reducer="calibrate_misbehaving:reduce")
    await pool.reduce(job("fine"))
    cancelled = asyncio.create_task(pool.reduce(job("hangs")))
    await asyncio.sleep(0.1)
    cancelled.cancel()
    await asyncio.gather(cancelled, return_exceptions=True)
    await pool.reduce(job("fine"))
    await pool.close()

asyncio.run(main())
"""


def test_workers_that_are_killed_leave_no_semaphore_behind() -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    answer = subprocess.run(
        [sys.executable, "-c", HOST_THAT_KILLS], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stderr == ""


def test_the_service_process_stays_light() -> None:
    """Composing imports neither the pipeline nor the libraries below it."""
    code = "import sys, irisdrs.calibrate.main; print([m for m in ('stpipe', 'crds', 'gwcs') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
