"""The one process in which the `crds` client works on deliveries: started for the first one, kept for the next."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context, parent_process
from typing import ParamSpec, TypeVar

from irisdrs.shared.crash_points import reach
from irisdrs.shared.errors import Retryable

_P = ParamSpec("_P")
_T = TypeVar("_T")


class CrdsProcess:
    """Calls functions in a process of their own, one at a time. It is replaced when it has died."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._turn = asyncio.Lock()

    async def call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """What a function of a module gives; arguments and result are copied.

        Raises
        ------
        Retryable
            If the process died.
        Exception
            What the function raises.
        """
        async with self._turn:
            pool = self._pool or await self._start()
            try:
                return await asyncio.get_running_loop().run_in_executor(pool, _call, function, args, kwargs)
            except BrokenProcessPool as error:
                self._drop()
                raise Retryable(
                    f"The process of the crds client died at `{function.__name__}`; nothing was changed.",
                    remedy="Try again; if it dies again, look whether memory ran out.",
                ) from error
            except asyncio.CancelledError:
                self._drop()  # it may be stuck
                raise

    async def close(self) -> None:
        """End the process, and what it is at."""
        if self._turn.locked():
            self._drop()
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.to_thread(pool.shutdown)

    async def _start(self) -> ProcessPoolExecutor:
        self._pool = pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_begin)
        self._pid = await asyncio.get_running_loop().run_in_executor(pool, os.getpid)
        return pool

    def _drop(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            pool.shutdown(wait=False, cancel_futures=True)


def _begin() -> None:
    from crds.core import log  # noqa: PLC0415 - takes a second, in this process only

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C at the terminal is the command's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What the client says against a file is told as the reason of a refusal, not on the terminal.
    log.THE_LOGGER.remove_console_handler()
    logging.getLogger("CRDS").addHandler(logging.NullHandler())


def _end_with_parent() -> None:
    """A process that was killed ends no other; this one would wait for its next call for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _call(function: Callable[..., _T], args: tuple[object, ...], kwargs: dict[str, object]) -> _T:
    reach("crds.process.call")
    return function(*args, **kwargs)
