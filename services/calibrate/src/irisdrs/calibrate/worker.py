"""Worker processes that reduce frames: pre-imported, one job at a time, replaced when they die, hang, fill or grow old.

The pipeline's libraries keep state in module globals (log handlers, log levels), and a crash of compiled code takes
its process with it: so each job runs in a process of its own pool, never in the service's.
"""

import asyncio
import contextlib
import errno
import functools
import gc
import importlib
import os
import resource
import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context, set_start_method
from multiprocessing.connection import Connection, wait
from pathlib import Path

import structlog

from irisdrs.calibrate.job import Reduced, Reduction
from irisdrs.shared.errors import Fatal, IrisError, Retryable

_log = structlog.get_logger(__name__)

#: How long a worker that was told to end may take, seconds; it has nothing to save.
STOP_TIMEOUT_S = 2.0

#: How long a process may take to import the pipeline, seconds: it takes 5, and 30 on a machine with too much to do.
START_TIMEOUT_S = 120.0

#: Most memory that a worker may take, 2**20 bytes: 2.5 times what it takes at 4096 x 4096, so that it stops what is
#: wrong and nothing else.
MEMORY_MB = 4096


class MemoryRanOut(Retryable):
    """A job needed more memory than its process may take, or than the machine has."""


class WorkerPool:
    """A fixed number of worker processes; starts them at once, so that the first frame finds them warm.

    Parameters
    ----------
    workers : int
        Processes.
    recycle_after : int
        Jobs after which a process is replaced: bounds what slow leaks can hold.
    hard_timeout_s : float
        A job that takes longer is killed with its process, seconds.
    memory_mb : int
        Most memory that a process may take, 2**20 bytes.
    idle_priority : bool
        Whether the processes compute only when nothing else wants to.
    reducer : str
        ``module:function`` that the processes import and call; tests put in one that misbehaves.
    """

    def __init__(
        self,
        workers: int,
        recycle_after: int,
        hard_timeout_s: float,
        *,
        memory_mb: int = MEMORY_MB,
        idle_priority: bool = False,
        reducer: str = "irisdrs.calibrate.reduction:reduce",
    ) -> None:
        # A worker computes in one thread. For each core OpenBLAS would start one more as soon as it is imported, and
        # take 40 MB for it: with 64 cores nothing would be left of the limit. Processes inherit it from here.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        self._recycle_after = recycle_after
        self._hard_timeout_s = hard_timeout_s
        self._start = functools.partial(_Worker, reducer, memory_mb, idle_priority=idle_priority)
        self._idle: asyncio.LifoQueue[_Worker] = asyncio.LifoQueue()
        self._workers = {self._start() for _ in range(workers)}
        for worker in self._workers:
            self._idle.put_nowait(worker)

    async def reduce(self, job: Reduction) -> Reduced:
        """Run one job in the next free process.

        Raises
        ------
        Retryable
            If the process died, ran out of memory or exceeded the hard timeout; its replacement is already starting.
        IrisError
            What the job itself raised.
        """
        worker = await self._idle.get()
        try:
            if not worker.alive:
                worker = self._replace(worker)
            return await asyncio.to_thread(worker.run, job, self._hard_timeout_s)
        except asyncio.CancelledError:
            worker.kill()  # wakes the thread, too
            raise
        finally:
            self._idle.put_nowait(self._renewed(worker))

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        return sorted(worker.pid for worker in self._workers)

    async def close(self) -> None:
        """End all processes; a running job is lost, its event comes again."""
        await asyncio.gather(*(asyncio.to_thread(worker.stop) for worker in self._workers))

    def _renewed(self, worker: "_Worker") -> "_Worker":
        """The worker if it can go on, else one that starts now, so that the next job finds it warm."""
        if worker.alive and worker.jobs < self._recycle_after:
            return worker
        try:
            return self._replace(worker)
        except OSError as error:
            _log.warning("cannot start a worker process, will try again at the next job", problem=str(error))
            return worker

    def _replace(self, worker: "_Worker") -> "_Worker":
        fresh = self._start()
        self._workers.remove(worker)
        self._workers.add(fresh)
        worker.dismiss()
        return fresh


class _Worker:
    """One process and the connection to it."""

    def __init__(self, reducer: str, memory_mb: int, *, idle_priority: bool) -> None:
        context = get_context("spawn")
        self._connection, theirs = context.Pipe()
        life = (theirs, reducer, memory_mb, idle_priority)
        self._process = context.Process(target=_serve, args=life, name="iris-calibrate", daemon=True)
        self._process.start()
        theirs.close()
        self.jobs = 0
        self._warm = False
        # Two threads may wait for one process; `is_alive` says True to the one that comes second for a moment.
        self._condemned = False

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    @property
    def alive(self) -> bool:
        return not self._condemned and self._process.is_alive()

    def run(self, job: Reduction, timeout_s: float) -> Reduced:
        """Do a job; blocks."""
        self.jobs += 1
        try:
            self._warm_up()
            self._connection.send(job)
            if not wait([self._connection, self._process.sentinel], timeout_s):
                self.kill()
                raise Retryable(
                    f"The reduction of {job.product_id} took longer than {timeout_s:g} s and was killed.",
                    remedy="Is the machine overloaded? Else raise IRIS_CALIBRATE_HARD_TIMEOUT_S.",
                )
            answer: Reduced | IrisError = self._connection.recv()
        except (EOFError, OSError) as error:
            self._condemned = True
            self._process.join(STOP_TIMEOUT_S)
            raise Retryable(
                f"The worker process died while it reduced {job.product_id} (exit status {self._process.exitcode}).",
                remedy="Status -9 often means that memory ran out: use fewer workers.",
            ) from error
        if isinstance(answer, MemoryRanOut):
            self._condemned = True  # who knows what the job has left behind
        if isinstance(answer, IrisError):
            raise answer
        return answer

    def _warm_up(self) -> None:
        """Wait until the process has imported what it needs; no job's time runs meanwhile."""
        if self._warm:
            return
        if not wait([self._connection, self._process.sentinel], START_TIMEOUT_S):
            self.kill()
            raise Retryable(
                f"A worker process was not ready after {START_TIMEOUT_S:g} s and was killed.",
                remedy="Is the machine overloaded? Use fewer workers.",
            )
        self._connection.recv()
        self._warm = True

    def kill(self) -> None:
        self._condemned = True
        self._process.kill()
        self._process.join(STOP_TIMEOUT_S)

    def dismiss(self) -> None:
        """Let the process end by itself: it finds the connection closed."""
        self._connection.close()

    def stop(self) -> None:
        """End the process and wait for it."""
        self._process.terminate()
        self._process.join(STOP_TIMEOUT_S)
        if self.alive:
            self.kill()
        self._connection.close()


def _serve(connection: Connection, reducer: str, memory_mb: int, idle_priority: bool) -> None:
    """Life of a worker process: import, then one job after the other until the connection closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the service's to handle
    if idle_priority:
        _give_way()
    # The worker starts no process. But locks that libraries make when they are imported would, under "spawn", lie in
    # the system by name until this process ends by itself; under "fork" they have no name, and a kill leaves nothing.
    set_start_method("fork", force=True)
    module, _, function = reducer.partition(":")
    reduce: Callable[[Reduction], Reduced] = getattr(importlib.import_module(module), function)
    _limit_memory(memory_mb)
    connection.send(None)  # warm
    while True:
        # What lives now lives as long as the process: modules, schemas, caches. stpipe collects garbage at each step,
        # which took a quarter to a third of a job of 1024 x 1024 with them in it. Nobody waits for it here.
        gc.collect()
        gc.freeze()
        try:
            job: Reduction = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(reduce, job, memory_mb))


def _give_way() -> None:
    """Compute only when nothing else on the machine wants to."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    # Linux shares a processor among sessions first (autogroups, sched(7)) and heeds priorities only inside of one: an
    # idle process that is alone in its session would get as much as a busy one in another. So it gets a session of its
    # own, the least that there is. Between containers it is their share of the processor that counts instead.
    os.setsid()
    with contextlib.suppress(OSError):  # a kernel without autogroups, or a container that may not write there
        Path("/proc/self/autogroup").write_text("19", encoding="ascii")


def _limit_memory(memory_mb: int) -> None:
    """Let what this process allocates beyond a limit fail, so that the job hears of it and the machine lives on.

    RLIMIT_DATA counts what a process can write to and shares with nobody: heap, arrays, stacks of threads. That is
    what fills the machine. RLIMIT_AS would count address space as well that costs no memory: files mapped for
    reading, libraries, what allocators reserve and may never use.
    """
    limit, (_, hard) = memory_mb << 20, resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))


def _attempt(reduce: Callable[[Reduction], Reduced], job: Reduction, memory_mb: int) -> Reduced | IrisError:
    """Result of a job, or its error as one that crosses the process boundary and says whether to try again."""
    try:
        return reduce(job)
    except BaseException as error:  # noqa: BLE001 - libraries below end with SystemExit, which must not end the worker
        if _memory_ran_out(error):
            return MemoryRanOut(
                f"The reduction of {job.product_id} needs more memory than the {memory_mb} MB that a worker may take, "
                f"or than the machine has: {error!r}.",
                remedy="Raise IRIS_CALIBRATE_WORKER_MEMORY_MB if the machine has more, else use fewer workers.",
            )
        if isinstance(error, IrisError):
            return error
        if isinstance(error, OSError):
            return Retryable(f"The reduction of {job.product_id} ran out of resources: {error!r}.")
        return Fatal(f"The reduction of {job.product_id} failed: {error!r}.\n{traceback.format_exc()}")


def _memory_ran_out(error: BaseException | None) -> bool:
    """Whether want of memory is behind an error: libraries answer it with errors of their own that blame the file."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
            return True
        error = error.__cause__ or error.__context__
    return False
