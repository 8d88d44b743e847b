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

    What the user did not set in the environment is set for an offline client: ``CRDS_SERVER_URL`` (no server) and
    ``CRDS_OBSERVATORY``. The client's full garbage collection after every header is switched off: it costs more than
    reading the header. ``CRDS_PATH`` is left alone: only a process that asks the client itself for files needs it, see
    `client_environment`.
    """
    # Importing crds takes most of a second, so it does not happen at import of this module.
    import crds  # noqa: PLC0415
    from crds.core import config, constants  # noqa: PLC0415

    os.environ.setdefault("CRDS_SERVER_URL", SERVERLESS_URL)
    if os.environ.get("CRDS_OBSERVATORY") in {None, "None", "none"}:  # what the client writes where nothing was set
        os.environ["CRDS_OBSERVATORY"] = OBSERVATORY
    config.EXPLICIT_GARBAGE_COLLECTION.set(False)
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
    return {
        "CRDS_PATH": str(cache.absolute()),
        "CRDS_SERVER_URL": SERVERLESS_URL,
        "CRDS_OBSERVATORY": OBSERVATORY,
        "CRDS_MODE": "local",
        "CRDS_READONLY_CACHE": "1",
    }
