"""Say that kernels are being compiled: it happens once on a machine, and takes longer than anything that follows."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from numba.core.event import Event, Listener, install_listener

#: What to say.
COMPILING = "Compiling the kernels, once on a machine and after an update: it takes a minute or more."


def saying_so(say: Callable[[str], object]) -> AbstractContextManager[object]:
    """Within it, call `say` once when a kernel is compiled, in whatever thread; never when all are on the disk."""
    made: AbstractContextManager[object] = install_listener("numba:run_pass", _Compilation(say))
    return made


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
