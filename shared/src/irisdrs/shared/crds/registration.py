"""Make the unforked `crds` client know the observatory ``tmt``.

The client looks for observatory packages below its own name and in one list. Both can be extended in place, so no fork
and no write into the installed package is needed.
"""

import os
from pathlib import Path

#: The client contacts no server under an address that contains ``serverless`` (crds.client.proxy).
SERVERLESS_URL = "https://crds-serverless-mode.stsci.edu"
OBSERVATORY = "tmt"

_PACKAGES = str(Path(__file__).parent / "observatory")


def register() -> None:
    """Teach the `crds` client of this process the observatory ``tmt``. Doing it twice changes nothing.

    Environment variables that the user did not set and that the client reads when it is first imported or used get
    the values of an offline client: ``CRDS_SERVER_URL`` (no server), ``CRDS_OBSERVATORY`` and ``CRDS_MODE`` (rules are
    evaluated here). ``CRDS_PATH`` is left alone: only a process that asks the client itself for files needs it, see
    `client_environment`.
    """
    for name, value in _offline().items():
        os.environ.setdefault(name, value)
    # Importing crds reads the environment, and takes a second: neither may happen at import of this module.
    import crds  # noqa: PLC0415
    from crds.core import constants  # noqa: PLC0415

    if _PACKAGES not in crds.__path__:
        crds.__path__.append(_PACKAGES)
    if OBSERVATORY not in constants.ALL_OBSERVATORIES:
        # In place: other modules of the client hold the same list.
        constants.ALL_OBSERVATORIES.append(OBSERVATORY)


def client_environment(cache: Path) -> dict[str, str]:
    """Environment variables under which the `crds` client answers from a local cache, and never writes into it.

    Parameters
    ----------
    cache : Path
        CRDS cache (``config/``, ``mappings/``, ``references/``), as `build_context` makes it.
    """
    return {**_offline(), "CRDS_PATH": str(cache.absolute()), "CRDS_READONLY_CACHE": "1"}


def _offline() -> dict[str, str]:
    return {"CRDS_SERVER_URL": SERVERLESS_URL, "CRDS_OBSERVATORY": OBSERVATORY, "CRDS_MODE": "local"}
