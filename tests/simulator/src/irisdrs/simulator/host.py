"""Is the system that a night would be told to the one that works on the night's folder?"""

from pathlib import Path

import httpx

from irisdrs.shared.data_lock import holder
from irisdrs.shared.errors import Fatal, Outage

#: How long a system may take to answer, seconds: it is on this machine, but may be at work.
TIMEOUT = httpx.Timeout(10.0, connect=3.0)


def check_host(url: str, data_dir: Path) -> None:
    """Make sure that a system answers and works on this folder: where it does not, it finds none of the reads.

    Raises
    ------
    Outage
        If nobody answers.
    Fatal
        If what answers is no host of this version, or works on another folder.
    """
    try:
        answer = httpx.get(f"{url}/bus/identity", timeout=TIMEOUT, trust_env=False)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Outage(
            f"Nobody answers at {url} ({error}).",
            remedy="Start the system with `iris up`, or name its address with --url.",
        ) from error
    try:
        identity = answer.raise_for_status().json()["data"]
    except (httpx.HTTPStatusError, ValueError, LookupError, TypeError) as error:
        raise Fatal(
            f"What answers at {url} is no IRIS DRS of this version.",
            remedy="Name the address that `iris up` printed with --url.",
        ) from error
    if identity != holder(data_dir):
        raise Fatal(
            f"The system at {url} works on other data than {data_dir.resolve()}, and would find none of the reads.",
            remedy="Name the folder that `iris up` printed with --data.",
        )
