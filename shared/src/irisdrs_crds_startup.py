"""Teaches the `crds` client of every Python process the observatory ``tmt``, when ``CRDS_OBSERVATORY`` is ``tmt``.

The command `crds` runs ``python -m crds.NAME`` in a process of its own, in which nobody calls
`irisdrs.shared.crds.register`. The installed ``irisdrs_crds.pth`` imports this module at the start of every
interpreter, so it must cost next to nothing: it puts a finder before all others, which waits for the first import of
`crds`, steps aside, and registers the observatory when `crds` is there. Without ``CRDS_OBSERVATORY=tmt`` it does not
even do that: who works for another observatory in the same environment keeps the client as it is.
"""

import os
import sys


class _Finder:
    """Finds `crds` once, as it would have been found anyway, and lets it be executed with an epilogue."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):  # type: ignore[no-untyped-def]  # importing `typing` costs 5 ms
        if name != "crds":
            return None
        sys.meta_path.remove(cls)
        from importlib.util import find_spec  # noqa: PLC0415

        spec = find_spec(name)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):  # type: ignore[no-untyped-def]
                execute(module)
                from irisdrs.shared.crds.registration import register  # noqa: PLC0415

                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


if os.environ.get("CRDS_OBSERVATORY") == "tmt":
    sys.meta_path.insert(0, _Finder)
