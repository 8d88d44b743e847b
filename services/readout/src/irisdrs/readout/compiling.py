"""Say that kernels are being compiled: it happens once on a machine, and takes longer than anything that follows."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from numba.core.event import Event, Listener, install_listener

from irisdrs.readout.cuda.compilation import COMPILES, cuda

#: What to say.
COMPILING = "Compiling the kernels, once on a machine and after an update: it takes a minute or more."


@contextmanager
def saying_so(say: Callable[[str], object]) -> Iterator[None]:
    """Within it, call `say` once when a kernel is compiled, in whatever thread; never when all are on the disk.

    Kernels of a CUDA device are kernels, too: numba-cuda has events of its own for them.
    """
    heard = _Compilation(say)
    with ExitStack() as listening:
        listening.enter_context(install_listener("numba:run_pass", heard))
        if COMPILES:
            cuda.core.event.Listener.register(_Compilation)
            listening.enter_context(cuda.core.event.install_listener("numba-cuda:run_pass", heard))
        yield


class _Compilation(Listener):
    """Hears of the passes of the compiler."""

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._said = False

    def on_start(self, event: Event) -> None:
        if not self._said:
            self._said = True
            self._say(COMPILING)

    def on_end(self, event: Event) -> None:
        """Nothing is said of the end."""
